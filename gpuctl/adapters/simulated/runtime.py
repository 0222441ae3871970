"""Simulated containers behind the Runtime port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from gpuctl.adapters.simulated.machine import Containers, Machine
from gpuctl.adapters.simulated.records import Container, State
from gpuctl.errors import ContainerMissing, NameTaken, RuntimeUnavailable, StartRefused
from gpuctl.model import ContainerReading, ContainerSpec, RuntimeEvent

#: How often a watcher looks for edits of the host-state file and for what other processes did.
RESCAN_SECONDS = 0.25
#: The exit code Docker gives a container that could not be started.
REFUSED_EXIT_CODE = 128
#: What a process that dies of a signal exits with: 128 and the signal's number, signal(7).
EXIT_CODES = {"SIGTERM": 143, "SIGKILL": 137}
#: A simulated engine holds this share of its memory limit once its model is loaded.
_MEMORY_RATIO = 0.5


class SimulatedRuntime:
    """Containers that are written down and do nothing."""

    def __init__(self, machine: Machine, identity: str) -> None:
        self._machine, self._identity = machine, identity

    @property
    def kind(self) -> str:
        return "simulated"

    def identity(self) -> str:
        return self._identity

    def list(self) -> tuple[ContainerReading, ...]:
        boot_seconds = self._machine.clock.boot_seconds()
        found = self._machine.settle().values()
        return tuple(self._reading(each, boot_seconds) for each in found if each.replica)

    def inspect(self, container: str) -> ContainerReading | None:
        found = _found(self._machine.settle(), container)
        return self._reading(found, self._machine.clock.boot_seconds()) if found else None

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        # Looked at now, not when the first event is asked for: nothing in between is missed.
        place = self._machine.watch()
        return self._watch(place if since is None else 0, since or 0.0)

    def _watch(self, place: int, since: float) -> Iterator[RuntimeEvent]:
        while not self._machine.closed:
            self._machine.settle()
            place, events = self._machine.events(place)
            yield from (event for event in events if event.replica and event.at >= since)
            self._machine.wait(place, RESCAN_SECONDS)

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        container = Container(
            id=secrets.token_hex(32),
            name=name,
            labels=dict(labels),
            image=spec.image,
            port=spec.host_port,
            gpus=spec.gpus,
            vram_bytes=spec.vram_bytes,
            memory_limit_bytes=spec.memory_bytes,
        )

        def step(state: State) -> State:
            _refuse_taken(state.containers, name)
            return state.with_container(container)

        self._machine.change(step)
        return container.id

    def start(self, container: str) -> None:
        refusals: list[str] = []

        def step(state: State) -> State:
            found = _ours(state.containers, container)
            if found.state == "running":
                return state
            refusals.extend(self._refusals(found, state.containers))
            if refusals:
                refused = replace(found, error=refusals[0], exit_code=REFUSED_EXIT_CODE)
                return state.with_container(refused)
            running = self._running(found, state.next_pid)
            return replace(state.with_container(running), next_pid=state.next_pid + 1)

        self._machine.change(step)
        if refusals:
            raise StartRefused(refusals[0], "the host is simulated: look into its host-state file")

    def signal(self, container: str, signal: str) -> None:
        def step(state: State) -> State:
            found = _found(state.containers, container)
            if found is None or found.state != "running":
                return state
            ended = found.ended(EXIT_CODES[signal], self._machine.clock.now())
            return state.with_container(ended)

        self._machine.change(step)

    def rename(self, container: str, name: str) -> None:
        def step(state: State) -> State:
            found = _ours(state.containers, container)
            if found.name == name:
                return state
            _refuse_taken(state.containers, name)
            return state.with_container(replace(found, name=name))

        self._machine.change(step)

    def disconnect(self, container: str) -> None:
        self._machine.change(
            lambda state: state.with_container(replace(_ours(state.containers, container), port=0))
        )

    def remove(self, container: str) -> None:
        def step(state: State) -> State:
            found = _found(state.containers, container)
            if found is None:
                return state
            if found.state == "running":
                raise RuntimeUnavailable(
                    f"simulated host: {found.name} is running and cannot be removed",
                    "stop it first: SIGTERM, then SIGKILL",
                )
            return state.without(found.id)

        self._machine.change(step)

    def may_open_gpus(self, container: str) -> bool | None:
        return None  # `host.may_open_gpus` tells

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        written = self._written(_ours(self._machine.settle(), container))
        return written[-lines:] if lines > 0 else ()

    def follow(self, container: str, lines: int) -> Iterator[str]:
        place = self._machine.watch()
        found = _ours(self._machine.containers(), container)
        shown = max(0, len(self._written(found)) - lines)
        while True:
            written = self._written(found)
            yield from written[shown:]
            shown = len(written)
            if found.state != "running" or self._machine.closed:
                return
            self._machine.wait(place, RESCAN_SECONDS)
            place = self._machine.watch()
            left = _found(self._machine.containers(), found.id)
            if left is None:
                return
            found = left

    def has_image(self, image: str) -> bool:
        """Return True: there is nothing to fetch."""
        return True

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        """Say that it is there."""
        progress(f"{image}: simulated", 1.0)

    def close(self) -> None:
        self._machine.close()

    def _reading(self, container: Container, boot_seconds: float) -> ContainerReading:
        label = container.labels.get
        return ContainerReading(
            id=container.id,
            name=container.name,
            replica=container.replica,
            profile=label("gpuctl.profile", ""),
            state=container.state,
            pid=container.pid,
            started_at=container.started_at,
            finished_at=container.finished_at,
            exit_code=container.exit_code,
            oom_killed=container.oom_killed,
            error=container.error,
            gpus=tuple(uuid for uuid in label("gpuctl.gpus", "").split(",") if uuid),
            attempt=label("gpuctl.attempt", ""),
            digest=label("gpuctl.digest", ""),
            memory_bytes=held_bytes(self._machine, container),
            boot_seconds=boot_seconds,
        )

    def _running(self, container: Container, pid: int) -> Container:
        return replace(
            container,
            state="running",
            pid=pid,
            started_at=self._machine.clock.now(),
            started_boot_seconds=self._machine.clock.boot_seconds(),
            finished_at=None,
            exit_code=None,
            oom_killed=False,
            error="",
        )

    def _refusals(self, container: Container, others: Containers) -> Iterator[str]:
        """Yield why a real engine would not start it."""
        present = {gpu.uuid: gpu for gpu in self._machine.host().gpus}
        fault = self._machine.fault(container.replica)
        if fault is not None and fault.kind == "start_refused":
            yield f"{container.name}: the start is refused, as the host-state file says"
        for uuid in container.gpus:
            if uuid not in present:
                yield f"{container.name}: there is no GPU {uuid} on this host"
            elif present[uuid].lost:
                yield f"{container.name}: the GPU {uuid} is lost"
        for other in others.values():
            if other.state == "running" and container.port and other.port == container.port:
                yield f"port {container.port} on 127.0.0.1 is taken by {other.name}"

    def _written(self, container: Container) -> tuple[str, ...]:
        """Return its output, made up from what is known of it."""
        written: list[str] = []
        if container.started_at is not None:
            written.append(f"simulated {container.image or 'engine'}: loading the model")
            if self._machine.loaded_ratio(container) == 1.0:
                written.append(f"listening on 127.0.0.1:{container.port}")
        if container.state == "exited":
            why = "out of memory" if container.oom_killed else f"exit code {container.exit_code}"
            written.append(f"ended: {why}")
        return tuple(written)


def held_bytes(machine: Machine, container: Container) -> int | None:
    """Return the host RAM that a running container holds; it grows while the model loads."""
    if container.state != "running" or container.memory_limit_bytes is None:
        return None
    return int(_MEMORY_RATIO * machine.loaded_ratio(container) * container.memory_limit_bytes)


def _found(containers: Containers, container: str) -> Container | None:
    """Return one of ours by id or name."""
    found = containers.get(container)
    if found is None:
        found = next((each for each in containers.values() if each.name == container), None)
    return found if found is not None and found.replica else None


def _ours(containers: Containers, container: str) -> Container:
    found = _found(containers, container)
    if found is None:
        raise ContainerMissing(f"simulated host: {container} is not there")
    return found


def _refuse_taken(containers: Containers, name: str) -> None:
    holder = next((each for each in containers.values() if each.name == name), None)
    if holder is not None:
        raise NameTaken(f"simulated host: {holder.id[:12]} has the name {name} already")
