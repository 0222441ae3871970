"""The ports in memory, for scenarios of the whole daemon without a thread, a sleep or a process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from gpuctl.act import Outcome
from gpuctl.errors import (
    ContainerMissing,
    NameTaken,
    RuntimeUnavailable,
    StartRefused,
    StoreError,
)
from gpuctl.history import REMEMBERED
from gpuctl.model import (
    ContainerReading,
    ContainerSpec,
    EngineStats,
    Event,
    GatewayReading,
    ProbeResult,
    ProbeSpec,
    RuntimeEvent,
)
from gpuctl.ports import World
from tests.fake_devices import FakeGpus, FakeHost, FakeKernelLog
from tests.make import AT, BOOT, NOW

METRICS = "llamacpp:tokens_predicted_total {tokens}\nllamacpp:requests_processing {running}\n"


@dataclass
class FakeClock:
    """Time that passes when a test says so."""

    seconds: float = NOW
    wall: float = AT
    boot_id: str = BOOT

    def now(self) -> float:
        return self.wall

    def boot_seconds(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Return at once: what is waited for is there, or is not."""

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += seconds


class FakeRuntime:
    """Containers in a dictionary; what was asked of it is in `calls`."""

    kind = "simulated"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.containers: dict[str, ContainerReading] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.calls: list[tuple[str, ...]] = []
        self.unreachable = False
        self.refuses: str = ""  # words for a start that is refused
        self.immortal: set[str] = set()  # ids that survive SIGKILL
        self.irremovable: set[str] = set()
        self.deaf: set[str] = set()  # ids that ignore SIGTERM
        self.images: set[str] = {"engine:1"}
        self.opens_gpus: dict[str, bool] = {}  # by id; who is not there does not tell
        self._ids = (f"c{number}" for number in count(1))

    def identity(self) -> str:
        return "fake"

    def list(self) -> tuple[ContainerReading, ...]:
        self._reach()
        at = self.clock.boot_seconds()
        return tuple(replace(c, boot_seconds=at) for c in tuple(self.containers.values()))

    def inspect(self, container: str) -> ContainerReading | None:
        self._reach()
        return self.containers.get(container) or self._named(container)

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        yield from ()

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        self._call("create", name)
        if self._named(name) is not None:
            raise NameTaken(f"{name} exists")
        if spec.image not in self.images:
            raise StartRefused(f"No such image: {spec.image}")
        id_ = next(self._ids)
        self.specs[id_] = spec
        self.containers[id_] = ContainerReading(
            id=id_,
            name=name,
            replica=labels["gpuctl.replica"],
            profile=labels["gpuctl.profile"],
            state="created",
            gpus=spec.gpus,
            attempt=labels["gpuctl.attempt"],
            digest=labels["gpuctl.digest"],
        )
        return id_

    def start(self, container: str) -> None:
        self._call("start", container)
        if container not in self.containers:
            raise ContainerMissing(container)
        if self.refuses:
            raise StartRefused(self.refuses)
        self._set(container, state="running", pid=1000 + int(container[1:]), exit_code=None)

    def signal(self, container: str, signal: str) -> None:
        self._call(signal, container)
        if container not in self.containers:
            raise ContainerMissing(container)
        if container in self.immortal or (signal == "SIGTERM" and container in self.deaf):
            return
        state = self.containers[container].state
        # A paused one hears nothing, and can be killed all the same.
        if state == "running" or (state == "paused" and signal == "SIGKILL"):
            self.die(container, 137 if signal == "SIGKILL" else 143)

    def rename(self, container: str, name: str) -> None:
        self._call("rename", container, name)
        if container not in self.containers:
            raise ContainerMissing(container)
        holder = self._named(name)
        if holder is not None and holder.id != container:
            raise NameTaken(f"{name} exists")
        self._set(container, name=name)

    def disconnect(self, container: str) -> None:
        self._call("disconnect", container)

    def remove(self, container: str) -> None:
        self._call("remove", container)
        if container in self.irremovable:
            raise RuntimeUnavailable(f"removal of {container} is stuck")
        if self.containers.pop(container, None) is None:
            raise ContainerMissing(container)

    def may_open_gpus(self, container: str) -> bool | None:
        self._reach()
        return self.opens_gpus.get(container)

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        return (f"last words of {container}",)

    def follow(self, container: str, lines: int) -> Iterator[str]:
        yield from ()

    def has_image(self, image: str) -> bool:
        return image in self.images

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        self._call("pull", image)
        self.images.add(image)

    def close(self) -> None:
        self.calls.append(("close",))

    def die(self, container: str, exit_code: int, **fields: Any) -> None:
        """What a test does to a container from outside."""
        self._set(container, state="exited", pid=None, exit_code=exit_code, **fields)

    def pause(self, container: str) -> None:
        """What another client may do to one that runs."""
        self._set(container, state="paused")

    def running(self) -> Sequence[str]:
        return [c.id for c in self.containers.values() if c.state == "running"]

    def _set(self, container: str, **fields: Any) -> None:
        self.containers[container] = replace(self.containers[container], **fields)

    def _named(self, name: str) -> ContainerReading | None:
        return next((c for c in self.containers.values() if c.name == name), None)

    def _call(self, *call: str) -> None:
        self._reach()
        self.calls.append(call)

    def _reach(self) -> None:
        if self.unreachable:
            raise RuntimeUnavailable("cannot connect to the Docker Engine")


