"""A line through points, checked against one worked out by hand."""

from __future__ import annotations

import math

import pytest

from gpuctl.line import Line, fit


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
