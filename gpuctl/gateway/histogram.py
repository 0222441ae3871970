"""
One Prometheus histogram over bounds that never change: `metrics` adds to it, and prints it.

Adding is a short search and two additions, as every request does several: what Prometheus wants
cumulative is summed up when somebody looks. PURE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

#: The doubling buckets of OpenTelemetry's gen_ai.server.request.duration up to 81.92 s, and two
#: more: an answer may stream for 300 s.
#: Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md
DURATION_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    163.84, 327.68,
)  # fmt: skip
#: Those of gen_ai.server.time_to_first_token up to 10 s, and three more: a card without tensor
#: cores, or a CPU, reads a long prompt for a minute. Source: the same page.
FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)  # fmt: skip
#: Those of gen_ai.server.time_per_output_token. Source: the same page.
OUTPUT_TOKEN_SECONDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
#: From what a free slot costs to the 30 s that a request waits at most by default, and beyond.
QUEUE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
#: From a CPU's one token a second to a large card's with speculation.
TOKENS_PER_SECOND = (
    1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 160.0, 240.0, 320.0, 640.0,
)  # fmt: skip
#: Powers of four, up to beyond the 10 MiB that a request's body may have by default.
SIZE_BYTES = tuple(float(4**power) for power in range(4, 13))


class Histogram:
    """Counts by bucket, and the sum of what was seen."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = list(bounds)  # ascending; each bucket includes its own
        self.counts = [0] * (len(bounds) + 1)  # not cumulative; the last is what is beyond
        self.sum = 0.0

    def add(self, value: float) -> None:
        bucket = 0
        for bound in self.bounds:  # one after the other: compiled, quicker than a bisection's call
            if value <= bound:
                break
            bucket += 1
        self.counts[bucket] = self.counts[bucket] + 1
        self.sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """
        Yield its samples: every bucket, the sum and the count.

        *labels* is the inside of the braces, such as `model="chat"`, or "".
        Source: https://prometheus.io/docs/instrumenting/exposition_formats/#histograms-and-summaries
        """
        before = f"{labels}," if labels else ""
        of_it = f"{{{labels}}}" if labels else ""
        bounds = (*map(repr, self.bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(self.counts), strict=True):
            yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
        yield f"{name}_sum{of_it} {self.sum!r}"
        yield f"{name}_count{of_it} {sum(self.counts)}"
