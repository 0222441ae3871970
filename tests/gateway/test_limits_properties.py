"""Limits against what says the same in as few words as it can be: a dict, and plain formats."""

from __future__ import annotations

import math
from collections.abc import Hashable
from itertools import islice
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway.limits import Bucket, Limit, Limiter, duration

MINUTE_SECONDS: Final = 60.0
MICROSECOND: Final = 1e-6
#: A loop clock that has run for years still tells microseconds apart.
CLOCK = st.floats(0, 1e8)


def told(bucket: Bucket) -> dict[str, object]:
    names = ("allowed", "remaining", "reset_seconds", "retry_seconds")
    return {name: getattr(bucket, name) for name in names}


class Plain:
    """The same arithmetic over a dict, which is kept in the order of what was taken."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.full_at: dict[Hashable, float] = {}

    def take(
        self, subject: Hashable, per_minute: int, amount: int, now: float
    ) -> dict[str, object]:
        full_at = max(self.full_at.get(subject, now), now)
        seconds = amount * MINUTE_SECONDS / per_minute
        wait_seconds = full_at - now - MINUTE_SECONDS + min(seconds, MINUTE_SECONDS)
        allowed = wait_seconds <= MICROSECOND
        if allowed and amount:
            full_at += seconds
            self._keep(subject, full_at, now)
        left = (MINUTE_SECONDS - (full_at - now) + MICROSECOND) * per_minute / MINUTE_SECONDS
        return {
            "allowed": allowed,
            "remaining": min(int(left), per_minute) if left > 0 else 0,
            "reset_seconds": full_at - now,
            "retry_seconds": 0.0 if allowed else wait_seconds,
        }

    def charge(self, subject: Hashable, per_minute: int, amount: int, now: float) -> None:
        full_at = max(self.full_at.get(subject, now), now)
        self._keep(subject, full_at + amount * MINUTE_SECONDS / per_minute, now)

    def _keep(self, subject: Hashable, full_at: float, now: float) -> None:
        self.full_at.pop(subject, None)
        self.full_at[subject] = full_at
        if len(self.full_at) > self.most:
            full = (name for name, at in islice(self.full_at.items(), 16) if at <= now)
            del self.full_at[next(full, next(iter(self.full_at)))]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # who holds on to a bucket
        st.integers(0, 5),  # the subject
        st.sampled_from(["take", "charge", "forget"]),
        st.sampled_from([1, 6, 600]),  # a minute: it may be another each time
        st.integers(-2, 9),
        st.sampled_from([0.0, 0.0, 1.0, 7.5, 61.0]),  # that pass first
    ),
    max_size=80,
)


@settings(deadline=None)
@given(most=st.integers(1, 5), start=CLOCK, steps=STEPS)
def test_who_holds_on_to_a_bucket_gets_no_more_and_no_less(
    most: int, start: float, steps: list[tuple[int, int, str, int, int, float]]
) -> None:
    """
    Several connections of the same subjects, of which more are used than are remembered.

    Each holds on to a bucket from when it first asks, whatever becomes of that meanwhile.
    """
    limiter, plain, now = Limiter(most), Plain(most), start
    held: dict[tuple[int, int], Bucket] = {}
    for holder, subject, what, per_minute, amount, wait in steps:
        now += wait
        bucket = held.get((holder, subject)) or limiter.bucket(subject)
        if what == "forget":  # it leaves, and comes again
            held.pop((holder, subject), None)
        elif what == "charge":
            held[holder, subject] = limiter.charge(bucket, per_minute, amount, now)
            plain.charge(subject, per_minute, amount, now)
        else:
            bucket = held[holder, subject] = limiter.take(bucket, per_minute, abs(amount), now)
            assert told(bucket) == plain.take(subject, per_minute, abs(amount), now)
        assert len(limiter) == len(plain.full_at)


# What is told.


def careful(seconds: float) -> str:
    """Return a duration as text, by the rules of decimal fractions."""
    milliseconds = math.ceil((seconds - MICROSECOND) * 1000)
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


def lines(what: str, limit: int, bucket: Bucket) -> bytes:
    return (
        f"x-ratelimit-limit-{what}: {limit}\r\n"
        f"x-ratelimit-remaining-{what}: {bucket.remaining}\r\n"
        f"x-ratelimit-reset-{what}: {careful(bucket.reset_seconds)}\r\n"
    ).encode()


@given(
    st.one_of(
        st.floats(-1.0, 61.0),
        st.floats(0.0, 1e9),
        st.integers(0, 10_000_000).map(lambda milliseconds: milliseconds / 1000),
    )
)
def test_every_time_is_written_by_the_same_rules(seconds: float) -> None:
    assert duration(seconds) == careful(seconds).encode()


@settings(deadline=None)
@given(
    most=st.tuples(st.integers(1, 10**12), st.integers(1, 10**12)),
    amounts=st.tuples(st.integers(0, 10**13), st.integers(0, 10**13)),
    now=CLOCK,
)
def test_the_lines_of_a_limit(most: tuple[int, int], amounts: tuple[int, int], now: float) -> None:
    """Limit, what remains and when it is reset; of two at once as of one after the other."""
    limiter = Limiter()
    requests, tokens = (
        Limit(limiter, scope, "key-1", per_minute)
        for scope, per_minute in zip(("requests", "tokens"), most, strict=True)
    )
    one = requests.take(amounts[0], now)
    tokens.charge(amounts[1], now)
    other = tokens.take(0, now)
    assert requests.told() == lines("requests", most[0], one)
    assert tokens.told() == lines("tokens", most[1], other)
    assert requests.told_with(tokens) == requests.told() + tokens.told()
