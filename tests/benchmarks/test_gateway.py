"""The gateway's benchmark: rounds in, the table and the goals out."""

from __future__ import annotations

from typing import Any

from benchmarks.gateway.load import Figures, last_line
from benchmarks.gateway.table import goals, table

USUAL = Figures(
    per_second=1000,
    cpu_us=50,
    alone_p50_us=100,
    alone_p99_us=200,
    eight_p50_us=300,
    eight_p99_us=400,
    one_core_p50_us=60,
    first_us=150,
    chunk_cpu_us=10,
    rss_bytes=40_000_000,
    errors=0,
    ready_seconds=0.3,
)
DIRECT = Figures(
    per_second=100_000,
    cpu_us=2.5,
    alone_p50_us=10,
    alone_p99_us=20,
    eight_p50_us=30,
    eight_p99_us=40,
    one_core_p50_us=10,
    first_us=15,
    chunk_cpu_us=4,
    rss_bytes=2_000_000,
    errors=0,
)
PEERS = ("gpuctl", "nginx", "vllm-router rr", "vllm-router p2c", "litellm")


def figures(**fields: Any) -> Figures:
    return Figures(**{name: getattr(USUAL, name) for name in Figures.__slots__} | fields)


def rounds(*cpu_us: float) -> list[dict[str, Figures]]:
    """Return rounds of all proxies, alike but for gpuctl's CPU."""
    return [
        {"direct": DIRECT, **dict.fromkeys(PEERS, USUAL), "gpuctl": figures(cpu_us=each)}
        for each in cpu_us
    ]


def test_what_a_proxy_adds_is_its_time_less_that_of_none() -> None:
    """The row of no proxy is absolute."""
    shown = table([{"direct": DIRECT, "nginx": USUAL}]).splitlines()

    assert shown[0].startswith("|  | req/s c=64 | CPU µs/req | +p50 c=1 µs |")
    assert shown[2:] == [
        "| direct | 100,000 | 2.5 | 10 | 20 | 30 | 40 | 10 | 15 | 4.0 | 2 | 0.00 | 0 |",
        "| nginx | 1,000 | 50.0 | 90 | 180 | 270 | 360 | 50 | 135 | 10.0 | 40 | 0.30 | 0 |",
    ]


def test_a_goal_goes_by_the_median_of_the_rounds_ratios() -> None:
    """One round in which the machine was busy decides nothing."""
    said = list(goals(rounds(20, 25, 400), {}))

    assert said[:2] == [
        "met: CPU per request, × vllm-router ≤ 0.55: 0.5",
        "met: CPU per request, × nginx ≤ 2.5: 0.5",
    ]


def test_a_goal_is_missed_by_the_worse_of_two_policies() -> None:
    """Both of vllm-router's are in the table, and the better one counts."""
    each = rounds(30)[0] | {"vllm-router p2c": figures(cpu_us=100, per_second=400)}

    said = [line for line in goals([each], {}) if "vllm-router" in line]

    assert said == [
        "not met: CPU per request, × vllm-router ≤ 0.55: 0.6",
        "not met: throughput, × vllm-router ≥ 2: 1",
        "not met: CPU per chunk, × vllm-router ≤ 0.9: 1",
    ]


def test_a_peer_that_did_not_run_is_named() -> None:
    """Its goals are neither met nor not."""
    each = rounds(30)[0]
    del each["litellm"]

    said = [line for line in goals([each], {}) if "LiteLLM" in line]

    assert said == ["not measured: throughput, × LiteLLM ≥ 250 (litellm did not run)"]


def test_a_peer_that_did_nothing_is_infinitely_far() -> None:
    """A round may be too short for one answer of LiteLLM's."""
    each = rounds(30)[0] | {"litellm": figures(per_second=0)}

    said = [line for line in goals([each], {}) if "LiteLLM" in line]

    assert said == ["met: throughput, × LiteLLM ≥ 250: inf"]


def test_what_is_timed_in_process_is_a_goal_too() -> None:
    """Queue and gate cost less than a millisecond each, by their 99th percentile."""
    said = list(goals(rounds(30), {"gate": (0.2, 0.5), "queue": (5.0, 1500.0)}))

    assert said[-2:] == ["met: gate < 1 ms: 0.001 (p99)", "not met: queue < 1 ms: 1.500 (p99)"]


def test_a_program_says_its_figures_in_its_last_line() -> None:
    """wrk prints a report of its own before it."""
    said = 'Running 2s test\n  1 threads\n{"requests": 5, "p50_us": 7.5}\n'

    assert last_line(said) == {"requests": 5, "p50_us": 7.5}
