"""
How long one replica's answers take of late, and by how much it is slower than the best. PURE.

An exchange adds each answer's time; `routing` asks. What was measured fades while nothing new is,
so that a replica that was slow once is tried again.
"""

from __future__ import annotations

from typing import Final

_INFINITE: Final = float("inf")

#: Share of a new sample in the average: the latest ten answers make nine tenths of it.
ALPHA: Final = 0.2

#: A sample counts as at most so many times the average: one long answer, which makes no more than
#: 1.4 times of it, is no slow replica.
MOST_SAMPLE: Final = 3.0

#: Less counts as this: uvloop's clock has whole milliseconds, and a busy host takes some more.
LEAST_SECONDS: Final = 0.01

#: So many times the best one's average is no difference: answers are of different lengths.
TOLERATED: Final = 1.5

#: More than this many times slower counts as so many: it shall still be of use under load.
MOST: Final = 4.0

#: After so long without a sample nothing is left of the average.
FADES_SECONDS: Final = 30.0

#: Nor after as long as the best takes for so many answers. One that is four times slower is tried
#: by one request in 26 that come one by one: fewer than the slowest twentieth, which a p95 shows.
FADES_ANSWERS: Final = 30


class Latency:
    """A moving average that is forgotten. Every `now` is in seconds of one monotonic clock."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = LEAST_SECONDS
        self._at = -_INFINITE  # of the latest sample

    def add(self, seconds: float, now: float) -> None:
        """Take in how long an answer took; the longer nothing came before, the more it weighs."""
        sample = max(seconds, LEAST_SECONDS)
        left = 1.0 - (now - self._at) / FADES_SECONDS
        if left > 0.0:
            sample = min(sample, MOST_SAMPLE * self._seconds)
            self._seconds += (1.0 - (1.0 - ALPHA) * left) * (sample - self._seconds)
        else:
            self._seconds = sample
        self._at = now

    def value(self, now: float) -> float:
        """Return the average in seconds, infinite where nothing is known or it is forgotten."""
        return self._seconds if now - self._at < FADES_SECONDS else _INFINITE

    def factor(self, best: float, now: float) -> float:
        """
        Return how many times slower than the best this counts as, 1 to `MOST`.

        A difference fades evenly, and up to `TOLERATED` times it is none. So even the slowest is
        as good as any other 25 s after its latest answer, or sooner where answers are short.

        Args:
            best: The lowest average of those it is compared with; infinite: none is known.
            now: When it is asked.
        """
        if self._seconds <= TOLERATED * best:
            return 1.0
        fades = min(FADES_SECONDS, FADES_ANSWERS * best)
        left = max(0.0, 1.0 - (now - self._at) / fades)
        times = 1.0 + (min(MOST, self._seconds / best) - 1.0) * left
        return times if times > TOLERATED else 1.0
