"""
How much each subject may take in a minute: requests of an address, tokens of a key. PURE.

The data path takes before it does anything for a request, and charges what is known only
afterwards. The answers become `x-ratelimit-*` and `Retry-After` headers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from itertools import islice
from typing import Final

#: A bucket that is empty is full again after so long.
MINUTE_SECONDS: Final = 60.0

#: Sums of floats err by less, and no client waits so exactly.
_MICROSECOND: Final = 1e-6

#: How many of the oldest are looked at for one whose bucket is full: the work of a newcomer stays
#: the same however many there are.
_LOOKED_AT: Final = 16


class Allowance:
    """What became of a request to take something."""

    __slots__ = ("allowed", "limit", "remaining", "reset_seconds", "retry_seconds")

    def __init__(
        self, allowed: bool, limit: int, remaining: int, reset_seconds: float, retry_seconds: float
    ) -> None:
        self.allowed = allowed
        self.limit = limit  # of a minute
        #: That may be taken now, in whole ones; 0 where more was charged than there was.
        self.remaining = remaining
        self.reset_seconds = reset_seconds  # until as much may be taken as ever
        self.retry_seconds = retry_seconds  # until this much may be taken; 0: it was


class Limiter:
    """
    A bucket for each subject: it holds a minute's worth, and fills up evenly.

    What is kept of a bucket is when it will be full. It takes to empty what it takes to fill it, so
    a limit that changes leaves each subject the same share of it.
    """

    __slots__ = ("_full_at", "_most")

    def __init__(self, most: int = 10_000) -> None:
        self._most = most  # subjects that are remembered
        self._full_at: dict[Hashable, float] = {}  # the latest last

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, subject: Hashable, per_minute: int, amount: int, now: float) -> Allowance:
        """
        Take so much of a subject's bucket if it is in there.

        More than a minute's worth is taken from a full bucket, and paid off before the next: else
        it could not be had at any time.

        Args:
            subject: Whose bucket.
            per_minute: What it holds, above 0.
            amount: Not negative; 0 is there unless more was charged than there was.
            now: Seconds of one monotonic clock.
        """
        full_at = self._full_at.get(subject, now)
        if full_at < now:
            full_at = now
        seconds = amount * MINUTE_SECONDS / per_minute
        taken_seconds = seconds if seconds < MINUTE_SECONDS else MINUTE_SECONDS
        wait_seconds = full_at - now - MINUTE_SECONDS + taken_seconds
        allowed = wait_seconds <= _MICROSECOND
        if allowed and amount:
            full_at += seconds
            self._keep(subject, full_at, now)
        reset_seconds = full_at - now
        left = (MINUTE_SECONDS - reset_seconds + _MICROSECOND) * per_minute / MINUTE_SECONDS
        return Allowance(
            allowed,
            per_minute,
            min(int(left), per_minute) if left > 0 else 0,
            reset_seconds,
            0.0 if allowed else wait_seconds,
        )

    def charge(self, subject: Hashable, per_minute: int, amount: int, now: float) -> None:
        """
        Take so much of a subject's bucket, though it be more than is in there.

        Args:
            subject: Whose bucket.
            per_minute: What it holds, above 0.
            amount: Below 0 gives back what was taken too much.
            now: As in `take`.
        """
        full_at = max(self._full_at.get(subject, now), now)
        self._keep(subject, full_at + amount * MINUTE_SECONDS / per_minute, now)

    def _keep(self, subject: Hashable, full_at: float, now: float) -> None:
        known = self._full_at
        if subject in known:
            del known[subject]
        known[subject] = full_at
        if len(known) > self._most:
            # Who has taken nothing for a minute loses nothing; a flood of others shall not free
            # one that is at its limit before that.
            full = (name for name, at in islice(known.items(), _LOOKED_AT) if at <= now)
            del known[next(full, next(iter(known)))]


def duration(seconds: float) -> str:
    """
    Write a time as OpenAI's headers do: "1s", "6m0s", "20ms", "1h0m0.5s". Rounded up to 1 ms.

    Source: the headers' examples in OpenAI's rate limit guide, which are Go's time.Duration.String.
    """
    milliseconds = math.ceil((seconds - _MICROSECOND) * 1000)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
