"""A field of a document is what it should be, or it is said what is wrong and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl import json_fields
from gpuctl.json_fields import WrongError


def wrong(read: Callable[..., object], *arguments: Any) -> tuple[str, str]:
    with pytest.raises(WrongError) as caught:
        read(*arguments)
    return caught.value.place, caught.value.message


@pytest.mark.parametrize(
    ("read", "value"),
    [
        pytest.param(json_fields.text, "GPU-0", id="text"),
        pytest.param(json_fields.text, "x" * 95, id="the-longest-text"),
        pytest.param(json_fields.whole, 0, id="zero"),
        pytest.param(json_fields.whole, 2**63 - 1, id="the-largest"),
        pytest.param(json_fields.number, 0.5, id="a-fraction"),
        pytest.param(json_fields.number, 7, id="a-whole-number"),
        pytest.param(json_fields.ratio, 1, id="all-of-it"),
        pytest.param(json_fields.truth, False, id="false"),
    ],
)
def test_what_is_right_is_returned(read: Callable[[object, str], object], value: object) -> None:
    """As it is."""
    assert read(value, "a") == value


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        pytest.param(json_fields.text, "", 'a line of text, not ""', id="no-text"),
        pytest.param(json_fields.text, "a\nb", r'a line of text, not "a\nb"', id="two-lines"),
        pytest.param(json_fields.text, 7, "a line of text, not 7", id="a-number-for-text"),
        pytest.param(
            json_fields.text,
            "é" * 48,
            'a line of text, not "' + r"\u00e9" * 6 + "...",
            id="96-bytes",
        ),
        pytest.param(json_fields.whole, -1, "a whole number from 0, not -1", id="below-zero"),
        pytest.param(json_fields.whole, 2.0, "a whole number from 0, not 2.0", id="a-fraction"),
        pytest.param(json_fields.whole, True, "a whole number from 0, not true", id="truth"),
        pytest.param(
            json_fields.whole, 10**41, "a whole number from 0, not that number", id="too-large"
        ),
        pytest.param(json_fields.number, -0.1, "a number from 0, not -0.1", id="below-zero-too"),
        pytest.param(json_fields.number, True, "a number from 0, not true", id="truth-too"),
        pytest.param(json_fields.number, "1", 'a number from 0, not "1"', id="text-for-a-number"),
        pytest.param(json_fields.number, float("nan"), "a number from 0, not NaN", id="nan"),
        pytest.param(json_fields.ratio, 1.5, "from 0 to 1, not 1.5", id="a-percentage"),
        pytest.param(json_fields.truth, 1, "true or false, not 1", id="one"),
    ],
)
def test_what_is_wrong_is_shown(
    read: Callable[[object, str], object], value: object, message: str
) -> None:
    """As it stands in the document, cut where it is long."""
    assert wrong(read, value, "a.b") == ("a.b", f"it must be {message}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([], "it must be an object, not []", id="a-list"),
        pytest.param({"naem": 1}, "it has no field 'naem'; did you mean 'name'?", id="misspelt"),
        pytest.param({"zzz": 1}, "it has no field 'zzz'", id="unknown"),
    ],
)
def test_a_table_has_only_known_fields(value: object, message: str) -> None:
    """The nearest name is suggested."""
    assert wrong(json_fields.table, value, "a", ("name", "uuid")) == ("a", message)


def test_a_table_is_read() -> None:
    """Not all of its fields need be there, unless they are required."""
    found = json_fields.table({"name": "x"}, "a", ("name", "uuid"))
    json_fields.required(found, "a", ("name",))
    assert found == {"name": "x"}
    assert wrong(json_fields.required, found, "a", ("name", "uuid")) == ("a", "it lacks 'uuid'")


def test_what_is_inside_has_its_own_place() -> None:
    """By its index in a list, by its name in an object."""
    numbers, named = json_fields.list_of(json_fields.whole), json_fields.map_of(json_fields.whole)
    assert (numbers([1, 2], "a"), named({"x": 1}, "a")) == ((1, 2), {"x": 1})
    assert wrong(numbers, [1, -2], "a")[0] == "a[1]"
    assert wrong(named, {"x": -1}, "a")[0] == "a.x"
    assert wrong(numbers, {}, "a") == ("a", "it must be a list, not {}")
    assert wrong(named, [], "a") == ("a", "it must be an object, not []")
