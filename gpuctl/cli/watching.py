"""`top` and `gpus --watch`: a screen that is drawn again and again, until q is pressed."""

from __future__ import annotations

import json
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuctl import fast_status
from gpuctl.cli import readings
from gpuctl.cli.outcome import events
from gpuctl.cli.session import Session, out, show
from gpuctl.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Between two looks at the GPUs.
_GPUS_SECONDS = 1.0
#: The oldest event a screen can show is among these.
_EVENTS = 20


def top(session: Session, interval_seconds: float) -> None:
    """Show everything the daemon publishes, live. Raises `DaemonDown` when there is nothing."""
    from gpuctl.views import top as view

    console = out()

    def draw() -> RenderableType:
        status = session.status()
        recent = events(session, limit=_EVENTS)
        alive, lines, now = fast_status.alive(status), console.height, session.now()
        front = fast_status.gateway_line(status, session.seen.gateway, now)
        return view.screen(status, recent, alive=alive, now=now, lines=lines, gateway=front)

    session.status()
    _watch(draw, interval_seconds)


def gpus(session: Session, *, as_json: bool) -> None:
    """
    Show the GPUs, live, until q is pressed.

    In a pipe or a file, one line a GPU and reading until it is closed; as JSON one document a line.
    """
    from gpuctl.views import gpus as view
    from gpuctl.views import journal

    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        _watch(lambda: view.screen(readings.gpus(session), session.now()), _GPUS_SECONDS)
        return
    seen: dict[str, float | None] = {}  # UUID → when its last line was read
    while True:
        found = [gpu for gpu in readings.gpus(session) if seen.get(gpu["uuid"], 0.0) != gpu["at"]]
        seen |= {gpu["uuid"]: gpu["at"] for gpu in found}
        lines = view.lines(found, journal.moment(session.now()))
        if as_json and found:
            lines = iter([json.dumps({"schema": 1, "gpus": found})])
        for line in lines:
            show(line, flush=True)
        time.sleep(_GPUS_SECONDS)


def _watch(draw: Callable[[], RenderableType], interval_seconds: float) -> None:
    from rich.live import Live

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a live view needs a terminal", "`gpuctl status` prints to a pipe or file")
    with _keys() as pressed, Live(console=out(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(), refresh=True)
            if pressed(interval_seconds) in ("q", "Q", "\x1b"):
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a way to wait for one key, for at most so many seconds; "" when none was pressed."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    tty.setcbreak(descriptor)
    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
