"""What has happened between two looks at the processes, and waiting for the next."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator, Mapping
from threading import Event, Lock

from gpuctl.model import ContainerReading, RuntimeEvent

#: Ends of our engines and our own actions wake a watcher at once; what another process does in
#: the directory is seen this often.
RESCAN_SECONDS = 1.0

#: An engine's end is known a moment before its exit code is on disk.
SETTLE_SECONDS = 0.01

Readings = Mapping[str, ContainerReading]


def changes(before: Readings, now: Readings, at: float) -> Iterator[RuntimeEvent]:
    """Yield what turned *before* into *now*; *at* is the time of what leaves no time behind."""
    for identity in sorted({*before, *now}):
        old, new = before.get(identity), now.get(identity)
        if new is not None:
            yield from _changes(old, new, at)
        elif old is not None:
            if old.state == "running":
                yield _event("die", old, at)
            yield _event("destroy", old, at)


def _changes(
    old: ContainerReading | None, new: ContainerReading, at: float
) -> Iterator[RuntimeEvent]:
    if old is not None and old.name != new.name:
        yield _event("rename", new, at)
    ran = old is not None and old.state == "running"
    if new.started_at is not None and (old is None or new.started_at != old.started_at):
        if ran:
            yield _event("die", new, at)
        yield _event("start", new, new.started_at)
        ran = True
    if ran and new.state != "running":
        ended_at = at if new.finished_at is None else new.finished_at
        if new.oom_killed:
            yield _event("oom", new, ended_at)
        yield _event("die", new, ended_at, exit_code=new.exit_code)


def _event(
    action: str, reading: ContainerReading, at: float, exit_code: int | None = None
) -> RuntimeEvent:
    return RuntimeEvent(
        at=at, action=action, container=reading.id, replica=reading.replica, exit_code=exit_code
    )


class Waker:
    """Wakes every watcher of one runtime: by our own actions, an engine's end, or its closing."""

    def __init__(self, rescan_seconds: float = RESCAN_SECONDS) -> None:
        self._rescan_seconds = rescan_seconds
        self.closed = Event()
        self._lock = Lock()
        self._watchers: set[int] = set()

    def join(self) -> int:
        """Return a file descriptor that becomes readable when there is something to see."""
        watcher = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        with self._lock:
            self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: int) -> None:
        with self._lock:
            self._watchers.discard(watcher)
        os.close(watcher)

    def wake(self) -> None:
        with self._lock:
            for watcher in self._watchers:
                os.eventfd_write(watcher, 1)

    def close(self) -> None:
        self.closed.set()
        self.wake()

    def wait(self, watcher: int, pids: Iterable[int]) -> None:
        """Return when woken, when one of *pids* has ended, or after `rescan_seconds`."""
        ends: set[int] = set()
        poll = select.poll()
        poll.register(watcher, select.POLLIN)
        try:
            for pid in pids:
                ends.add(end := os.pidfd_open(pid))
                poll.register(end, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(self._rescan_seconds * 1000)}
            if ready & ends:
                self.closed.wait(SETTLE_SECONDS)
        except ProcessLookupError:
            return  # ended since it was read: look again at once
        finally:
            for end in ends:
                os.close(end)
        if watcher in ready:
            os.eventfd_read(watcher)
