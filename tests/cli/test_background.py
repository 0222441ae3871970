"""A daemon in the background."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuctl.cli import background
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError


@pytest.fixture
def session(place: Path) -> Session:
    names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
    return Session(environment={**os.environ, **names})


def until_it_raises(guard: Callable[[], None]) -> None:
    while True:
        guard()


def test_only_a_spawned_daemon_is_ended(session: Session, place: Path) -> None:
    """A daemon that `up` put in the background is ended by `down`; a unit's is not."""
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    ours, other = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
    try:
        (place / "spawned.pid").write_text(f"{ours.pid}\n")

        assert not background.end(session, other.pid)
        assert background.end(session, ours.pid)

        assert ours.wait(10) == -signal.SIGTERM
        assert other.poll() is None
        assert not (place / "spawned.pid").exists()
    finally:
        other.kill()
        other.wait()


def test_nothing_was_spawned(session: Session) -> None:
    """Without a note of a daemon there is none to end."""
    assert not background.end(session, 1)


@pytest.mark.program
def test_a_daemon_that_ends_at_once_is_explained(session: Session) -> None:
    """Its exit code and its last words come with the error."""
    guard = background.ensure(session)  # nothing is applied here, so it cannot go on

    with pytest.raises(GpuctlError, match="no profile is applied") as caught:
        until_it_raises(guard)

    assert "exit code 2" in caught.value.message
    assert "gpuctl daemon" in caught.value.hint
