"""No engine is supervised twice, also one that was away when its daemon began."""

import pytest

from gpuctl.cli.claim import Claim
from gpuctl.errors import LockHeld, RuntimeUnavailable
from tests.fakes import FakeClock, FakeRuntime


def test_an_engine_is_locked_once() -> None:
    """It is locked by its name before the first list, and not again."""
    locked: list[str] = []
    claim = Claim(FakeRuntime(FakeClock()), locked.append)

    claim.take()
    assert claim.runtime.list() == claim.runtime.list() == ()

    assert locked == ["fake"]


def test_an_engine_that_was_away_is_locked_when_it_is_back() -> None:
    """While it is away nothing is locked and nothing listed."""
    locked: list[str] = []
    engine = Away(FakeClock())
    runtime = Claim(engine, locked.append).runtime

    with pytest.raises(RuntimeUnavailable):
        runtime.list()
    assert locked == []

    engine.away = False
    assert runtime.list() == ()
    assert locked == ["fake"]


def test_another_s_engine_is_never_listed() -> None:
    """What another supervises stays unread, however often it is tried."""

    def held(_: str) -> None:
        raise LockHeld("another gpuctl supervises the engine")

    runtime = Claim(FakeRuntime(FakeClock()), held).runtime

    for _ in range(2):
        with pytest.raises(LockHeld):
            runtime.list()


def test_all_else_is_the_runtime_s_own() -> None:
    """Every other method reaches the runtime."""
    runtime = Claim(FakeRuntime(FakeClock()), print).runtime

    assert runtime.kind == "simulated"
    assert runtime.has_image("engine:1")


class Away(FakeRuntime):
    """An engine that cannot say who it is while it is away."""

    away = True

    def identity(self) -> str:
        if self.away:
            raise RuntimeUnavailable("no Docker Engine listens")
        return super().identity()
