"""Waiting on the daemon, on a clock of the test's own."""

import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli.follow import Follower, TimedOut
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError


class Time:
    """A clock that only a pause moves; `at` runs what is due when it gets there."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Callable[[], object]] = {}

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def session(place: Path) -> Iterator[Session]:
    """A session whose daemon is this process, which holds a lock as a daemon does."""
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
        yield Session(environment=names)


def follower(session: Session, ticks: Time, **more: Any) -> Follower:
    return Follower(
        session=session, timeout_seconds=10.0, clock=ticks.clock, pause=ticks.pause, **more
    )


def test_until_it_is_done(session: Session, publish: Callable[..., Any]) -> None:
    """The first Status for which it is done is returned, and each one is shown."""
    ticks, shown = Time(), list[int]()
    publish(seq=1, at=time.time())
    ticks.at[3.0] = lambda: publish(seq=2, at=time.time())

    status = follower(session, ticks).until(
        lambda now: now["seq"] == 2, lambda now, _: shown.append(now["seq"])
    )

    assert status["seq"] == 2
    assert ticks.now == pytest.approx(3.0)
    assert set(shown) == {1, 2}


def test_no_status_yet_is_waited_for(session: Session, publish: Callable[..., Any]) -> None:
    """A daemon that has not published is given its time."""
    ticks = Time()
    ticks.at[1.0] = lambda: publish(seq=5, at=time.time())

    assert follower(session, ticks).until(lambda _: True, lambda *_: None)["seq"] == 5


def test_a_damaged_status_is_waited_out(
    session: Session, place: Path, publish: Callable[..., Any]
) -> None:
    """What an earlier daemon's crash left is written anew by the one that is waited for."""
    ticks = Time()
    (place / "status.json").write_text("{")
    ticks.at[1.0] = lambda: publish(seq=5, at=time.time())

    assert follower(session, ticks).until(lambda _: True, lambda *_: None)["seq"] == 5


def test_what_a_dead_daemon_left_does_not_count(
    session: Session, publish: Callable[..., Any]
) -> None:
    """A Status whose daemon has ended is no answer."""
    publish(stopping=True)

    with pytest.raises(TimedOut) as caught:
        follower(session, Time()).until(lambda _: True, lambda *_: None)

    assert caught.value.status is None


def test_it_ends_in_time(session: Session, publish: Callable[..., Any]) -> None:
    """A wait has a time-out, and carries the last Status seen."""
    ticks = Time()
    publish(seq=1)

    with pytest.raises(TimedOut) as caught:
        follower(session, ticks).until(lambda _: False, lambda *_: None)

    assert ticks.now == pytest.approx(10.0, abs=0.3)
    assert caught.value.status is not None


def test_a_guard_ends_the_wait(session: Session) -> None:
    """A daemon that has ended is not waited for."""

    def guard() -> None:
        raise GpuctlError("it ended")

    with pytest.raises(GpuctlError, match="it ended"):
        follower(session, Time(), guard=guard).until(lambda _: True, lambda *_: None)