@dataclass
class FakeProber:
    """Answers by port; a port without an entry answers ok and idle."""

    answers: dict[int, ProbeResult] = field(default_factory=dict)
    canaries: dict[int, bool] = field(default_factory=dict)
    warmups: dict[int, ProbeResult] = field(default_factory=dict)
    asked: int = 0

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        self.asked += 1
        idle = ProbeResult(outcome="ok", status=200, metrics=METRICS.format(tokens=1, running=0))
        return self.answers.get(spec.port, idle)

    def canary(self, spec: ProbeSpec) -> bool:
        return self.canaries.get(spec.port, True)

    def warm_up(self, spec: ProbeSpec, seconds: float) -> ProbeResult:
        return self.warmups.get(spec.port, ProbeResult(outcome="ok", status=200))


class FakeStore:
    """A journal that outlives the daemon that wrote it."""

    def __init__(self) -> None:
        self.stored: list[Event] = []
        self.status: dict[str, Any] = {}
        self.cautious = False
        self.full = False

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        if self.full:
            raise StoreError("state.db: database or disk is full")
        fresh = [replace(e, id=len(self.stored) + n) for n, e in enumerate(events, start=1)]
        self.stored += fresh
        return tuple(fresh)

    def events(self, *, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        found = tuple(event for event in self.stored if event.id > after)
        return found if limit is None else found[-limit:]

    def remembered(self) -> Iterator[Event]:
        yield from (event for event in self.stored if event.kind in REMEMBERED)

    def publish(self, status: str) -> None:
        self.status = json.loads(status)

    def close(self) -> None:
        self.full = False


@dataclass
class FakeGateway:
    reading: GatewayReading | None = None

    def read(self) -> GatewayReading | None:
        return self.reading


class Inline:
    """Workers that do a job where it is submitted, so that its time is the caller's."""

    def __init__(
        self,
        name: str,
        count: int,
        done: Callable[[str, Outcome], None],
        clock: Callable[[], float],
    ) -> None:
        self._done = done

    def submit(self, key: str, work: Callable[[], Outcome], seconds: float) -> None:
        self._done(key, work())

    def overdue(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        return


class Instant(threading.Event):
    """An event that is not waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class FakeWorld:
    """One of each fake, and the World made of them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock)
        self.gpus = FakeGpus()
        self.prober = FakeProber()
        self.host = FakeHost()
        self.store = FakeStore()
        self.gateway = FakeGateway()
        self.kernel_log = FakeKernelLog()
        self.world = World(
            runtime=self.runtime,
            gpus=self.gpus,
            prober=self.prober,
            host=self.host,
            store=self.store,
            clock=self.clock,
            gateway=self.gateway,
            kernel_log=self.kernel_log,
        )


def busy(tokens: float, running: int = 1) -> ProbeResult:
    """An answer of an engine at work that has made so many tokens."""
    return ProbeResult(
        outcome="ok", status=200, metrics=METRICS.format(tokens=tokens, running=running)
    )


def stats(text: str) -> EngineStats:
    """Read METRICS back: the reader of the engine that FakeProber plays."""
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines())
    return EngineStats(
        progress=float(numbers["llamacpp:tokens_predicted_total"]),
        running=int(numbers["llamacpp:requests_processing"]),
        waiting=0,
    )
