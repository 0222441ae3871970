"""The gateway's metrics: what is counted of a request, and the text that Prometheus gets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpuctl.gateway.gauges import Gauges, ReplicaGauges
from gpuctl.gateway.metrics import Metrics
from gpuctl.gateway.record import Record
from tests.gateway.records import record as recorded

CHAT = '{endpoint="/v1/chat/completions",model="chat"}'
NOW = Gauges(version="1.2.3", started_at=1_750_000_000.5)
FULL = Gauges(
    version="1.2.3",
    started_at=1_750_000_000.5,
    compiled=True,
    draining=True,
    replicas=(
        ReplicaGauges(name="chat-1", model="chat", gate="half_open", gate_opens=2, in_flight=1),
        ReplicaGauges(
            name="chat-0", model="chat", gate="closed", gate_opens=0, slots=4, weight=0.5,
            kv_ratio=0.25,
        ),
    ),
    in_flight=1,
    queue_depths={10: 0, 5: 3},
    queue_size=100,
    connections=7,
    retries_refused=4,
    lines_dropped=5,
    loop_lag_seconds=0.001,
    shutdown_seconds=1.5,
    status_at=1_750_000_001.0,
    resident_bytes=30_000_000,
    open_fds=12,
)  # fmt: skip


def record(**fields: Any) -> Record:
    """A streamed chat of 11 tokens: first byte after 1 s, all of it after 3 s."""
    usual: dict[str, Any] = {
        "id": "r-1", "at": 0.0, "began": 0.0, "endpoint": "/v1/chat/completions", "model": "chat",
        "stream": True, "status": 200, "end": "answered", "replica": "chat-0", "attempts": 1,
        "request_bytes": 300, "response_bytes": 5000, "queued_seconds": 0.8,
        "first_byte_seconds": 1.0, "seconds": 3.0, "prompt_tokens": 20, "completion_tokens": 11,
        "cached_tokens": 16,
    }  # fmt: skip
    return recorded(**{**usual, **fields})


def lines(metrics: Metrics, now: Gauges = NOW) -> list[str]:
    return metrics.text(now).decode().splitlines()


def samples(metrics: Metrics, now: Gauges = NOW) -> dict[str, str]:
    """Return each sample's value by its name, without the prefix, and its labels."""
    found = (line.rpartition(" ") for line in lines(metrics, now) if not line.startswith("#"))
    return {name.removeprefix("gpuctl_gateway_"): value for name, _, value in found}


def told(*records: Record) -> Metrics:
    metrics = Metrics()
    for each in records:
        metrics.finished(each)
    return metrics


def counted(*records: Record) -> dict[str, str]:
    return samples(told(*records))


def sums(found: dict[str, str]) -> dict[str, float]:
    """Return the sum of each histogram of the chat."""
    end = f"_sum{CHAT}"
    return {name.removesuffix(end): float(v) for name, v in found.items() if name.endswith(end)}


def test_a_streamed_answer_is_in_every_histogram() -> None:
    """Ten tokens after the first in 2 s; eleven in the 2.2 s that it was not queued."""
    assert sums(counted(record())) == {
        "request_duration_seconds": 3.0,
        "queue_duration_seconds": 0.8,
        "time_to_first_token_seconds": 1.0,
        "time_per_output_token_seconds": 0.2,
        "request_tokens_per_second": 11 / 2.2,
        "request_size_bytes": 300.0,
        "response_size_bytes": 5000.0,
    }


def test_an_answer_in_one_piece_has_no_time_to_its_first_token() -> None:
    """All of its tokens came at once: only the speed of the whole can be told."""
    found = sums(counted(record(stream=False)))
    assert "time_to_first_token_seconds" not in found
    assert "time_per_output_token_seconds" not in found
    assert found["request_tokens_per_second"] == 11 / 2.2


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        pytest.param(
            {"completion_tokens": None}, {"time_per_output_token", "request_tokens_per"}, id="none"
        ),
        pytest.param({"completion_tokens": 1}, {"time_per_output_token"}, id="one token"),
        pytest.param(
            {"first_byte_seconds": None}, {"time_to_first_token", "time_per_output_token"},
            id="no byte came",
        ),
        pytest.param(
            {"queued_seconds": 3.0}, {"request_tokens_per"}, id="no time out of the queue"
        ),
        pytest.param({"request_bytes": 0}, {"request_size"}, id="no body"),
        pytest.param({"response_bytes": 0}, {"response_size"}, id="nothing sent"),
    ],
)  # fmt: skip
def test_what_a_request_does_not_have_is_nottold(fields: dict[str, Any], missing: set[str]) -> None:
    """A missing figure is no zero: it would lower every percentile."""
    every = sums(counted(record()))
    found = sums(counted(record(**fields)))
    assert {name.rpartition("_")[0] for name in every.keys() - found.keys()} == missing


