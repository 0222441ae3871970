"""How much each subject may take in a minute, and how a time is written in a header."""

from __future__ import annotations

import gc
import math
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway.limits import Bucket, Limit, Limiter, duration

#: A loop clock that has run for years still tells microseconds apart.
CLOCK = st.floats(0, 1e8)


class Asked:
    """Takes of a limiter's buckets by their subjects, as one who has asked for none before."""

    def __init__(self, most: int = 10_000) -> None:
        self.limiter = Limiter(most)

    def take(self, subject: Hashable, per_minute: int, amount: int, now: float) -> Bucket:
        return self.limiter.take(self.limiter.bucket(subject), per_minute, amount, now)

    def charge(self, subject: Hashable, per_minute: int, amount: int, now: float) -> None:
        self.limiter.charge(self.limiter.bucket(subject), per_minute, amount, now)


def told(bucket: Bucket) -> dict[str, object]:
    names = ("allowed", "remaining", "reset_seconds", "retry_seconds")
    return {name: getattr(bucket, name) for name in names}


def test_a_bucket_is_emptied_and_fills_up_evenly() -> None:
    """Six a minute is one more every 10 s; what is refused takes nothing."""
    limiter = Asked()
    for taken in range(6):
        assert told(limiter.take("key", 6, 1, 100.0)) == {
            "allowed": True, "remaining": 5 - taken,
            "reset_seconds": 10.0 * (taken + 1), "retry_seconds": 0.0,
        }  # fmt: skip
    refused = {
        "allowed": False, "remaining": 0, "reset_seconds": 60.0, "retry_seconds": 10.0
    }  # fmt: skip
    assert told(limiter.take("key", 6, 1, 100.0)) == refused
    assert told(limiter.take("key", 6, 1, 100.0)) == refused
    assert not limiter.take("key", 6, 1, 109.9).allowed
    allowed = {**refused, "allowed": True, "retry_seconds": 0.0}
    assert told(limiter.take("key", 6, 1, 110.0)) == allowed


def test_each_subject_has_a_bucket_of_its_own() -> None:
    """What one takes is not missed by another."""
    limiter = Asked()
    assert limiter.take("a", 1, 1, 0.0).allowed
    assert not limiter.take("a", 1, 1, 0.0).allowed
    assert limiter.take("b", 1, 1, 0.0).allowed


def test_more_than_there_was_may_be_charged() -> None:
    """Tokens are known afterwards; what is owed is waited for before anything is taken again."""
    limiter = Asked()
    assert limiter.take("key", 600, 0, 0.0).allowed
    limiter.charge("key", 600, 900, 0.0)
    assert told(limiter.take("key", 600, 0, 0.0)) == {
        "allowed": False, "remaining": 0, "reset_seconds": 90.0, "retry_seconds": 30.0
    }  # fmt: skip
    assert limiter.take("key", 600, 0, 30.0).allowed


def test_what_was_taken_too_much_is_given_back() -> None:
    """A charge below nothing fills the bucket, and no more than that."""
    limiter = Asked()
    limiter.take("key", 60, 40, 0.0)
    limiter.charge("key", 60, -30, 0.0)
    assert limiter.take("key", 60, 0, 0.0).remaining == 50
    limiter.charge("key", 60, -30, 0.0)
    assert limiter.take("key", 60, 0, 0.0).remaining == 60


def test_more_than_a_minutes_worth_is_had_from_a_full_bucket() -> None:
    """It is paid off before the next is let in."""
    limiter = Asked()
    limiter.take("key", 60, 1, 0.0)
    assert limiter.take("key", 60, 90, 0.0).retry_seconds == 1.0
    assert told(limiter.take("key", 60, 90, 1.0)) == {
        "allowed": True, "remaining": 0, "reset_seconds": 90.0, "retry_seconds": 0.0
    }  # fmt: skip
    assert limiter.take("key", 60, 1, 1.0).retry_seconds == 31.0


def test_a_limit_that_changes_leaves_the_share_that_was_left() -> None:
    """Half of ten is half of a hundred."""
    limiter = Asked()
    limiter.take("key", 10, 5, 0.0)
    assert limiter.take("key", 100, 0, 0.0).remaining == 50


def test_what_is_remembered_is_bounded() -> None:
    """The one that took nothing for longest is forgotten."""
    limiter = Asked(most=2)
    for subject in ("a", "b", "a", "c"):
        limiter.take(subject, 4, 1, 0.0)
    assert len(limiter.limiter) == 2
    remaining = {name: limiter.take(name, 4, 0, 0.0).remaining for name in "ac"}
    assert remaining == {"a": 2, "c": 3}


