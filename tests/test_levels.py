"""A place on a ladder, with a margin below each level."""

from __future__ import annotations

import pytest

from gpuctl.levels import above, below, level

LADDER = (("low", 0.0), ("mid", 50.0), ("high", 80.0))


@pytest.mark.parametrize(
    ("value", "before", "reached"),
    [
        pytest.param(49.9, "", "low", id="below"),
        pytest.param(50.0, "", "mid", id="at its beginning"),
        pytest.param(-5.0, "", "low", id="the lowest has no beginning"),
        pytest.param(48.0, "mid", "mid", id="held within the margin"),
        pytest.param(47.0, "mid", "mid", id="held at the margin"),
        pytest.param(46.9, "mid", "low", id="left below the margin"),
        pytest.param(48.0, "low", "low", id="the margin lets nobody in"),
        pytest.param(78.0, "mid", "mid", id="nor into a higher one"),
        pytest.param(78.0, "high", "high", id="which is held likewise"),
        pytest.param(48.0, "high", "mid", id="down past a level that it is within the margin of"),
        pytest.param(40.0, "high", "low", id="down two at once"),
        pytest.param(90.0, "low", "high", id="up two at once"),
        pytest.param(48.0, "unheard-of", "low", id="a level of another ladder is none"),
    ],
)
def test_level(value: float, before: str, reached: str) -> None:
    """A level is entered where it begins, and left only the margin below that."""
    assert level(value, LADDER, before=before, margin=3.0) == reached


@pytest.mark.parametrize(
    ("value", "before", "is_above", "is_below"),
    [
        pytest.param(50.0, False, False, False, id="at its limit"),
        pytest.param(50.1, False, True, False, id="above it"),
        pytest.param(49.9, False, False, True, id="below it"),
        pytest.param(45.1, True, True, True, id="within a tenth below"),
        pytest.param(45.0, True, False, True, id="a tenth below"),
        pytest.param(54.9, True, True, True, id="within a tenth above"),
        pytest.param(55.0, True, True, False, id="a tenth above"),
    ],
)
def test_limits(value: float, before: bool, is_above: bool, is_below: bool) -> None:
    """Once beyond its limit of 50 a value is so until it is a tenth on the other side."""
    assert above(value, 50.0, before=before) is is_above
    assert below(value, 50.0, before=before) is is_below
