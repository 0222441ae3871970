"""Turns at the operator's endpoints: who waits goes on, in its order."""

from __future__ import annotations

from collections.abc import Callable

from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.turns import Turns


class Desk:
    """Two slots, and who is at them; what is to be called soon is called by `loop`."""

    def __init__(self) -> None:
        self.replica = Replica("", "", Gate(5, 1.0))
        self.replica.slots = 2
        self.soon: list[Callable[[], None]] = []
        self.turns = Turns(self.replica, self.soon.append)
        self.gone: list[str] = []

    @property
    def there(self) -> list[str]:
        return [str(who) for who in self.replica.open]

    def who(self, *names: str) -> list[Who]:
        """Return some that have asked."""
        made = [Who(self, name) for name in names]
        for each in made:
            self.turns.ask(each)
        return made

    def loop(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class Who:
    def __init__(self, desk: Desk, name: str) -> None:
        self.desk, self.name = desk, name

    def __str__(self) -> str:
        return self.name

    def turn(self, replica: Replica) -> None:
        if self.name == "refused":
            self.leave()
        else:
            replica.open[self] = 0.0

    def leave(self) -> None:
        self.desk.replica.open.pop(self, None)
        self.desk.gone.append(self.name)
        self.desk.turns.left(self)


def test_room() -> None:
    """Where there is room nobody waits."""
    desk = Desk()
    for each in desk.who("a", "b"):
        each.leave()
    assert (desk.there, desk.soon) == ([], [])


def test_order() -> None:
    """Who comes later goes later, and not past one that waits."""
    desk = Desk()
    first, second, *_ = desk.who("a", "b", "c", "d")
    assert desk.there == ["a", "b"]
    first.leave()
    desk.who("e")
    assert desk.there == ["b"]
    desk.loop()
    assert desk.there == ["b", "c"]
    second.leave()
    desk.loop()
    assert desk.there == ["c", "d"]


def test_left_while_it_waits() -> None:
    """One that has left is not called."""
    desk = Desk()
    first, _, third, _ = desk.who("a", "b", "c", "d")
    third.leave()
    first.leave()
    desk.loop()
    assert desk.there == ["b", "d"]


def test_refused_in_its_turn() -> None:
    """Many that leave as soon as it is their turn hold up nobody behind them."""
    desk = Desk()
    first, *_ = desk.who("a", "b", *["refused"] * 2000, "c")
    first.leave()
    desk.loop()
    assert (desk.there, len(desk.gone)) == (["b", "c"], 2001)
