"""Which replica one request goes to, as tables; what holds over many is in the properties."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.gateway.latency import Latency
from gpuctl.gateway.routing import STRATEGIES, Turn, prefer
from tests.gateway.traffic import Target

NOW = 100.0


def replica(name: str, *, seconds: float | None = None, age: float = 0.0, **fields: Any) -> Target:
    """Return one that answered in so many seconds, so long ago; None: never."""
    latency = Latency()
    if seconds is not None:
        latency.add(seconds, NOW - age)
    return Target(name=name, latency=latency, **{"slots": 4, **fields})


def chosen(strategy: str, *targets: Target, luck: float = 0.0, count: int = 0) -> str:
    """*luck*: 0 is the first of equals, just below 1 the last."""
    return STRATEGIES[strategy]([*targets], Turn(NOW, lambda: luck, count)).name


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param({"in_flight": 1}, {}, "b", id="less-in-flight"),
        pytest.param({"engine_waiting": 1}, {}, "b", id="less-in-the-engine's-queue"),
        pytest.param({"in_flight": 1}, {"slots": 1}, "a", id="a-slot-of-four-is-less-than-one"),
        pytest.param({"in_flight": 3, "slots": 8}, {"slots": 2}, "a", id="as-much-of-its-slots"),
        pytest.param({"weight": 0.4}, {}, "b", id="less-for-a-hot-one"),
        pytest.param({"weight": 0.4}, {"in_flight": 2}, "a", id="but-not-nothing"),
        pytest.param({"weight": 0.0}, {"in_flight": 3}, "b", id="nothing-for-the-hottest"),
        pytest.param({"weight": 0.0, "in_flight": 2}, {"weight": 0.0}, "b", id="all-are-hottest"),
        pytest.param({"seconds": 1.6}, {"seconds": 1.0}, "b", id="less-for-a-slow-one"),
        pytest.param({"seconds": 1.5}, {"seconds": 1.0}, "a", id="half-as-much-again-is-nothing"),
        pytest.param({"seconds": 3.9}, {"seconds": 1.0, "in_flight": 3}, "a", id="3.9-beats-4"),
        pytest.param({"seconds": 99.0}, {"seconds": 1.0, "in_flight": 3}, "a", id="99-counts-as-4"),
        pytest.param({"seconds": 4.0, "age": 25.0}, {"seconds": 1.0}, "a", id="slow-long-ago"),
        pytest.param({"seconds": 9.0}, {}, "a", id="nothing-is-known-of-the-other"),
        pytest.param({"seconds": 9.0}, {"seconds": 1.0, "age": 30.0}, "a", id="nor-any-more"),
    ],
)
def test_least_busy(first: dict[str, Any], second: dict[str, Any], expected: str) -> None:
    """The share of its slots with this request, times how slow it is, by its weight."""
    assert chosen("least_busy", replica("a", **first), replica("b", **second)) == expected


@pytest.mark.parametrize(
    ("luck", "expected"), [(0.0, "a"), (0.32, "a"), (0.34, "b"), (0.67, "d"), (0.9999, "d")]
)
@pytest.mark.parametrize("strategy", ["least_busy", "latency"])
def test_luck_among_equals(strategy: str, luck: float, expected: str) -> None:
    """Each of the three that are equal has a third of it; the busier one none."""
    names = ("a", "b", "busier", "d")
    targets = [replica(name, in_flight=int(name == "busier"), seconds=1.0) for name in names]
    assert chosen(strategy, *targets, luck=luck) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, "a"), (1, "b"), (2, "c"), (3, "a"), (7, "b")])
def test_round_robin(count: int, expected: str) -> None:
    """One after the other, busy or not."""
    targets = replica("a", in_flight=3), replica("b", seconds=9.0), replica("c")
    assert chosen("round_robin", *targets, count=count) == expected


def test_turns_of_the_absent_are_the_others_by_turns() -> None:
    """Of a, b, c and d only a and c take requests: each has its own turns and half the rest."""
    ring = [replica(name) for name in "abcd"]
    free = [ring[0], ring[2]]
    turns = (Turn(NOW, lambda: 0.0, count, ring) for count in range(8))
    names = [STRATEGIES["round_robin"](free, turn).name for turn in turns]
    assert "".join(names) == "aacaaccc"


def test_the_hottest_has_no_turn() -> None:
    targets = replica("a"), replica("b", weight=0.0), replica("c")
    assert [chosen("round_robin", *targets, count=count) for count in range(4)] == list("acac")


def test_the_hottest_alone_has_each() -> None:
    targets = replica("a", weight=0.0), replica("b", weight=0.0)
    assert [chosen("round_robin", *targets, count=count) for count in range(3)] == list("aba")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param({"seconds": 1.0}, {"seconds": 0.9}, "b", id="the-faster"),
        pytest.param({"seconds": 1.0, "in_flight": 1}, {"seconds": 1.9}, "b", id="with-its-load"),
        pytest.param({"seconds": 1.0, "in_flight": 1}, {"seconds": 2.1}, "a", id="and-its-speed"),
        pytest.param({"seconds": 1.0}, {}, "b", id="untried-first"),
        pytest.param({"seconds": 1.0}, {"seconds": 9.0, "age": 30.0}, "b", id="forgotten-first"),
        pytest.param({"seconds": 1.0}, {"in_flight": 1}, "a", id="untried-but-being-tried"),
        pytest.param({"seconds": 1.0}, {"weight": 0.0}, "a", id="untried-but-the-hottest"),
        pytest.param({"in_flight": 2}, {"in_flight": 1}, "b", id="nothing-known-of-any"),
        pytest.param({"seconds": 1.0, "weight": 0.4}, {"seconds": 2.0}, "b", id="hot"),
    ],
)
def test_latency(first: dict[str, Any], second: dict[str, Any], expected: str) -> None:
    """Its average times what is before this request; what is not known is tried by one."""
    assert chosen("latency", replica("a", **first), replica("b", **second)) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_only_one_is_chosen(strategy: str) -> None:
    only = replica("a", in_flight=3, weight=0.0, seconds=200.0)
    assert chosen(strategy, only, luck=0.9999, count=7) == "a"


#: A key that belongs to b of a, b and c, and then to a.
KEY = next(
    key
    for key in (str(number).encode() for number in range(1000))
    if [
        found.name
        for names in ("abc", "ac")
        if (found := prefer(ring := [replica(name) for name in names], ring, key)) is not None
    ]
    == ["b", "a"]
)


def with_b(**fields: Any) -> list[Target]:
    return [replica("a"), replica("b", **fields), replica("c")]


@pytest.mark.parametrize(
    ("ready", "free", "expected"),
    [
        pytest.param(with_b(), "abc", "b", id="idle"),
        pytest.param(with_b(in_flight=1), "abc", "b", id="one-more-than-another"),
        pytest.param(with_b(in_flight=2), "abc", None, id="two-more"),
        pytest.param(with_b(in_flight=2), "b", "b", id="only-it-is-free"),
        pytest.param(with_b(slots=64, in_flight=2), "abc", None, id="two-of-many"),
        pytest.param(with_b(), "ac", None, id="it-takes-nothing-now"),
        pytest.param(with_b(weight=0.0), "abc", None, id="the-hottest"),
        pytest.param(with_b(weight=0.0), "b", "b", id="the-hottest-alone"),
        pytest.param(with_b(weight=0.4, seconds=9.0), "abc", "b", id="hot-and-slow-is-no-reason"),
        pytest.param([replica("c"), replica("a")], "ac", "a", id="it-is-gone"),
    ],
)
def test_affinity(ready: list[Target], free: str, expected: str | None) -> None:
    """A key has its replica, as long as this is free and hardly busier than the idlest."""
    found = prefer(ready, [target for target in ready if target.name in free], KEY)
    assert (found and found.name) == expected