def test_requests_are_counted_by_endpoint_model_and_code() -> None:
    """One series each; what was never sent anything has the code 0."""
    found = counted(
        record(), record(), record(status=503, end="refused", error="queue_full"),
        record(endpoint="/v1/embeddings", model="embed"), record(status=0, end="client_gone"),
    )  # fmt: skip
    assert {name: value for name, value in found.items() if name.startswith("requests_")} == {
        'requests_total{endpoint="/v1/chat/completions",model="chat",code="0"}': "1",
        'requests_total{endpoint="/v1/chat/completions",model="chat",code="200"}': "2",
        'requests_total{endpoint="/v1/chat/completions",model="chat",code="503"}': "1",
        'requests_total{endpoint="/v1/embeddings",model="embed",code="200"}': "1",
    }


def test_a_refusal_is_in_no_duration() -> None:
    """A flood of refusals in microseconds must not hide how long answers take."""
    refused = record(
        status=401, end="refused", error="invalid_api_key", attempts=0, queued_seconds=0.0,
        request_bytes=0, response_bytes=0,
    )  # fmt: skip
    found = counted(refused)
    assert sums(found) == {}
    assert found['rejections_total{reason="invalid_api_key"}'] == "1"


def test_who_waited_in_vain_is_in_the_queue_time() -> None:
    """A queue that times out is longest for those that never got a replica."""
    late = record(status=503, end="refused", error="queue_timeout", attempts=0, queued_seconds=30.0)
    found = counted(late)
    assert sums(found)["queue_duration_seconds"] == 30.0
    assert "request_duration_seconds" not in sums(found)
    assert found['rejections_total{reason="queue_timeout"}'] == "1"


@pytest.mark.parametrize(
    ("end", "name"),
    [
        ("client_gone", "client_cancellations_total"),
        ("cut", "answers_cut_total"),
        ("replayed", "idempotent_replays_total"),
    ],
)
def test_how_a_request_ended_istold(end: str, name: str) -> None:
    """Each end has a counter of its own, which is there at 0 before."""
    assert counted()[name] == "0"
    assert counted(record(end=end), record(end=end), record())[name] == "2"


def test_tokens_are_counted_by_kind() -> None:
    """As the engine counts them; what it does not tell is not shown."""
    found = counted(record(), record(cached_tokens=None))
    assert {name: value for name, value in found.items() if name.startswith("tokens_")} == {
        CHAT.join(("tokens_total", "")).replace("}", f',kind="{kind}"}}'): value
        for kind, value in (("prompt", "40"), ("completion", "22"), ("cached", "16"))
    }
    embedding = counted(record(completion_tokens=None, cached_tokens=None))
    assert [name for name in embedding if name.startswith("tokens_")] == [
        'tokens_total{endpoint="/v1/chat/completions",model="chat",kind="prompt"}'
    ]


def test_attempts_after_the_first_are_retries() -> None:
    """Two tries more of one request, none of another."""
    assert counted(record(attempts=3), record())["retries_total"] == "2"


def test_what_no_record_has_is_counted_when_told() -> None:
    """Known reasons are there at 0 from the start, others come with their first event."""
    metrics = Metrics()
    metrics.auth_failed("missing")
    metrics.auth_failed("malformed")
    metrics.rate_limited("ip")
    metrics.rate_limited("ip")
    metrics.upstream_failed("chat-1", "refused")
    metrics.upstream_failed("chat-0", "timeout")
    metrics.upstream_failed("chat-0", "timeout")
    found = samples(metrics)
    labelled = ("auth_failures", "rate_limited", "upstream_errors")
    assert [(name, value) for name, value in found.items() if name.startswith(labelled)] == [
        ('auth_failures_total{reason="expired"}', "0"),
        ('auth_failures_total{reason="malformed"}', "1"),
        ('auth_failures_total{reason="missing"}', "1"),
        ('auth_failures_total{reason="not_admin"}', "0"),
        ('auth_failures_total{reason="revoked"}', "0"),
        ('auth_failures_total{reason="unknown"}', "0"),
        ('rate_limited_total{scope="connections"}', "0"),
        ('rate_limited_total{scope="ip"}', "2"),
        ('rate_limited_total{scope="requests"}', "0"),
        ('rate_limited_total{scope="tokens"}', "0"),
        ('upstream_errors_total{replica="chat-0",kind="timeout"}', "2"),
        ('upstream_errors_total{replica="chat-1",kind="refused"}', "1"),
    ]


