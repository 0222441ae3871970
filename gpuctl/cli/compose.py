"""
The composition root: the only module that knows an adapter. Each is imported where it is needed,
so a command pays for what it uses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpuctl.cli import whose
from gpuctl.cli.session import Session
from gpuctl.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from gpuctl.adapters.kernel_log import SystemKernelLog
    from gpuctl.adapters.simulated import SimulatedHost
    from gpuctl.model import (
        Event,
        GpuIdentity,
        GpuReading,
        Inventory,
        Profile,
    )
    from gpuctl.ports import Clock, Gpus, Host, Runtime, World

Kind = Literal["docker", "process", "simulated"]


def world(session: Session, profile: Profile) -> World:
    """Return one of each adapter for supervising *profile*."""
    from gpuctl.adapters.gateway_file import GatewayFile
    from gpuctl.adapters.http import HttpProber
    from gpuctl.adapters.sqlite import SqliteStore
    from gpuctl.ports import World

    own = session.own
    simulated = _simulated(session) if session.simulate else None
    log = None if simulated else _kernel_log()
    return World(
        runtime=simulated.runtime if simulated else runtime(session, profile, log),
        gpus=simulated.gpus if simulated else _gpus(),
        prober=simulated.prober if simulated else HttpProber(),
        host=simulated.host if simulated else _host(session, kind(session, profile)),
        store=SqliteStore(Path(own.database), Path(own.status)),
        clock=clock(),
        gateway=GatewayFile(Path(own.gateway), clock()),
        kernel_log=log,
    )


def runtime(session: Session, profile: Profile, log: SystemKernelLog | None = None) -> Runtime:
    """
    Return where the profile's replicas run; *log* tells it of OOM kills that Docker does not tell.

    Raises:
        RuntimeUnavailable: the profile asks for Docker, and no engine answers.
    """
    if session.simulate:
        return _simulated(session).runtime
    if kind(session, profile) == "process":
        return _processes(session)
    from gpuctl.adapters.docker import DockerRuntime

    if log is None:
        return DockerRuntime(environment=session.environment)
    return DockerRuntime(environment=session.environment, starved=log.starved)


def kind(session: Session, profile: Profile | None) -> Kind:
    """
    Return where replicas run.

    A profile that leaves it open gets Docker where an engine answers, which is asked for here:
    what is applied never leaves it open (`resolved`, `settled`).
    """
    if session.simulate:
        return "simulated"
    wanted = profile.host.runtime if profile else "auto"
    if wanted != "auto":
        return wanted
    return "docker" if _docker_answers(session) else "process"


def resolved(session: Session, profile: Profile) -> Profile:
    """
    Return the profile with its runtime decided, as `up` applies it.

    What runs in one runtime is not seen from another: were it decided anew at each start of the
    daemon, an engine that happens to be away would be replaced by a second one on the same GPUs.
    """
    found = kind(session, profile)
    return profile if found == "simulated" else _in(profile, found)


def settled(session: Session, profile: Profile) -> Profile:
    """
    Return an applied profile with its runtime decided, asking nobody.

    One that an earlier version applied may leave it open. It is processes where those of this
    state directory are recorded, else Docker, which starts nothing where there is no engine.
    """
    if session.simulate or profile.host.runtime != "auto":
        return profile
    return _in(profile, "process" if _processes(session).list() else "docker")


def inventory(session: Session, profile: Profile | None, *, gpus: bool = True) -> Inventory:
    """
    Return what the host has; GPUs are read when *gpus* is true and the profile wants any.

    Raises:
        GpuUnavailable: they cannot be read.
    """
    from gpuctl.model import Inventory

    simulated = _simulated(session) if session.simulate else None
    where = kind(session, profile)
    host = simulated.host if simulated else _host(session, where)
    wanted = gpus and (profile is None or _wants_gpus(profile))
    found = tuple(_owned(gpu, host) for gpu in read_gpus(session)) if wanted else ()
    ours = _ours(session, profile, found)
    facts = next((gpu.facts for gpu in found if gpu.facts is not None), None)
    return Inventory(
        gpus=tuple(_identity(gpu, ours) for gpu in found),
        memory_total_bytes=host.read().memory_total_bytes,
        driver_version=facts.driver_version if facts is not None else None,
        cuda_version=facts.cuda_version if facts is not None else None,
        cpus=simulated.cpus if simulated else os.cpu_count() or 1,
        runtime=where,
        python=sys.executable,
    )


def read_gpus(session: Session) -> tuple[GpuReading, ...]:
    """Return every GPU as read now, by index. Raises `GpuUnavailable`."""
    gpus = _simulated(session).gpus if session.simulate else _gpus()
    try:
        return gpus.read()
    finally:
        gpus.close()


def clock() -> Clock:
    """Return the system's clock."""
    from gpuctl.adapters.clock import SystemClock

    return SystemClock()


