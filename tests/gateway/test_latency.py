"""How slow a replica is of late: its average, what it is next to the best, and forgetting."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.latency import FADES_SECONDS, LEAST_SECONDS, MOST, TOLERATED, Latency

seconds = st.floats(0.0, 300.0)


def of(*samples: float, at: float = 0.0) -> Latency:
    latency = Latency()
    for sample in samples:
        latency.add(sample, at)
    return latency


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        pytest.param((), math.inf, id="none"),
        pytest.param((2.0,), 2.0, id="the-first-is-all"),
        pytest.param((2.0, 3.0), 2.2, id="a-fifth-of-the-next"),
        pytest.param((2.0, 3.0, 1.2), 2.0, id="and-so-on"),
        pytest.param((1.0, 100.0), 1.4, id="a-long-answer-counts-as-three-averages"),
        pytest.param((1.0, 0.0), 0.802, id="a-short-one-as-what-it-is-but-10-ms-at-least"),
        pytest.param((0.0, 0.001), LEAST_SECONDS, id="the-clock-tells-no-less-than-10-ms"),
    ],
)
def test_the_average(samples: tuple[float, ...], value: float) -> None:
    """A moving average in which each new sample is a fifth."""
    found = of(*samples).value(0.0)
    assert found == pytest.approx(value)


@pytest.mark.parametrize(
    ("age", "value"),
    [
        pytest.param(29.9, 1.0, id="29.9-s"),
        pytest.param(30.0, math.inf, id="30-s"),
        pytest.param(3000.0, math.inf, id="50-min"),
    ],
)
def test_it_is_forgotten_after_half_a_minute(age: float, value: float) -> None:
    assert of(1.0).value(age) == value


@pytest.mark.parametrize(
    ("age", "value"),
    [
        pytest.param(0.0, 3.4, id="at-once"),
        pytest.param(15.0, 2.2, id="15-s"),
        pytest.param(27.0, 1.24, id="27-s"),
        pytest.param(30.0, 1.0, id="30-s"),
        pytest.param(99.0, 1.0, id="99-s"),
    ],
)
def test_a_sample_after_a_pause_weighs_more(age: float, value: float) -> None:
    """One that recovered while nobody asked it is believed: 4 s before, 1 s now."""
    latency = of(4.0)
    latency.add(1.0, age)
    assert latency.value(age) == pytest.approx(value)


@pytest.mark.parametrize(
    ("own", "best", "factor"),
    [
        pytest.param(1.0, 1.0, 1.0, id="the-best"),
        pytest.param(1.5, 1.0, 1.0, id="half-as-much-again-is-no-difference"),
        pytest.param(1.6, 1.0, 1.6, id="more-is"),
        pytest.param(3.0, 1.0, 3.0, id="three-times"),
        pytest.param(4.0, 1.0, 4.0, id="four-times"),
        pytest.param(40.0, 1.0, 4.0, id="never-more-than-four"),
        pytest.param(40.0, math.inf, 1.0, id="nothing-is-known-of-others"),
    ],
)
def test_next_to_the_best(own: float, best: float, factor: float) -> None:
    assert of(own).factor(best, 0.0) == pytest.approx(factor)


def test_nothing_is_held_against_the_untried() -> None:
    assert Latency().factor(0.01, 0.0) == 1.0


@pytest.mark.parametrize(
    ("best", "age", "factor"),
    [
        pytest.param(2.0, 15.0, 2.5, id="half-is-left-after-15-s"),
        pytest.param(2.0, 24.9, 1.51, id="24.9-s"),
        pytest.param(2.0, 25.0, 1.0, id="none-after-25-s"),
        pytest.param(2.0, 1e6, 1.0, id="nor-ever-after"),
        pytest.param(0.1, 1.5, 2.5, id="half-is-left-after-15-answers-of-the-best"),
        pytest.param(0.1, 2.5, 1.0, id="none-after-25-of-them"),
    ],
)
def test_a_difference_fades(best: float, age: float, factor: float) -> None:
    """Four times slower is as good as any after 25 s, or 25 answers of the best if sooner."""
    assert of(4.0 * best).factor(best, age) == pytest.approx(factor)


def test_one_long_answer_is_no_slow_replica() -> None:
    """Among equals, no single answer is enough for being passed over."""
    assert of(*[1.0] * 5, 300.0).factor(1.0, 0.0) == 1.0


def test_two_long_answers_are() -> None:
    assert of(*[1.0] * 5, 300.0, 300.0).factor(1.0, 0.0) == pytest.approx(1.96)


@given(st.lists(seconds, min_size=1, max_size=20), st.floats(0.0, 40.0))
def test_an_average_lies_among_its_samples(samples: list[float], pause: float) -> None:
    latency = Latency()
    for index, sample in enumerate(samples):
        latency.add(sample, index * pause)
    value = latency.value((len(samples) - 1) * pause)
    least, most = (max(edge, LEAST_SECONDS) for edge in (min(samples), max(samples)))
    assert value is not None
    assert least - 1e-9 <= value <= most + 1e-9


@given(st.lists(seconds, max_size=9), st.floats(LEAST_SECONDS, 300.0), st.floats(0.0, 60.0))
def test_a_factor_is_1_or_between_what_is_tolerated_and_4(
    samples: list[float], best: float, age: float
) -> None:
    factor = of(*samples).factor(best, age)
    assert factor == 1.0 or TOLERATED < factor <= MOST


@given(seconds, st.floats(LEAST_SECONDS, 300.0), st.floats(0.0, 60.0), st.floats(0.0, 60.0))
def test_a_factor_only_falls_with_age(own: float, best: float, age: float, more: float) -> None:
    latency = of(own)
    assert latency.factor(best, age + more) <= latency.factor(best, age)


@given(st.lists(seconds, max_size=9), st.floats(LEAST_SECONDS, 300.0))
def test_any_replica_is_as_good_as_the_best_in_the_end(samples: list[float], best: float) -> None:
    assert of(*samples).factor(best, FADES_SECONDS) == 1.0
