"""
Rounds in, the table and the goals out. Nothing is measured here.

A ratio is taken within each round, and their median is what counts: a machine that is slower for a
while is slower for all. What a proxy adds is its figure less that of no proxy at all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.gateway.load import Figures

#: Figures by proxy, "direct" among them.
Round = Mapping[str, Figures]
Value = Callable[[Figures, Figures], float]  # of a proxy's figures and the direct ones

DIRECT = "direct"
ROUTERS = ("vllm-router rr", "vllm-router p2c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked of gpuctl, beside a peer or by itself."""

    words: str
    value: Value
    limit: float
    peers: tuple[str, ...] = ()  # each must be met; none: the value itself counts
    least: bool = False  # the limit is the least, not the most


def added(name: str) -> Value:
    """Return how a time is seen that a proxy adds to."""
    return lambda figures, direct: getattr(figures, name) - getattr(direct, name)


def own(name: str) -> Value:
    """Return how a figure is seen that is a proxy's own."""
    return lambda figures, direct: getattr(figures, name)


COLUMNS: tuple[tuple[str, Value, int], ...] = (
    ("req/s c=64", own("per_second"), 0),
    ("CPU µs/req", own("cpu_us"), 1),
    ("+p50 c=1 µs", added("alone_p50_us"), 0),
    ("+p99 c=1 µs", added("alone_p99_us"), 0),
    ("+p50 c=8 µs", added("eight_p50_us"), 0),
    ("+p99 c=8 µs", added("eight_p99_us"), 0),
    ("+p50 c=1 one core µs", added("one_core_p50_us"), 0),
    ("+first event µs", added("first_us"), 0),
    ("CPU µs/chunk", own("chunk_cpu_us"), 1),
    ("RSS MB", lambda figures, direct: figures.rss_bytes / 1e6, 0),
    ("ready s", own("ready_seconds"), 2),
    ("errors", own("errors"), 0),
)
GOALS = (
    Goal(words="CPU per request, × vllm-router", value=own("cpu_us"), limit=0.55, peers=ROUTERS),
    Goal(words="CPU per request, × nginx", value=own("cpu_us"), limit=2.5, peers=("nginx",)),
    Goal(
        words="throughput, × vllm-router",
        value=own("per_second"),
        limit=2,
        peers=ROUTERS,
        least=True,
    ),
    Goal(
        words="throughput, × LiteLLM",
        value=own("per_second"),
        limit=250,
        peers=("litellm",),
        least=True,
    ),
    Goal(
        words="added p50 at 1 client, × nginx",
        value=added("alone_p50_us"),
        limit=2,
        peers=("nginx",),
    ),
    Goal(
        words="the same with all on one core, × nginx",
        value=added("one_core_p50_us"),
        limit=2,
        peers=("nginx",),
    ),
    Goal(words="CPU per chunk, × vllm-router", value=own("chunk_cpu_us"), limit=0.9, peers=ROUTERS),
    Goal(words="RSS, MB", value=lambda figures, direct: figures.rss_bytes / 1e6, limit=50),
    Goal(words="ready, s", value=own("ready_seconds"), limit=0.5),
    Goal(words="errors", value=own("errors"), limit=0),
)


def table(rounds: Sequence[Round]) -> str:
    """Return the medians of all rounds as a table in Markdown, the direct row absolute."""
    head = ("", *(name for name, _, _ in COLUMNS))
    rows = [head, ("---",) * len(head)]
    for name in rounds[0]:
        row = [name]
        for _, value, digits in COLUMNS:
            shown = own_times(value) if name == DIRECT else value
            row.append(f"{_median(rounds, name, shown):,.{digits}f}")
        rows.append(tuple(row))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def own_times(value: Value) -> Value:
    """Return a value as it is where nothing is taken away: that of the direct row."""
    return lambda figures, direct: value(figures, _NOTHING)


def goals(rounds: Sequence[Round], costs_us: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Yield a line for each goal: what was asked, what was measured, met or not."""
    for goal in GOALS:
        asked = f"{goal.words} {'≥' if goal.least else '≤'} {goal.limit:g}"
        missing = [peer for peer in goal.peers if peer not in rounds[0]]
        if "gpuctl" not in rounds[0] or missing:
            yield f"not measured: {asked} ({', '.join(missing) or 'gpuctl'} did not run)"
            continue
        worst = _worst(goal, rounds)
        met = worst >= goal.limit if goal.least else worst <= goal.limit
        yield f"{_verdict(met)}: {asked}: {worst:.3g}"
    for name, (_, p99_us) in costs_us.items():
        yield f"{_verdict(p99_us < 1000)}: {name} < 1 ms: {p99_us / 1000:.3f} (p99)"


def _worst(goal: Goal, rounds: Sequence[Round]) -> float:
    """Return the median of gpuctl's own figure, or that of the worst ratio to a peer."""
    if not goal.peers:
        return _median(rounds, "gpuctl", goal.value)
    ratios = [
        statistics.median(_ratio(goal.value, each, peer) for each in rounds) for peer in goal.peers
    ]
    return min(ratios) if goal.least else max(ratios)


def _ratio(value: Value, each: Round, peer: str) -> float:
    """Return gpuctl's figure by a peer's: infinite where that did nothing in a short round."""
    ours, theirs = value(each["gpuctl"], each[DIRECT]), value(each[peer], each[DIRECT])
    return ours / theirs if theirs else math.inf


def _median(rounds: Sequence[Round], name: str, value: Value) -> float:
    return statistics.median(value(each[name], each[DIRECT]) for each in rounds)


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


_NOTHING = Figures(
    per_second=0,
    cpu_us=0,
    alone_p50_us=0,
    alone_p99_us=0,
    eight_p50_us=0,
    eight_p99_us=0,
    one_core_p50_us=0,
    first_us=0,
    chunk_cpu_us=0,
    rss_bytes=0,
    errors=0,
)
