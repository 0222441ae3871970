"""What stands in a profile is the operator's, however it was written."""

from __future__ import annotations

import pytest

from gpuctl.model import Json, Tuned
from gpuctl.own_settings import own
from tests.engines.make import workload


@pytest.mark.parametrize(
    ("args", "value"),
    [
        pytest.param(("--size", "9"), "9", id="a word after it"),
        pytest.param(("--size=9", "--more"), "9", id="a word in it"),
        pytest.param(("--size",), "--size", id="alone"),
        pytest.param(("--size", "--more"), "--size", id="before another flag"),
        pytest.param(("-s", "1"), "1", id="by its short name"),
    ],
)
def test_a_flag(args: tuple[str, ...], value: str) -> None:
    """A flag among the args counts, with its word where it has one."""
    found = own(workload(args=args), "size", ("--size", "-s"))
    assert found is not None
    assert (found.value, found.why, found.by_operator) == (value, "in the profile's args", True)


@pytest.mark.parametrize("value", [0, False, None, "text"])
def test_an_option(value: Json) -> None:
    """An option counts whatever its value, before a flag."""
    found = own(workload(options={"size": value}, args=("--size", "9")), "size", ("--size",))
    assert found is not None
    assert (found.value, found.why) == (value, "as the profile says")


def test_a_variable_is_named() -> None:
    """What came from the environment does not stand in the profile."""
    chosen = workload(options={"size": 9, "more": 1}, set_by={"size": "SIZE", "more": ""})
    assert [own(chosen, key, ()) for key in ("size", "more")] == [
        Tuned(key="size", value=9, why="from SIZE", by_operator=True),
        Tuned(key="more", value=1, why="as the profile says", by_operator=True),
    ]


def test_neither() -> None:
    """What the profile does not mention may be chosen."""
    assert own(workload(args=("--other", "--sizes", "1")), "size", ("--size",)) is None
