"""
The simulated machine: the host-state file with its faults, and the containers, behind one lock.

The four ports look at it and change it here, and nowhere else. Both files are looked at again with
every call and read only when they changed, so an edit is in force at once; nothing runs by itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gpuctl import host_state
from gpuctl.adapters.simulated.records import Container, Shelf, State
from gpuctl.errors import GpuctlError, RuntimeUnavailable
from gpuctl.host_state import Fault, HostState, XidState
from gpuctl.model import RuntimeEvent
from gpuctl.ports import Clock

#: Events kept for those who watch, who fall behind by a few at most.
_EVENTS = 4096
#: The exit code of a process that died of SIGKILL, as the kernel's OOM killer sends it: 128 + 9.
_KILLED = 137

Containers = Mapping[str, Container]


class Machine:
    """
    One simulated host; safe to use from any thread, and from several processes.

    Raises `UsageError` or `NotFound` at first when the host-state file is no such file. Once that
    has been read, a bad edit of it raises `RuntimeUnavailable` from every call until it is mended.
    """

    def __init__(self, path: Path, directory: Path | None, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self._shelf = Shelf(directory, clock.boot_id)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._known: Containers | None = None  # None: nobody has looked yet
        self._listening: dict[int, Container] = {}  # by port, of what is known
        self._events: deque[tuple[int, RuntimeEvent]] = deque(maxlen=_EVENTS)
        self._told = 0
        self.closed = False
        self._edit = _edit_of(path)
        self._take(host_state.read(path))

    def host(self) -> HostState:
        """Return the host as its file has it now."""
        with self._lock:
            edit = _edit_of(self.path)
            if edit != self._edit:
                try:
                    self._take(host_state.read(self.path))
                except GpuctlError as error:
                    raise RuntimeUnavailable(error.message, error.hint) from error
                self._edit = edit
            return self._host

    def fault(self, replica: str) -> Fault | None:
        """Return what was wrong with a replica when `host` or `settle` was last called."""
        return self._faults.get(replica)

    def containers(self) -> Containers:
        """Return every container, ours or not, by id."""
        with self._lock:
            now = self._shelf.read().containers
            self._note(now)
            return now

    def listener(self, port: int) -> Container | None:
        """Return the container that listens on a port."""
        with self._lock:
            self.containers()
            return self._listening.get(port)

    def change(self, step: Callable[[State], State]) -> None:
        """Replace the state by what *step* makes of it; what it raises changes nothing."""
        with self._lock, self._shelf.locked():
            before = self._shelf.read()
            self._note(before.containers)
            after = step(before)
            if after is not before:
                self._shelf.write(after)
                self._note(after.containers)

    def settle(self) -> Containers:
        """End what has a deadly fault, once for each edit of the file; return every container."""
        with self._lock:
            self.host()
            if self._deadly and self._doomed(self._shelf.read()):
                self.change(self._ended)
            return self.containers()

    def fresh_xids(self) -> tuple[XidState, ...]:
        """Return the Xids of the host-state file that nobody was told yet, and count them told."""
        xids, fresh = self.host().xids, list[XidState]()

        def step(state: State) -> State:
            fresh.extend(xids[state.xids_told :])
            return replace(state, xids_told=len(xids))

        if self._shelf.read().xids_told != len(xids):
            self.change(step)
        return tuple(fresh)

    def loaded_ratio(self, container: Container) -> float:
        """Return how much of its model a container has loaded, or had at its end (0-1)."""
        fault = self.fault(container.replica)
        slow = fault.number if fault is not None and fault.kind == "slow_load" else None
        seconds = self._host.load_seconds if slow is None else slow
        age = self.clock.boot_seconds() - container.started_boot_seconds
        if container.finished_at is not None:
            age = container.finished_at - (container.started_at or 0.0)
        return min(1.0, max(0.0, age) / seconds) if seconds else 1.0

    def watch(self) -> int:
        """Return the place in the events from where on a watcher has to be told."""
        with self._lock:
            self.settle()
            return self._told

    def events(self, since: int) -> tuple[int, tuple[RuntimeEvent, ...]]:
        """Return the events after that place, and the place after them."""
        with self._lock:
            return self._told, tuple(event for place, event in self._events if place > since)

    def wait(self, since: int, seconds: float) -> None:
        """Return when there is an event after that place, at the end, or after *seconds*."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._told > since, seconds)

    def close(self) -> None:
        """Let every watcher go."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, host: HostState) -> None:
        self._host = host
        faults = {name: host_state.parse_fault(text) for name, text in host.replicas.items()}
        self._faults = faults
        self._deadly = {name for name, fault in faults.items() if fault.kind in ("exit", "oom")}

    def _doomed(self, state: State) -> list[Container]:
        return [
            each
            for each in state.containers.values()
            if each.state == "running"
            and each.replica in self._deadly
            and state.suffered.get(each.replica) != self._edit
        ]

    def _ended(self, state: State) -> State:
        for each in self._doomed(state):
            fault = self._faults[each.replica]
            oom = fault.kind == "oom"
            code = _KILLED if oom else int(fault.number or 0)
            state = state.with_container(each.ended(code, self.clock.now(), oom_killed=oom))
            state = replace(state, suffered={**state.suffered, each.replica: self._edit})
        return state

    def _note(self, now: Containers) -> None:
        """Tell the watchers what has changed since the last look, by whomever."""
        before, self._known = self._known, now
        if before is now:
            return
        running = (each for each in now.values() if each.state == "running")
        self._listening = {each.port: each for each in running}
        if before is None:
            return
        for event in _changes(before, now, self.clock.now()):
            self._told += 1
            self._events.append((self._told, event))
        self._changed.notify_all()


def _edit_of(path: Path) -> int:
    """Return what tells one edit of the file from another; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0  # reading it says why


def _changes(before: Containers, now: Containers, at: float) -> Iterator[RuntimeEvent]:
    for id_ in before.keys() - now.keys():
        if before[id_].state == "running":
            yield _event("die", before[id_], at)
        yield _event("destroy", before[id_], at)
    for id_, new in now.items():
        old = before.get(id_)
        if old is new:
            continue
        started = new.started_at is not None and (old is None or new.started_at != old.started_at)
        if started:
            yield _event("start", new, new.started_at or at)
        if new.state == "exited" and (started or old is None or old.state != "exited"):
            if new.oom_killed:
                yield _event("oom", new, new.finished_at or at)
            yield _event("die", new, new.finished_at or at)


def _event(action: str, container: Container, at: float) -> RuntimeEvent:
    return RuntimeEvent(
        at=at,
        action=action,
        container=container.id,
        replica=container.replica,
        exit_code=container.exit_code if action == "die" else None,
    )
