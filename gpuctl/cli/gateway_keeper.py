"""
Keeps a gateway running beside a daemon that no systemd looks after.

`step` decides, from what is wanted and what is there; the thread of `kept` looks once a second and
does it. A gateway outlives the daemon, and the next one's keeper finds it by its lock.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from gpuctl.cli import gateway_process
from gpuctl.cli.gateway_process import PROGRAM
from gpuctl.errors import GpuctlError

if TYPE_CHECKING:
    import subprocess

    from gpuctl.cli.session import Session
    from gpuctl.daemon import Daemon

log = logging.getLogger("gpuctl")

_LOOK_SECONDS = 1.0
#: From one start to the next: one that dies is back at once, one that cannot live is no load.
_PAUSES_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: One that ran for so long is no failure of its start.
_LIVED_SECONDS = 60.0
#: A line of it is some 500 bytes, so it has more than 100,000 requests.
_LOG_BYTES = 64 * 1024**2

Step = Literal["wait", "start", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a keeper remembers; times are of a monotonic clock."""

    starts: int = 0  # in a row, none of which lived
    started_at: float = 0.0  # the latest
    ending: bool = False  # it was told to end


class Process(Protocol):
    """The gateway that a keeper keeps."""

    def there(self) -> bool:
        """True while it runs, or has just been started."""

    def start(self) -> None:
        """Start one. Raises `GpuctlError`."""

    def end(self) -> None:
        """Ask it to end. Raises `GpuctlError`."""


def step(past: Past, now: float, *, wanted: bool, there: bool) -> tuple[Step, Past]:
    """
    Say what to do, and what to remember.

    1. one that is not wanted is told to end, once
    2. one that is there is left alone, and after a minute its start is forgiven
    3. one that is missing is started, after a pause that grows with every start in a row
    """
    if not wanted:  # 1
        return ("end", Past(ending=True)) if there and not past.ending else ("wait", past)
    if there:  # 2
        lived = past.starts > 0 and now - past.started_at >= _LIVED_SECONDS
        return "wait", Past() if lived else past
    pause = _PAUSES_SECONDS[min(past.starts - 1, len(_PAUSES_SECONDS) - 1)] if past.starts else 0.0
    if now - past.started_at < pause:  # 3
        return "wait", past
    return "start", Past(starts=past.starts + 1, started_at=now)


class Keeper:
    """One gateway, kept as long as it is wanted."""

    def __init__(
        self,
        process: Process,
        wanted: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process, self._wanted, self._now = process, wanted, now
        self._past = Past()

    def look(self) -> None:
        """Look once, and do what is to be done; what fails is told, and tried again."""
        there = self._process.there()
        todo, past = step(self._past, self._now(), wanted=self._wanted(), there=there)
        self._past = past
        try:
            if todo == "start":
                self._process.start()
            elif todo == "end":
                self._process.end()
        except (GpuctlError, OSError) as error:
            self._past = replace(past, ending=False)
            log.error("event=gateway_%s_failed error=%s", todo, json.dumps(str(error)))


class Own:
    """Implements `Process`: the gateway of these directories."""

    def __init__(self, session: Session, program: Sequence[str] = PROGRAM) -> None:
        self._session, self._program = session, program
        self._child: subprocess.Popen[bytes] | None = None

    def there(self) -> bool:
        trim(self._session.own.gateway_log)
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return True  # it may not hold its lock yet
            log.warning("event=gateway_ended pid=%d exit_code=%d", self._child.pid, code)
            self._child = None
        return gateway_process.running(self._session.own) is not None

    def start(self) -> None:
        self._child = gateway_process.start(self._session, self._program)
        log.info("event=gateway_started pid=%d", self._child.pid)

    def end(self) -> None:
        log.info("event=gateway_told_to_end")
        if self._child is not None:
            self._child.terminate()
        else:
            gateway_process.end(self._session.own)


def trim(path: str, most_bytes: int = _LOG_BYTES) -> None:
    """Put a log of *most_bytes* aside, as `.1`, that another process goes on appending to."""
    try:
        if os.stat(path).st_size >= most_bytes:
            shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("event=log_not_trimmed error=%s", json.dumps(str(error)))


def wanted(daemon: Daemon) -> bool:
    """Return whether the applied profile has a gateway, and was not taken down since."""
    latest = daemon.journal.history.intents.get("")
    down = latest is not None and latest.verb == "down"
    return daemon.arrangement.setting.profile.gateway is not None and not down


@contextmanager
def kept(session: Session, daemon: Daemon, program: Sequence[str] = PROGRAM) -> Iterator[None]:
    """Keep the daemon's gateway for a while; it runs on when that is over."""
    if session.simulate or _of_systemd(session):
        yield
        return
    keeper = Keeper(Own(session, program), lambda: wanted(daemon))
    over = threading.Event()

    def watch() -> None:
        keeper.look()
        while not over.wait(_LOOK_SECONDS):
            keeper.look()

    thread = threading.Thread(target=watch, name="gateway keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LOOK_SECONDS)


def _of_systemd(session: Session) -> bool:
    """
    Return whether a unit runs this process; the gateway has one of its own there.

    Source: systemd.exec(5), SYSTEMD_EXEC_PID; INVOCATION_ID would be inherited by a shell.
    """
    told = session.environment
    return "NOTIFY_SOCKET" in told or told.get("SYSTEMD_EXEC_PID") == str(os.getpid())
