"""How much each subject may take in a minute, and how a time is written in a header."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway.limits import Allowance, Limiter, duration

#: A loop clock that has run for years still tells microseconds apart.
CLOCK = st.floats(0, 1e8)


def told(allowance: Allowance) -> dict[str, object]:
    return {name: getattr(allowance, name) for name in Allowance.__slots__}


def test_a_bucket_is_emptied_and_fills_up_evenly() -> None:
    """Six a minute is one more every 10 s; what is refused takes nothing."""
    limiter = Limiter()
    for taken in range(6):
        assert told(limiter.take("key", 6, 1, 100.0)) == {
            "allowed": True, "limit": 6, "remaining": 5 - taken,
            "reset_seconds": 10.0 * (taken + 1), "retry_seconds": 0.0,
        }  # fmt: skip
    refused = {
        "allowed": False, "limit": 6, "remaining": 0, "reset_seconds": 60.0, "retry_seconds": 10.0
    }  # fmt: skip
    assert told(limiter.take("key", 6, 1, 100.0)) == refused
    assert told(limiter.take("key", 6, 1, 100.0)) == refused
    assert not limiter.take("key", 6, 1, 109.9).allowed
    allowed = {**refused, "allowed": True, "retry_seconds": 0.0}
    assert told(limiter.take("key", 6, 1, 110.0)) == allowed


def test_each_subject_has_a_bucket_of_its_own() -> None:
    """What one takes is not missed by another."""
    limiter = Limiter()
    assert limiter.take("a", 1, 1, 0.0).allowed
    assert not limiter.take("a", 1, 1, 0.0).allowed
    assert limiter.take("b", 1, 1, 0.0).allowed


def test_more_than_there_was_may_be_charged() -> None:
    """Tokens are known afterwards; what is owed is waited for before anything is taken again."""
    limiter = Limiter()
    assert limiter.take("key", 600, 0, 0.0).allowed
    limiter.charge("key", 600, 900, 0.0)
    assert told(limiter.take("key", 600, 0, 0.0)) == {
        "allowed": False, "limit": 600, "remaining": 0, "reset_seconds": 90.0, "retry_seconds": 30.0
    }  # fmt: skip
    assert limiter.take("key", 600, 0, 30.0).allowed


def test_what_was_taken_too_much_is_given_back() -> None:
    """A charge below nothing fills the bucket, and no more than that."""
    limiter = Limiter()
    limiter.take("key", 60, 40, 0.0)
    limiter.charge("key", 60, -30, 0.0)
    assert limiter.take("key", 60, 0, 0.0).remaining == 50
    limiter.charge("key", 60, -30, 0.0)
    assert limiter.take("key", 60, 0, 0.0).remaining == 60


def test_more_than_a_minutes_worth_is_had_from_a_full_bucket() -> None:
    """It is paid off before the next is let in."""
    limiter = Limiter()
    limiter.take("key", 60, 1, 0.0)
    assert limiter.take("key", 60, 90, 0.0).retry_seconds == 1.0
    assert told(limiter.take("key", 60, 90, 1.0)) == {
        "allowed": True, "limit": 60, "remaining": 0, "reset_seconds": 90.0, "retry_seconds": 0.0
    }  # fmt: skip
    assert limiter.take("key", 60, 1, 1.0).retry_seconds == 31.0


def test_a_limit_that_changes_leaves_the_share_that_was_left() -> None:
    """Half of ten is half of a hundred."""
    limiter = Limiter()
    limiter.take("key", 10, 5, 0.0)
    assert limiter.take("key", 100, 0, 0.0).remaining == 50


def test_what_is_remembered_is_bounded() -> None:
    """The one that took nothing for longest is forgotten."""
    limiter = Limiter(most=2)
    for subject in ("a", "b", "a", "c"):
        limiter.take(subject, 4, 1, 0.0)
    assert len(limiter) == 2
    remaining = {name: limiter.take(name, 4, 0, 0.0).remaining for name in "ac"}
    assert remaining == {"a": 2, "c": 3}


def test_a_full_bucket_is_forgotten_before_one_that_is_not() -> None:
    """A flood of addresses does not free the one that is at its limit."""
    limiter = Limiter(most=100)
    while limiter.take("limited", 60, 1, 0.0).allowed:
        pass
    for index in range(1000):
        assert limiter.take(index, 60, 1, 2.0 * index / 100).allowed
    assert len(limiter) == 100
    assert limiter.take("limited", 60, 0, 20.0).remaining == 20


@settings(deadline=None)
@given(per_minute=st.integers(1, 1_000_000), amount=st.integers(0, 2_000_000), now=CLOCK)
def test_who_waits_as_long_as_told_is_let_in(per_minute: int, amount: int, now: float) -> None:
    """Whatever was charged before, retry_seconds is enough, and no wait is for ever."""
    limiter = Limiter()
    limiter.charge("key", per_minute, 3 * per_minute, now)
    first = limiter.take("key", per_minute, amount, now)
    assert not first.allowed
    assert math.isfinite(first.retry_seconds)
    assert limiter.take("key", per_minute, amount, now + first.retry_seconds).allowed


@settings(deadline=None)
@given(
    per_minute=st.integers(1, 600),
    waits=st.lists(st.floats(0, 20), max_size=60),
    start=CLOCK,
)
def test_no_more_than_allowed_is_taken(per_minute: int, waits: list[float], start: float) -> None:
    """Over any time from a full bucket: a minute's worth, and what the time itself brings."""
    limiter = Limiter()
    now, taken = start, 0
    for wait in waits:
        now += wait
        while taken < 10_000 and (allowance := limiter.take("key", per_minute, 7, now)).allowed:
            taken += 7
            assert 0 <= allowance.remaining <= per_minute
    most = max(per_minute, 7) + (now - start) * per_minute / 60
    assert taken <= most + 0.01


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0.0, "0s", id="none"),
        pytest.param(1e-9, "0s", id="less than the clock tells"),
        pytest.param(0.0001, "1ms", id="rounded up"),
        pytest.param(0.02, "20ms", id="milliseconds"),
        pytest.param(1.0, "1s", id="a second"),
        pytest.param(8.64, "8.64s", id="a part of a second"),
        pytest.param(59.9999, "1m0s", id="rounded up to a minute"),
        pytest.param(360.0, "6m0s", id="minutes"),
        pytest.param(90.5, "1m30.5s", id="minutes and a part"),
        pytest.param(3600.0, "1h0m0s", id="an hour"),
        pytest.param(90061.001, "25h1m1.001s", id="more than a day"),
    ],
)
def test_a_time_is_written_as_in_openais_headers(seconds: float, text: str) -> None:
    """Go's style: units as needed, the smaller ones shown below the largest, no trailing zeros."""
    assert duration(seconds) == text
