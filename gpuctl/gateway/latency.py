"""
How long one replica's answers take of late, and by how much it is slower than the best. PURE.

An exchange adds each answer's time; `routing` asks. What was measured fades while nothing new is,
so that a replica that was slow once is tried again.
"""

from __future__ import annotations

import math

#: Share of a new sample in the average: the latest ten answers make nine tenths of it, enough that
#: one long answer is no slow replica.
ALPHA = 0.2

#: After so long without a sample nothing is left of the average.
FADES_SECONDS = 30.0

#: So many times the best one's average is no difference: answers are of different lengths.
TOLERATED = 1.5

#: More than this many times slower counts as so many: it shall still be of use under load.
MOST = 4.0


class Latency:
    """
    A moving average that is forgotten. Every `now` is in seconds of one monotonic clock.

    The older the average is, the less it says: linearly, down to nothing after `FADES_SECONDS`. A
    sample that comes later weighs so much more, and at last all.
    """

    __slots__ = ("_seconds", "_until")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until = -math.inf  # then it is forgotten

    def add(self, seconds: float, now: float) -> None:
        """Take in how long an answer took, not negative."""
        kept = (1.0 - ALPHA) * self._freshness(now)
        self._seconds = kept * self._seconds + (1.0 - kept) * seconds
        self._until = now + FADES_SECONDS

    def value(self, now: float) -> float | None:
        """Return the average in seconds, None where nothing is known or it is forgotten."""
        return self._seconds if now < self._until else None

    def factor(self, best: float, now: float) -> float:
        """
        Return how many times slower than the best this counts as, 1 to `MOST`.

        It is 1 up to `TOLERATED` times the best, what is left of a difference that fades included:
        even the slowest is as good as any other 25 s after its latest answer.

        Args:
            best: The lowest average of those it is compared with; infinite: none is known.
            now: When it is asked.
        """
        if self._seconds <= TOLERATED * best:
            return 1.0
        times = MOST if self._seconds >= MOST * best else self._seconds / best
        left = 1.0 + (times - 1.0) * self._freshness(now)
        return left if left > TOLERATED else 1.0

    def _freshness(self, now: float) -> float:
        """Return 1 for an average with a sample of now, 0 for one that is forgotten."""
        if now >= self._until:
            return 0.0
        return (self._until - now) / FADES_SECONDS
