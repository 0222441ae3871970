"""How much may be sent again: a fifth of what is sent, and ten in ten seconds at least."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway.budget import Budget


def spend(budget: Budget, now: float, asked: int = 1000) -> int:
    """Return how many of so many retries are granted."""
    return sum(budget.retry(now) for _ in range(asked))


@pytest.mark.parametrize(
    ("sent", "granted"),
    [
        pytest.param(0, 10, id="nothing-sent"),
        pytest.param(50, 10, id="50"),
        pytest.param(54, 10, id="54"),
        pytest.param(55, 11, id="55"),
        pytest.param(1000, 200, id="1000"),
    ],
)
def test_a_fifth_and_ten_at_least(sent: int, granted: int) -> None:
    budget = Budget()
    for _ in range(sent):
        budget.sent(5.0)
    assert (spend(budget, 5.5), budget.refused_total) == (granted, 1000 - granted)


@pytest.mark.parametrize(
    ("later", "granted"),
    [
        pytest.param(9.0, 0, id="9-s"),
        pytest.param(10.0, 0, id="10-s"),
        pytest.param(11.0, 10, id="11-s"),
        pytest.param(1e9, 10, id="30-years"),
    ],
)
def test_what_was_spent_comes_back(later: float, granted: int) -> None:
    """Whole seconds are counted: a retry is forgotten after 10 s, and 11 s at the latest."""
    budget = Budget()
    spend(budget, 100.9)
    assert spend(budget, 100.9 + later) == granted


def test_it_comes_back_as_it_went() -> None:
    """Four of one second, then six of the next."""
    budget = Budget()
    spend(budget, 100.0, asked=4)
    spend(budget, 101.0)
    assert [spend(budget, now) for now in (110.9, 111.0, 112.0)] == [0, 4, 6]


@pytest.mark.parametrize(
    ("later", "granted"),
    [
        pytest.param(9.0, 200, id="9-s"),
        pytest.param(10.0, 10, id="10-s"),
        pytest.param(11.0, 10, id="11-s"),
    ],
)
def test_what_was_sent_counts_for_ten_seconds(later: float, granted: int) -> None:
    budget = Budget()
    for _ in range(1000):
        budget.sent(100.9)
    assert spend(budget, 100.9 + later) == granted


def test_what_is_forgotten_is_forgotten_once() -> None:
    """A thousand a while ago are nothing, and do not count against the thousand of now."""
    budget = Budget()
    for now in (100.0, 150.0):
        for _ in range(1000):
            budget.sent(now)
    assert spend(budget, 150.0) == 200


def test_its_measures_are_settable() -> None:
    """Half of what is sent, two at least, in two seconds."""
    budget = Budget(ratio=0.5, least=2, window_seconds=2)
    for now in (100.0, 101.0, 101.5, 101.6, 101.7, 101.8):
        budget.sent(now)
    assert [spend(budget, now) for now in (101.9, 102.0, 104.0, 105.0)] == [3, 0, 2, 0]


steps = st.tuples(
    st.sampled_from(("sent", "sent", "sent", "retry")),
    st.integers(1, 30),
    st.sampled_from((0.0, 0.0, 0.05, 0.4, 0.95, 3.3, 9.99, 12.0)),
)


@given(st.lists(steps, max_size=60), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_no_ten_seconds_see_more(history: list[tuple[str, int, float]], start: float) -> None:
    """Whenever one is granted, no more than a fifth of the ten seconds before, or ten, were."""
    budget = Budget()
    sent: list[float] = []
    granted: list[float] = []
    now = start
    for what, times, pause in history:
        now += pause
        for _ in range(times):
            if what == "sent":
                budget.sent(now)
                sent.append(now)
            elif budget.retry(now):
                granted.append(now)
                of_sent = sum(at > now - 10.0 for at in sent)
                assert sum(at >= now - 10.0 for at in granted) <= max(10, 0.2 * of_sent)


@given(st.lists(steps, max_size=60))
@settings(deadline=None)
def test_ten_in_eleven_seconds_are_always_to_be_had(history: list[tuple[str, int, float]]) -> None:
    """It never refuses where fewer than ten were granted within eleven seconds."""
    budget = Budget()
    granted: list[float] = []
    now = 0.0
    for what, times, pause in history:
        now += pause
        for _ in range(times):
            if what == "sent":
                budget.sent(now)
            elif budget.retry(now):
                granted.append(now)
            else:
                assert sum(at > now - 11.0 for at in granted) >= 10