def test_the_moment_is_told() -> None:
    """Every reading under its own name, replicas by name, priorities by number."""
    found = samples(Metrics(), FULL)
    of = {name: f'{{replica="{name}",model="chat"' for name in ("chat-0", "chat-1")}
    expected = {
        'build_info{version="1.2.3",compiled="true"}': "1",
        "process_start_time_seconds": "1750000000.5",
        "process_resident_memory_bytes": "30000000",
        "process_open_fds": "12",
        "event_loop_lag_seconds": "0.001",
        "status_timestamp_seconds": "1750000001.0",
        "draining": "1",
        "shutdown_duration_seconds": "1.5",
        "connections": "7",
        "active_requests": "1",
        'queue_depth{priority="5"}': "3",
        'queue_depth{priority="10"}': "0",
        "queue_size_limit": "100",
        "log_lines_dropped_total": "5",
        "retry_budget_exhausted_total": "4",
        f'gate_state{of["chat-0"]},state="closed"}}': "1",
        f'gate_state{of["chat-0"]},state="open"}}': "0",
        f'gate_state{of["chat-0"]},state="half_open"}}': "0",
        f'gate_state{of["chat-1"]},state="closed"}}': "0",
        f'gate_state{of["chat-1"]},state="open"}}': "0",
        f'gate_state{of["chat-1"]},state="half_open"}}': "1",
        f"gate_opens_total{of['chat-0']}}}": "0",
        f"gate_opens_total{of['chat-1']}}}": "2",
        f"replica_active_requests{of['chat-0']}}}": "0",
        f"replica_active_requests{of['chat-1']}}}": "1",
        f"replica_slots{of['chat-0']}}}": "4",
        f"replica_slots{of['chat-1']}}}": "1",
        f"replica_weight_ratio{of['chat-0']}}}": "0.5",
        f"replica_weight_ratio{of['chat-1']}}}": "1.0",
        f"kv_cache_ratio{of['chat-0']}}}": "0.25",
    }
    assert {name: found[name] for name in expected} == expected
    assert list(samples(Metrics(), FULL)) == list(found)


def test_what_is_not_known_is_left_out() -> None:
    """Never written as 0: an alert on it would be wrong for ever."""
    found = samples(Metrics())
    unknown = (
        "process_resident_memory_bytes", "process_open_fds", "event_loop_lag_seconds",
        "status_timestamp_seconds", "shutdown_duration_seconds", "kv_cache_ratio", "gate_state",
    )  # fmt: skip
    assert [name for name in found if name.startswith(unknown)] == []


def test_a_name_cannot_forge_a_line() -> None:
    """Quotes, backslashes and ends of lines are escaped as the format says."""
    found = lines(told(record(model='a"\\\nb')))
    assert (
        'gpuctl_gateway_requests_total{endpoint="/v1/chat/completions",model="a\\"\\\\\\nb",'
        + ('code="200"} 1')
        in found
    )


def test_the_order_is_always_the_same() -> None:
    """Whatever came first: two scrapes of the same counts are equal byte for byte."""
    some = [record(model=model, status=status) for model in "cab" for status in (503, 200)]
    assert told(*some).text(FULL) == told(*reversed(some)).text(FULL)


def test_every_metric_says_what_it_is_once() -> None:
    """HELP, TYPE, then its samples; the names follow Prometheus' rules."""
    text = lines(told(record(), record(model="other")), FULL)
    families: dict[str, str] = {}
    for line in text:
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in families
            assert words.endswith(".")
        elif line.startswith("# TYPE "):
            _, _, typed, families[name] = line.split(" ")
            assert typed == name
        else:
            assert re.match(rf"{name}(_bucket|_sum|_count)?[{{ ]", line), line
    assert all(re.fullmatch(r"gpuctl_gateway_[a-z_]+", name) for name in families)
    assert {n for n, kind in families.items() if kind == "counter"} == {
        name for name in families if name.endswith("_total")
    }


def test_the_page_has_every_metric() -> None:
    """With its type and its labels."""
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    metrics = told(record(), record(end="cut"))
    metrics.upstream_failed("chat-0", "refused")
    text = lines(metrics, FULL)
    typed = dict(line.split()[2:] for line in text if line.startswith("# TYPE "))
    labels = {
        re.split(r"[{ ]", line)[0]: re.findall(r'(?:[{,])(\w+)="', line)
        for line in text
        if not line.startswith("#") and "_bucket" not in line
    }
    for name, kind in typed.items():
        short = name.removeprefix("gpuctl_gateway_")
        some = labels[f"{name}_sum" if kind == "histogram" else name]
        shown = " ".join(f"`{label}`," for label in some).rstrip(",")
        cells = rf"{kind} \| {shown}{' ' if shown else ''}\| .+"
        row = rf"^\| (`\w+`, )?`{short}`(, `\w+`)? \| {cells} \|$"
        assert re.search(row, page, re.MULTILINE), short


def test_prometheus_own_tool_accepts_it() -> None:
    """Its parser, and its linter of names."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("promtool: apt install prometheus")
        return
    metrics = told(record(), record(status=503, end="refused", error="queue_full"))
    metrics.upstream_failed("chat-0", "refused")
    ran = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text(FULL), capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, b"")
