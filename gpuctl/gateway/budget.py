"""
How many requests may be sent once more, so that retries never multiply a failure. PURE.

The client of a failed request tries again too, and so may every client: of what is sent, only a
small share may be second attempts. An exchange counts what it sends, and asks before a retry.
"""

from __future__ import annotations


class Budget:
    """
    Retries by what was sent within a window. Every `now` is in seconds of one monotonic clock.

    Counted in seconds, each in a bucket of its own. One more than the window has seconds: the
    window's first second is cut by its edge. Its retries count and its first attempts do not, so
    that no window, wherever it begins, sees more retries than it may.
    """

    __slots__ = ("_first", "_retries", "_second", "_sent", "least", "ratio", "refused_total")

    def __init__(self, ratio: float = 0.2, least: int = 10, window_seconds: int = 10) -> None:
        self.ratio = ratio  # of first attempts
        self.least = least  # retries that a window may have whatever was sent
        self.refused_total = 0
        self._first = [0] * (window_seconds + 1)
        self._retries = [0] * (window_seconds + 1)
        self._sent = 0  # in all of the first
        self._second = 0  # that the newest bucket counts

    def sent(self, now: float) -> None:
        """Count a first attempt."""
        self._first[self._bucket(now)] += 1
        self._sent += 1

    def retry(self, now: float) -> bool:
        """Return whether one may be sent once more, and count it if so."""
        bucket = self._bucket(now)
        # The bucket after the newest is the oldest: the second that the window's edge cuts.
        counted = self._sent - self._first[(bucket + 1) % len(self._first)]
        if sum(self._retries) + 1 > max(self.least, self.ratio * counted):
            self.refused_total += 1
            return False
        self._retries[bucket] += 1
        return True

    def _bucket(self, now: float) -> int:
        """Return the bucket of this second, after emptying those of the seconds since the last."""
        second = int(now)
        size = len(self._first)
        if second > self._second:
            for passed in range(max(self._second + 1, second - size + 1), second + 1):
                self._sent -= self._first[passed % size]
                self._first[passed % size] = 0
                self._retries[passed % size] = 0
            self._second = second
        return self._second % size
