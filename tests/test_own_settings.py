"""What stands in a profile is the operator's, however it was written."""

from __future__ import annotations

import pytest

from gpuctl.model import Json, Tuned
from gpuctl.own_settings import own, said, twice, uncounted, where
from gpuctl.plugin import Unfit
from tests.engines.make import workload


@pytest.mark.parametrize(
    ("args", "value"),
    [
        pytest.param(("--size", "9"), "9", id="a word after it"),
        pytest.param(("--size=9", "--more"), "9", id="a word in it"),
        pytest.param(("--size",), "--size", id="alone"),
        pytest.param(("--size", "--more"), "--size", id="before another flag"),
        pytest.param(("-s", "1"), "1", id="by its short name"),
        pytest.param(("--size", "9", "-s", "1"), "1", id="the last of several"),
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


FLAGS = {"size": ("--size", "-s"), "more": ("--more",), "none": ()}


def test_what_the_args_say() -> None:
    """An option counts that stands there, by its word or, without one, by its flag."""
    assert said(workload(args=("-s=9", "--more", "--other")), FLAGS) == {
        "size": "9",
        "more": "--more",
    }


def test_where_it_stands() -> None:
    """A message names the key to change."""
    chosen = workload(args=("--size", "9"), options={"more": 1})
    assert [where(chosen, key, FLAGS[key]) for key in FLAGS] == [
        "args",
        "options.more",
        "options.none",
    ]


def test_what_is_said_twice() -> None:
    """An option and its flag are a mistake, whoever wrote the option."""
    chosen = workload(
        options={"size": 9, "more": 1, "none": 0},
        args=("--size", "8", "--more"),
        set_by={"more": "MORE"},
    )
    assert list(twice(chosen, FLAGS)) == [
        Unfit(key="args", what="--size stands beside options.size", hint="keep one of them"),
        Unfit(
            key="args",
            what="--more stands beside options.more (from MORE)",
            hint="keep one of them",
        ),
    ]
    assert list(twice(workload(options={"size": None}, args=("-s", "1")), FLAGS)) == []


def test_what_nobody_sums() -> None:
    """A flag is named once, with where its VRAM can be stated."""
    note = "--lora stands in args and is not in this sum: say the whole with `vram`"
    chosen = workload(args=("--lora=a", "--lora", "b", "--verbose"))
    assert list(uncounted(chosen, ("--lora",))) == [note]