def events(
    session: Session,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    subject: str | None = None,
) -> tuple[Event, ...]:
    """Return stored events, oldest first. Raises `StoreError` when there is no journal."""
    from gpuctl.adapters.sqlite import read_events
    from gpuctl.model import EventKind

    path = Path(session.seen.database)
    wanted = tuple(EventKind(kind) for kind in kinds)
    return read_events(path, after=after, limit=limit, kinds=wanted, subject=subject)


def stream(
    session: Session,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    subjects: Collection[str] = (),
    since: float = 0.0,
) -> Iterator[Event]:
    """Yield stored events oldest first, as they are asked for: they may be many."""
    from gpuctl.adapters.sqlite import Wanted, stream_events
    from gpuctl.model import EventKind

    wanted = Wanted(
        after=after,
        limit=limit,
        kinds=tuple(EventKind(kind) for kind in kinds),
        subjects=subjects,
        since=since,
    )
    return stream_events(Path(session.seen.database), wanted)


def ask(session: Session, verb: str, subject: str = "", **arguments: Any) -> int:
    """Send an Intent to the daemon; return its event's id. Raises `DaemonDown`, or the refusal."""
    from gpuctl.adapters.control import ask as send

    whose.refuse(session)
    return int(send(Path(session.seen.socket), verb, subject, **arguments)["event"])


def _simulated(session: Session) -> SimulatedHost:
    from gpuctl.adapters.clock import SystemClock
    from gpuctl.adapters.simulated import SimulatedHost

    return SimulatedHost(
        session.simulate, clock=SystemClock(), state_directory=Path(session.own.state)
    )


def _gpus() -> Gpus:
    from gpuctl.adapters.nvml import NvmlGpus

    return NvmlGpus()


def _kernel_log() -> SystemKernelLog:
    from gpuctl.adapters.kernel_log import SystemKernelLog

    return SystemKernelLog()


def _host(session: Session, runtime_kind: str) -> Host:
    from gpuctl.adapters.host import SystemHost
    from gpuctl.adapters.process import container_of

    whose = container_of if runtime_kind == "process" else None
    return SystemHost(Path(session.own.state), clock(), whose)


def _in(profile: Profile, runtime: Literal["docker", "process"]) -> Profile:
    return replace(profile, host=replace(profile.host, runtime=runtime))


def _processes(session: Session) -> Runtime:
    from gpuctl.adapters.process import ProcessRuntime

    return ProcessRuntime(Path(session.seen.state) / "processes")


def _docker_answers(session: Session) -> bool:
    from gpuctl.adapters.docker import DockerRuntime

    try:
        engine = DockerRuntime(environment=session.environment)
    except RuntimeUnavailable:
        return False
    try:
        engine.identity()
    except RuntimeUnavailable:
        return False
    finally:
        engine.close()
    return True


def _wants_gpus(profile: Profile) -> bool:
    return bool(profile.host.gpus) or any(w.gpus != "none" for w in profile.workloads)


def _ours(
    session: Session, profile: Profile | None, readings: Sequence[GpuReading]
) -> frozenset[str | int] | None:
    """
    Return the containers of ours, by their ids and first processes, to tell strangers from them.

    `None` where the runtime cannot be asked: then nobody is known to be a stranger.
    """
    if profile is None or not any(gpu.processes for gpu in readings):
        return None
    try:
        with closing(runtime(session, profile)) as found:
            containers = found.list()
    except RuntimeUnavailable:
        return None
    pids = (container.pid for container in containers if container.pid is not None)
    return frozenset((*(container.id for container in containers), *pids))


def _owned(gpu: GpuReading, host: Host) -> GpuReading:
    """Return the reading with the container and the name of each process."""
    processes = tuple(
        replace(
            process,
            container=process.container or host.container_of(process.pid),
            name=process.name or host.name_of(process.pid),
        )
        for process in gpu.processes or ()
    )
    return gpu if gpu.processes is None else replace(gpu, processes=processes)


def _identity(gpu: GpuReading, ours: frozenset[str | int] | None) -> GpuIdentity:
    from gpuctl.model import GpuIdentity

    strangers = [
        process
        for process in gpu.processes or ()
        if ours is not None and process.container not in ours and process.pid not in ours
    ]
    known = [process.used_bytes for process in strangers if process.used_bytes is not None]
    # Nobody there is nothing held; somebody, of whom it is not known whose he is, is not known.
    told = gpu.processes is not None and (ours is not None or not gpu.processes)
    return GpuIdentity(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        memory_total_bytes=gpu.memory_total_bytes,
        reserved_bytes=gpu.memory_reserved_bytes,
        compute_capability=gpu.compute_capability,
        foreign_bytes=sum(known) if told else None,
        foreign=tuple(f"{p.name or 'a process'} (pid {p.pid})" for p in strangers),
    )
