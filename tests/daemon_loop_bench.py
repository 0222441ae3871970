"""A daemon whose notices a test answers, and an inbox in which time passes."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest

from tests import make
from tests.fakes import FakeClock
from tests.stage import Stage

OTHER = make.plan(make.replica("embed-0", gpus=()))


class Loop(Stage):
    """A stage on which something happens the next time the daemon gives a certain notice."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[tuple[str, Callable[[], None]]] = []

    def notify(self, word: str) -> None:
        super().notify(word)
        if self.script and self.script[0][0] == word:
            self.script.pop(0)[1]()

    def names(self) -> list[str]:
        return [row["name"] for row in self.fakes.store.status["replicas"]]


@pytest.fixture
def loop() -> Loop:
    return Loop()


class Quiet:
    """An inbox in which nothing comes: whoever waits for something lets the time pass."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.waited: list[float] = []  # seconds

    def get(self, timeout: float) -> str:
        self.waited.append(timeout)
        self._clock.advance(timeout)
        raise queue.Empty

    def put(self, message: object) -> None:
        return


def quiet(loop: Loop) -> Quiet:
    inbox = Quiet(loop.fakes.clock)
    loop.daemon._inbox = inbox  # type: ignore[assignment]
    return inbox
