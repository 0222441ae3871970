"""
How much each subject may take in a minute: requests of an address, tokens of a key. PURE.

The data path takes before it does anything for a request, and charges what is known only
afterwards. The answers become `x-ratelimit-*` and `Retry-After` headers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

#: A bucket that is empty is full again after so long.
MINUTE_SECONDS: Final = 60.0

#: When a bucket became full that nothing is known of.
_EVER: Final = float("-inf")

#: Sums of floats err by less, and no client waits so exactly.
_MICROSECOND: Final = 1e-6

#: How many of the oldest are looked at for one whose bucket is full: the work of a newcomer stays
#: the same however many there are.
_LOOKED_AT: Final = 16


class Bucket:
    """
    What a subject has left, and what became of the last request to take of it.

    Whoever asks again and again holds on to one, and needs not look for it. It counts only while
    its limiter keeps it: one that was let go, or never kept, stands for a full one, and the limiter
    looks for the subject's bucket again before it is used.
    """

    __slots__ = (
        *("_after", "_before", "_full_at", "_kept", "_subject"),
        *("allowed", "remaining", "reset_seconds", "retry_seconds"),
    )

    def __init__(self, subject: Hashable, ring: Bucket | None) -> None:
        self._subject = subject
        self._kept = False
        self._full_at = _EVER
        self.allowed = True
        #: That may be taken now, in whole ones; 0 where more was charged than there was.
        self.remaining = 0
        self.reset_seconds = 0.0  # until as much may be taken as ever
        self.retry_seconds = 0.0  # until this much may be taken; 0: it was
        # In the ring of all that are kept. One that is not points to the ring's end alone, and so
        # holds no other.
        self._before = self if ring is None else ring
        self._after = self._before


class Limiter:
    """
    A bucket for each subject: it holds a minute's worth, and fills up evenly.

    What is kept of a bucket is when it will be full. It takes to empty what it takes to fill it, so
    a limit that changes leaves each subject the same share of it.
    """

    __slots__ = ("_buckets", "_most", "_ring")

    def __init__(self, most: int = 10_000) -> None:
        self._most = most  # subjects that are remembered
        self._buckets: dict[Hashable, Bucket] = {}
        #: Their order: after this one whose turn is longest ago, before it the latest. Not full.
        self._ring = Bucket("", None)
        self._ring._full_at = math.inf

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, subject: Hashable) -> Bucket:
        """Return a subject's bucket: the one that is kept, or one that is full."""
        found = self._buckets.get(subject)
        return Bucket(subject, self._ring) if found is None else found

    def take(self, bucket: Bucket, per_minute: int, amount: int, now: float) -> Bucket:
        """
        Take so much of a bucket if it is in there; return it with what became of that.

        More than a minute's worth is taken from a full bucket, and paid off before the next: else
        it could not be had at any time. What is returned is to be held on to instead of *bucket*.

        Args:
            bucket: As `bucket` or one of these returned it, at any time.
            per_minute: What it holds, above 0.
            amount: Not negative; 0 is there unless more was charged than there was.
            now: Seconds of one monotonic clock.
        """
        if not bucket._kept:
            bucket = self._buckets.get(bucket._subject, bucket)
        full_at = max(bucket._full_at, now)
        seconds = amount * MINUTE_SECONDS / per_minute
        taken_seconds = seconds if seconds < MINUTE_SECONDS else MINUTE_SECONDS
        wait_seconds = full_at - now - MINUTE_SECONDS + taken_seconds
        allowed = wait_seconds <= _MICROSECOND
        if allowed and amount:
            full_at += seconds
            self._keep(bucket, full_at, now)
        reset_seconds = full_at - now
        left = (MINUTE_SECONDS - reset_seconds + _MICROSECOND) * per_minute / MINUTE_SECONDS
        bucket.allowed = allowed
        bucket.remaining = min(int(left), per_minute) if left > 0 else 0
        bucket.reset_seconds = reset_seconds
        bucket.retry_seconds = 0.0 if allowed else wait_seconds
        return bucket

    def charge(self, bucket: Bucket, per_minute: int, amount: int, now: float) -> Bucket:
        """
        Take so much of a bucket, though it be more than is in there; return it, as `take` does.

        Args:
            bucket: As in `take`, and so is *now*.
            per_minute: What it holds, above 0.
            amount: Below 0 gives back what was taken too much.
        """
        if not bucket._kept:
            bucket = self._buckets.get(bucket._subject, bucket)
        full_at = max(bucket._full_at, now)
        self._keep(bucket, full_at + amount * MINUTE_SECONDS / per_minute, now)
        return bucket

    def _keep(self, bucket: Bucket, full_at: float, now: float) -> None:
        """Keep it as the latest."""
        ring, kept = self._ring, bucket._kept
        latest = ring._before
        bucket._full_at = full_at
        if latest is bucket:
            return
        if kept:
            bucket._before._after, bucket._after._before = bucket._after, bucket._before
        bucket._before, bucket._after = latest, ring
        latest._after = ring._before = bucket
        if not kept:
            bucket._kept = True
            self._buckets[bucket._subject] = bucket
            if len(self._buckets) > self._most:
                self._let_go(self._spare(now))

    def _spare(self, now: float) -> Bucket:
        # Who has taken nothing for a minute loses nothing; a flood of others shall not free one
        # that is at its limit before that.
        bucket = oldest = self._ring._after
        for _ in range(_LOOKED_AT):
            if bucket._full_at <= now:
                return bucket
            bucket = bucket._after
        return oldest

    def _let_go(self, bucket: Bucket) -> None:
        del self._buckets[bucket._subject]
        bucket._kept, bucket._full_at = False, _EVER
        bucket._before._after, bucket._after._before = bucket._after, bucket._before
        bucket._before = bucket._after = self._ring


