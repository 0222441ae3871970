"""Numbers as people read them."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.views import words


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (words.age, 42.9, "42 s"),
        (words.age, -1.0, "0 s"),
        (words.age, 7500.0, "2 h 5 m"),
        (words.short_age, 7500.0, "2 h"),
        (words.lasted, 0.25, "250 ms"),
        (words.size, 1.5 * 2**30, "1.5 GiB"),
        (words.share, 0.876, "88 %"),
        (words.degrees, 61.4, "61 °C"),
        (words.watts, 88.2, "88 W"),
        (words.number, 3, "3"),
    ],
)
def test_a_value(write: Callable[[Any], str], value: float, expected: str) -> None:
    """Each unit is written out, rounded to what a person needs."""
    assert write(value) == expected


@pytest.mark.parametrize(
    "write",
    [
        words.age, words.short_age, words.lasted, words.size, words.share, words.degrees,
        words.watts, words.number,
    ],
)  # fmt: skip
def test_what_is_not_reported_is_a_dash(write: Callable[[Any], str]) -> None:
    """None is never shown as zero."""
    assert write(None) == "-"


def test_counted() -> None:
    """One is singular."""
    assert (words.counted(1, "restart"), words.counted(2, "restart")) == ("1 restart", "2 restarts")