def test_a_full_bucket_is_forgotten_before_one_that_is_not() -> None:
    """A flood of addresses does not free the one that is at its limit."""
    limiter = Asked(most=100)
    while limiter.take("limited", 60, 1, 0.0).allowed:
        pass
    for index in range(1000):
        assert limiter.take(index, 60, 1, 2.0 * index / 100).allowed
    assert len(limiter.limiter) == 100
    assert limiter.take("limited", 60, 0, 20.0).remaining == 20


@settings(deadline=None)
@given(per_minute=st.integers(1, 1_000_000), amount=st.integers(0, 2_000_000), now=CLOCK)
def test_who_waits_as_long_as_told_is_let_in(per_minute: int, amount: int, now: float) -> None:
    """Whatever was charged before, retry_seconds is enough, and no wait is for ever."""
    limiter = Asked()
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
    limiter = Asked()
    now, taken = start, 0
    for wait in waits:
        now += wait
        while taken < 10_000 and (bucket := limiter.take("key", per_minute, 7, now)).allowed:
            taken += 7
            assert 0 <= bucket.remaining <= per_minute
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
    assert duration(seconds) == text.encode()


@pytest.mark.parametrize("seen", [0, 1], ids=["before anything was taken", "after"])
def test_two_who_hold_on_to_a_subject_share_a_bucket(seen: int) -> None:
    """What one takes, the other has not, from whenever they hold it."""
    limiter = Limiter()
    for _ in range(seen):
        limiter.take(limiter.bucket("key"), 3, 1, 0.0)
    one, other = limiter.bucket("key"), limiter.bucket("key")
    one = limiter.take(one, 3, 1, 0.0)
    other = limiter.take(other, 3, 1, 0.0)
    assert other.remaining == 1 - seen
    assert limiter.take(one, 3, 0, 0.0) is other


def test_a_bucket_that_was_let_go_counts_no_more() -> None:
    """Who held on to it shares the next one with who asks anew; what was let go is full again."""
    limiter = Limiter(most=1)
    held = limiter.take(limiter.bucket("key"), 2, 2, 0.0)
    limiter.take(limiter.bucket("other"), 2, 1, 0.0)
    anew = limiter.take(limiter.bucket("key"), 2, 1, 0.0)
    assert limiter.take(held, 2, 1, 0.0).allowed
    assert not limiter.take(anew, 2, 1, 0.0).allowed
    assert not limiter.take(held, 2, 1, 0.0).allowed


def test_one_that_was_let_go_may_be_kept_again() -> None:
    limiter = Limiter(most=1)
    held = limiter.take(limiter.bucket("key"), 2, 2, 0.0)
    limiter.take(limiter.bucket("other"), 2, 1, 0.0)
    assert limiter.take(held, 2, 1, 0.0) is held
    assert limiter.bucket("key") is held
    assert (held.remaining, len(limiter)) == (1, 1)


def test_one_that_was_let_go_holds_no_other() -> None:
    """Whoever keeps it keeps not, one after the other, all that came after it."""
    limiter = Limiter(most=1)
    held = limiter.take(limiter.bucket("key"), 2, 2, 0.0)
    other = limiter.take(limiter.bucket("other"), 2, 1, 0.0)
    assert other not in gc.get_referents(held)


def test_who_only_looks_takes_nobodys_place() -> None:
    """A bucket of which nothing was taken is not remembered."""
    limiter = Limiter(most=1)
    limiter.take(limiter.bucket("key"), 2, 2, 0.0)
    limiter.take(limiter.bucket("other"), 2, 0, 0.0)
    assert not limiter.take(limiter.bucket("key"), 2, 1, 0.0).allowed


def test_limits_of_one_key_are_shared() -> None:
    """By id and scope, whatever the limit is now: as after a key list that is read anew."""
    limiter = Limiter()
    before, after = (Limit(limiter, "tokens", "key-1", most) for most in (10, 100))
    requests = Limit(limiter, "requests", "key-1", 10)
    before.charge(15, 0.0)
    assert not after.take(0, 0.0).allowed
    after.charge(-100, 0.0)
    assert before.take(0, 0.0).remaining == 5
    assert requests.take(1, 0.0).remaining == 9
