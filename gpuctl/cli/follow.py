"""Waiting on the daemon: read its Status again and again, show progress, stop when told to."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuctl import fast_status
from gpuctl.cli.session import Session, err
from gpuctl.errors import DaemonDown, GpuctlError, StatusDamaged

if TYPE_CHECKING:
    from gpuctl.model.status import Status

Show = Callable[["Status", float], None]

#: A person sees a change within this; reading a small file five times a second costs nothing.
_EVERY_SECONDS = 0.2


class TimedOut(GpuctlError):
    """What was waited for did not come in time; `status` is the last seen."""

    def __init__(self, seconds: float, status: Status | None) -> None:
        super().__init__(
            f"not done after {seconds:g} s; the daemon goes on with it",
            "see `gpuctl status`, or wait longer with --timeout",
        )
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """How to wait; a test gives its own clock and pause."""

    session: Session
    timeout_seconds: float
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    guard: Callable[[], None] = lambda: None  # raises when there is nothing left to wait for

    def until(self, done: Callable[[Status], bool], show: Show) -> Status:
        """
        Return the first Status of a living daemon for which *done* is true.

        Raises:
            TimedOut: it did not come in time.
        """
        began, status = self.clock(), None
        while True:
            self.guard()
            seen = self._living()
            elapsed = self.clock() - began
            if seen is not None:
                status = seen
                show(status, elapsed)
                if done(status):
                    return status
            if elapsed >= self.timeout_seconds:
                raise TimedOut(self.timeout_seconds, status)
            self.pause(_EVERY_SECONDS)

    def _living(self) -> Status | None:
        try:
            status = fast_status.read(self.session.seen.status)[1]
        except (DaemonDown, StatusDamaged):  # the daemon that is waited for writes it anew
            return None
        return status if fast_status.alive(status) else None


@contextmanager
def progress(session: Session) -> Iterator[Show]:
    """Give a way to show progress on stderr: a live table on a terminal, else lines of changes."""
    if sys.stderr.isatty():
        with _live(session) as show:
            yield show
    else:
        yield _lines(session)


@contextmanager
def _live(session: Session) -> Iterator[Show]:
    from rich.live import Live

    from gpuctl.views import progress as view

    with Live(console=err(), transient=True, auto_refresh=False) as live:

        def show(status: Status, elapsed: float) -> None:
            live.update(view.live(status, session.now(), elapsed), refresh=True)

        yield show


def _lines(session: Session) -> Show:
    from gpuctl.views import progress as view

    before: list[Status] = []

    def show(status: Status, elapsed: float) -> None:
        for line in view.changes(before[-1] if before else None, status, elapsed):
            session.say(line)
        before[:] = [status]

    return show
