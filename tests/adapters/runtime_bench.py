"""What the tests of a Runtime work with: a bench for one engine, and a watcher of its events."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from gpuctl.model import ContainerReading, ContainerSpec, RuntimeEvent
from gpuctl.ports import Runtime
from tests.rig import http
from tests.rig.waiting import wait_for

NAMES = itertools.count()


@dataclass(kw_only=True)
class Bench:
    """One runtime under test and what is needed to work on it."""

    client: Callable[[], Runtime]  # another client of the same engine
    spec: Callable[[int], ContainerSpec]  # a gpusim that answers on this port of loopback
    broken: ContainerSpec  # one whose program does not exist
    foreign: Callable[[], str]  # start something that is not ours; return its name or id
    alive: Callable[[str], bool]  # whether that is still running
    runtime: Runtime = field(init=False)
    opened: list[Runtime] = field(default_factory=list)  # to close at the end

    def __post_init__(self) -> None:
        self.runtime = self.open()

    def open(self) -> Runtime:
        """Return another client of the same engine; it is closed with the bench."""
        self.opened.append(self.client())
        return self.opened[-1]

    def create(self, port: int = 0, **labels: str) -> tuple[str, str]:
        """Create a gpusim; return its id and the replica's name."""
        replica = f"chat-{next(NAMES)}"
        spec = self.spec(port or http.free_port())
        container = self.runtime.create(f"gpuctl-{replica}", spec, marked(replica, **labels))
        return container, replica

    def started(self) -> tuple[str, int]:
        """Start a gpusim and wait until it answers; return its id and port."""
        port = http.free_port()
        container, _ = self.create(port)
        self.runtime.start(container)
        http.state(port)
        return container, port

    def read(self, container: str) -> ContainerReading:
        found = self.runtime.inspect(container)
        assert found is not None
        return found

    def ended(self, container: str) -> ContainerReading:
        """Wait until it has ended; return the reading."""

        def look() -> ContainerReading | None:
            found = self.read(container)
            return found if found.state == "exited" else None

        return wait_for(look, f"the end of {container}")

    def clear(self) -> None:
        """Kill and remove whatever is ours."""
        for found in self.runtime.list():
            self.runtime.signal(found.id, "SIGKILL")
            if found.state in ("running", "paused"):
                self.ended(found.id)
            self.runtime.remove(found.id)
        self.close()

    def close(self) -> None:
        """End every stream, and with it the thread of its watcher."""
        for runtime in self.opened:
            runtime.close()


def marked(replica: str, **labels: str) -> Mapping[str, str]:
    """Return the labels that `act` writes, with *labels* instead of the usual values."""
    values = {"schema": "1", "profile": "test", "replica": replica, "gpus": "GPU-a,GPU-b"}
    values |= {"attempt": "7", "digest": "v1:abc", **labels}
    return {f"gpuctl.{name}": value for name, value in values.items()}


class Watcher:
    """Collects a runtime's events in a thread."""

    def __init__(self, runtime: Runtime, since: float | None = None) -> None:
        self.events: list[RuntimeEvent] = []
        self._source = runtime.watch(since)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self) -> None:
        for event in self._source:
            self.events.append(event)

    def wait(self, action: str, container: str) -> RuntimeEvent:
        def look() -> RuntimeEvent | None:
            found = (
                e for e in tuple(self.events) if (e.action, e.container) == (action, container)
            )
            return next(found, None)

        return wait_for(look, f"a {action} event of {container}")


@pytest.fixture
def watched(bench: Bench) -> Callable[[], Watcher]:
    """Give a way to watch from now on."""
    return lambda: Watcher(bench.open(), time.time())