class Limit:
    """One limit of a key, held by whoever shows it: its bucket, and the header lines of it."""

    __slots__ = ("_bucket", "_limiter", "_remaining", "_reset", "per_minute", "scope")

    def __init__(self, limiter: Limiter, scope: str, id: str, per_minute: int) -> None:
        self.scope = scope  # requests | tokens
        self.per_minute = per_minute  # above 0
        self._limiter = limiter
        self._bucket = limiter.bucket((scope, id))
        what = scope.encode()
        self._remaining = b"x-ratelimit-limit-%s: %d\r\nx-ratelimit-remaining-%s: " % (
            what,
            per_minute,
            what,
        )
        self._reset = b"\r\nx-ratelimit-reset-%s: " % what

    def take(self, amount: int, now: float) -> Bucket:
        """Take so much, as `Limiter.take`."""
        bucket = self._bucket = self._limiter.take(self._bucket, self.per_minute, amount, now)
        return bucket

    def charge(self, amount: int, now: float) -> None:
        """Take so much, though it be more than there is, as `Limiter.charge`."""
        self._bucket = self._limiter.charge(self._bucket, self.per_minute, amount, now)

    def told(self) -> bytes:
        """Return the header lines of what the last `take` has left."""
        bucket = self._bucket
        return b"%s%d%s%s\r\n" % (
            self._remaining,
            bucket.remaining,
            self._reset,
            duration(bucket.reset_seconds),
        )

    def told_with(self, other: Limit) -> bytes:
        """Return the lines of two limits, this one's first; in one piece, which costs less."""
        ours, theirs = self._bucket, other._bucket
        return b"%s%d%s%s\r\n%s%d%s%s\r\n" % (
            self._remaining,
            ours.remaining,
            self._reset,
            duration(ours.reset_seconds),
            other._remaining,
            theirs.remaining,
            other._reset,
            duration(theirs.reset_seconds),
        )


def duration(seconds: float) -> bytes:
    """
    Write a time as OpenAI's headers do: "1s", "6m0s", "20ms", "1h0m0.5s". Rounded up to 1 ms.

    Source: the headers' examples in OpenAI's rate limit guide, which are Go's time.Duration.String.
    """
    milliseconds = math.ceil((seconds - _MICROSECOND) * 1000)
    if milliseconds <= 0:
        return b"0s"
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    whole, part = milliseconds // 1000, milliseconds % 1000
    if whole < 60:
        return _seconds(whole, part)
    minutes = whole // 60
    text = b"%dm%s" % (minutes % 60, _seconds(whole % 60, part))
    return b"%dh%s" % (minutes // 60, text) if minutes >= 60 else text


def _seconds(whole: int, milliseconds: int) -> bytes:
    if not milliseconds:
        return b"%ds" % whole
    # Digit by digit: the compiler leaves a format with a width to the interpreter.
    tenths, hundredths, last = milliseconds // 100, milliseconds // 10 % 10, milliseconds % 10
    if last:
        return b"%d.%d%d%ds" % (whole, tenths, hundredths, last)
    if hundredths:
        return b"%d.%d%ds" % (whole, tenths, hundredths)
    return b"%d.%ds" % (whole, tenths)
