"""A line through points, checked against one worked out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from gpuctl.line import Line, even, fit, latest


def test_a_line_worked_out_by_hand() -> None:
    """
    Through (0,1) (1,3) (2,2) (3,5): the means are 1.5 and 2.75, so 5.5 / 5 is the slope 1.1.

    From 1.1 + 1.1 x the points are -0.1, 0.8, -1.3 and 0.6 away: squares of 2.7 over 2 degrees of
    freedom, over a spread of 5.
    """
    line = fit([(0, 1), (1, 3), (2, 2), (3, 5)])
    assert line is not None
    assert line.slope == pytest.approx(1.1)
    assert line.last == pytest.approx(4.4)
    assert line.growth == pytest.approx(3.3)
    assert line.slope_error == pytest.approx(math.sqrt(2.7 / 2 / 5))


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([], id="none"),
        pytest.param([(0, 1), (1, 2)], id="two: their line has no error"),
        pytest.param([(1, 1), (1, 2), (1, 3)], id="all at one moment"),
    ],
)
def test_no_line(points: list[tuple[float, float]]) -> None:
    assert fit(points) is None


@pytest.mark.parametrize(
    ("slope", "error", "rises", "falls"),
    [
        (2.1, 1.0, True, False),
        (2.0, 1.0, False, False),
        (-2.1, 1.0, False, True),
        (0.0, 0.0, False, False),
    ],
)
def test_a_slope_counts_beyond_two_errors(
    slope: float, error: float, rises: bool, falls: bool
) -> None:
    """Less than that may be chance."""
    line = Line(slope=slope, slope_error=error, last=0.0)
    assert (line.rises, line.falls) == (rises, falls)


def at_half_minutes(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(30.0 * number, value) for number, value in enumerate(values)]


def flat_and(*tail: float) -> list[tuple[float, float]]:
    """100 points, the last of which are these."""
    return at_half_minutes([0.0] * (100 - len(tail)) + list(tail))


@pytest.mark.parametrize(
    ("values", "slope"),
    [
        pytest.param([10.0 * n for n in range(12)], 1 / 3, id="a-rise"),
        pytest.param([-10.0 * n for n in range(12)], -1 / 3, id="a-fall"),
        pytest.param([10.0 * n for n in range(11)], None, id="quarters-of-two"),
        pytest.param([7.0] * 40, None, id="level"),
        pytest.param([0.0] * 20 + [1000.0] * 20, None, id="one-step-in-the-middle"),
        pytest.param([0.0] * 13 + [1000.0] * 27, None, id="one-step-between-quarters"),
        pytest.param([0.0] * 10 + [50.0] * 20 + [100.0] * 10, None, id="two-steps"),
        pytest.param([100.0 * math.log(n) for n in range(1, 41)], None, id="it-slows-down"),
        pytest.param([1.2**n for n in range(40)], None, id="it-runs-away"),
        pytest.param([float(abs(n - 20)) for n in range(40)], None, id="down-and-up"),
        pytest.param([0.0, 100.0] * 20, None, id="to-and-fro"),
    ],
)
def test_what_goes_one_way_all_along(values: list[float], slope: float | None) -> None:
    """Each quarter of the points must go the line's way, at a pace like the line's."""
    line = even(at_half_minutes(values))
    assert (line and line.slope) == (slope and pytest.approx(slope))


def test_quarters_at_one_moment_have_no_pace() -> None:
    """A clock that stood still for a while tells no rate of that while."""
    assert even([(float(max(n, 5)), float(n)) for n in range(20)]) is None


@pytest.mark.parametrize(
    ("points", "least", "slope"),
    [
        pytest.param(at_half_minutes([float(n) for n in range(100)]), 12, 1 / 30, id="all-of-it"),
        pytest.param(flat_and(*range(2, 52)), 12, 1 / 30, id="the-latest-half"),
        pytest.param(flat_and(*range(2, 27)), 12, 1 / 30, id="the-latest-quarter"),
        pytest.param(flat_and(*range(2, 27)), 26, None, id="a-quarter-is-too-few"),
        pytest.param(flat_and(*range(2, 12)), 12, None, id="less-than-a-quarter"),
        pytest.param(at_half_minutes([float(n) for n in range(13)]), 14, None, id="too-few"),
        pytest.param([], 12, None, id="none"),
    ],
)
def test_what_began_a_while_ago_is_found(
    points: list[tuple[float, float]], least: int, slope: float | None
) -> None:
    """What was before a trend began does not hide it for as long as it is remembered."""
    line = latest(points, least)
    assert (line and line.slope) == (slope and pytest.approx(slope))


def walk(chance: random.Random) -> list[float]:
    values = [0.0]
    for _ in range(99):
        values.append(values[-1] + chance.gauss(0.0, 64.0))
    return values


def stepped(chance: random.Random) -> list[float]:
    steps = [(chance.randrange(100), chance.uniform(2.0, 1000.0)) for _ in range(3)]
    return [
        sum(size for place, size in steps if place <= n) + chance.gauss(0.0, 1.0)
        for n in range(100)
    ]


def noise(chance: random.Random) -> list[float]:
    return [chance.gauss(0.0, 50.0) for _ in range(100)]


def leak(chance: random.Random) -> list[float]:
    """10 MiB a minute for the last 30 of 50 minutes, every reading 10 MiB off."""
    return [5.0 * max(0, n - 40) + chance.gauss(0.0, 10.0) for n in range(100)]


@pytest.mark.parametrize(
    ("made", "least", "most"),
    [
        pytest.param(walk, 0, 30, id="a-walk-without-drift"),
        pytest.param(stepped, 0, 10, id="three-steps-anywhere"),
        pytest.param(noise, 0, 10, id="noise"),
        pytest.param(leak, 990, 1000, id="a-leak"),
    ],
)
def test_how_often_a_trend_is_seen(
    made: Callable[[random.Random], list[float]], least: int, most: int
) -> None:
    """Of 1,000 histories (MiB): in 3 of 100 without a trend at most, in 99 of 100 with a leak."""
    chance = random.Random(1)
    found = [latest(at_half_minutes(made(chance)), 12) for _ in range(1000)]
    assert least <= sum(line is not None for line in found) <= most
