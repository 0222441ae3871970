"""Those that wait: whose turn it is, who has to go, and that nothing stays of who has left."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gpuctl.gateway.queue import Queue


@dataclass(frozen=True, eq=False)
class Waiter:
    name: str
    key: str = ""
    priority: int = 5
    since: float = 0.0


def queue(*waiters: Waiter, model: str = "chat") -> Queue[Waiter]:
    made: Queue[Waiter] = Queue()
    for waiter in waiters:
        made.add(model, waiter)
    return made


def names(waiters: list[Waiter]) -> list[str]:
    return [waiter.name for waiter in waiters]


@pytest.mark.parametrize(
    ("waiters", "in_flight", "first"),
    [
        pytest.param([Waiter("a"), Waiter("b")], {}, "a", id="in the order they came"),
        pytest.param([Waiter("a", since=2), Waiter("b", since=1)], {}, "b", id="the oldest"),
        pytest.param(
            [Waiter("a", "x"), Waiter("b", "y", since=1)], {"x": 1}, "b", id="the idle key"
        ),
        pytest.param(
            [Waiter("a", "x"), Waiter("b", "y", since=-1)],
            {"x": 1, "y": 1},
            "b",
            id="the oldest of keys as busy",
        ),
        pytest.param(
            [Waiter("a"), Waiter("b", "x", priority=6)], {"x": 9}, "b", id="the urgent one"
        ),
    ],
)
def test_whose_turn_it_is(waiters: list[Waiter], in_flight: dict[str, int], first: str) -> None:
    """Priority, then the key with the fewest requests in flight, then age."""
    found = queue(*waiters).first(["chat"], lambda waiter: True, in_flight)
    assert found is not None
    assert found.name == first


def test_it_is_the_turn_of_none_that_has_no_place() -> None:
    """Only models that have a place count, and of their waiters those that suit."""
    made = queue(Waiter("a", priority=9))
    made.add("embed", Waiter("b"))
    made.add("embed", Waiter("c"))
    chosen = made.first(["embed"], lambda waiter: waiter.name != "b", {})
    assert chosen is not None
    assert chosen.name == "c"
    assert made.first(["embed"], lambda waiter: False, {}) is None
    assert made.first([], lambda waiter: True, {}) is None


def test_who_has_left_is_gone() -> None:
    """Leaving twice is leaving once; nothing is kept for models that nobody waits for."""
    a, b, c = Waiter("a"), Waiter("b"), Waiter("c", "x")
    made = queue(a, b)
    made.add("embed", c)
    assert (len(made), made.models(), names(made.of("chat"))) == (3, ["chat", "embed"], ["a", "b"])
    made.discard(a)
    made.discard(a)
    made.discard(c)
    assert (names([*made]), made.models(), made.of("embed")) == (["b"], ["chat"], [])
    made.add("chat", c)
    made.discard(b)
    made.discard(c)
    assert (len(made), made.models(), made.last()) == (0, [], None)


def test_all_are_gone_through_whatever_becomes_of_them() -> None:
    """Who goes through all may take each out."""
    made = queue(Waiter("a"), Waiter("b"), Waiter("c"))
    for waiter in made:
        made.discard(waiter)
    assert len(made) == 0


@pytest.mark.parametrize(
    ("waiters", "last"),
    [
        pytest.param([Waiter("a"), Waiter("b")], "b", id="the youngest"),
        pytest.param([Waiter("a", priority=1), Waiter("b")], "a", id="of the lowest priority"),
        pytest.param(
            [Waiter("a", "x"), Waiter("b", "x"), Waiter("c", "y")], "b", id="of the largest crowd"
        ),
    ],
)
def test_who_has_to_go(waiters: list[Waiter], last: str) -> None:
    """Of the lowest priority the youngest of the key that has the most waiting."""
    found = queue(*waiters).last()
    assert found is not None
    assert found.name == last


def test_a_crowd_is_counted_over_all_models() -> None:
    """A key that waits for two models has waiting what it has for both."""
    made = queue(Waiter("a", "x"), Waiter("b", "y"), Waiter("c", "y"))
    made.add("embed", Waiter("d", "x"))
    made.add("embed", Waiter("e", "x"))
    last = made.last()
    assert last is not None
    assert last.name == "e"


@pytest.mark.parametrize(
    ("newcomer", "yields"),
    [
        pytest.param(Waiter("n", "x", priority=6), True, id="more urgent"),
        pytest.param(Waiter("n", "z", priority=4), False, id="less urgent"),
        pytest.param(Waiter("n", "z"), True, id="a key with none waiting"),
        pytest.param(Waiter("n", "y"), False, id="a key that would have as many"),
        pytest.param(Waiter("n", "x"), False, id="the same key"),
    ],
)
def test_who_gives_way_to_whom(newcomer: Waiter, yields: bool) -> None:
    """Only to what is more urgent, or to a key that has fewer waiting even with it."""
    last = Waiter("c", "x")
    made = queue(Waiter("a", "x"), Waiter("b", "y"), last)
    assert made.yields(last, newcomer) is yields
