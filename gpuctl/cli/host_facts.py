"""
Where `doctor` gets its facts: every source of this host, or of a simulated one, with a deadline.

The composition root of the diagnosis: it knows the adapters, and turns their errors into data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuctl import __version__, fast_status
from gpuctl.cli import choose, compose, gateway_process, model_sources, planned
from gpuctl.cli.progress import Show
from gpuctl.cli.session import Session
from gpuctl.diagnosis.facts import DockerFacts, Facts, FilesFacts, Unread, Wanted
from gpuctl.errors import (
    GpuctlError,
    GpuUnavailable,
    NotFound,
    PlanRefused,
    ProfileError,
    RuntimeTimeout,
    RuntimeUnavailable,
)

if TYPE_CHECKING:
    from gpuctl.adapters.diagnosis import Places
    from gpuctl.model import GpuReading, Plan, Profile, Workload
    from gpuctl.ports import Gpus

#: Cards without nvidia-persistenced are initialised by the first question, for seconds each.
NVML_SECONDS = 15.0
#: For every source together: one that takes longer hangs.
_ALL_SECONDS = 20.0

#: NVML's codes that have a fix of their own. Source: nvml.h, nvmlReturn_t.
_NVML_REASONS = {
    4: "no_permission",
    9: "driver_not_loaded",
    12: "library_missing",
    18: "version_mismatch",
}
#: Events: enough to see a clock that was set lately.
_MOMENTS = 50
_SIMULATED = Unread(reason="simulated", message="the simulated host does not tell")


def gathered(session: Session, name: str | None, progress: Show) -> Facts:
    """
    Return what this host, or the simulated one, is like.

    Raises:
        NotFound: the profile that was named is not there.
    """
    wanted = _wanted(session, name)
    if session.simulate:
        return _simulated(session, wanted)
    from gpuctl.adapters import diagnosis
    from gpuctl.adapters.nvml import NvmlGpus

    profile = wanted.profile if wanted else None
    found = diagnosis.gather(
        {
            "driver": diagnosis.driver,
            "gpus": lambda: read_gpus(NvmlGpus(deadline_seconds=NVML_SECONDS)),
            "toolkit": partial(diagnosis.toolkit, session.environment),
            "cdi": diagnosis.cdi,
            "docker": lambda: docker(session, profile),
            "system": diagnosis.system,
            "service": lambda: diagnosis.service(_places(session)),
        },
        _ALL_SECONDS,
        progress,
    )
    wanted = decided(wanted, found["docker"]) if wanted else None
    facts = Facts(at=session.now(), wanted=wanted, **found)
    return _with_plan(session, facts, progress)


def read_gpus(gpus: Gpus) -> tuple[GpuReading, ...] | Unread:
    """Return every card, or why NVML told of none, in its own word."""
    with closing(gpus):
        try:
            return gpus.read()
        except GpuUnavailable as error:
            hung = "no_answer" if error.code is None else "nvml_failed"
            reason = _NVML_REASONS.get(error.code or 0, hung)
            return Unread(reason=reason, message=error.message)


def docker(session: Session, profile: Profile | None) -> DockerFacts | Unread:
    """Return the Docker Engine's settings, or why it told none."""
    from gpuctl.adapters.docker.about import about

    images = {workload.image for workload in profile.workloads} if profile else set()
    try:
        return about(session.environment, images - {""})
    except RuntimeTimeout as error:
        return Unread(reason="no_answer", message=error.message)
    except RuntimeUnavailable as error:
        denied = _caused_by(error, PermissionError)
        return Unread(reason="no_permission" if denied else "absent", message=error.message)


def _wanted(session: Session, name: str | None) -> Wanted | None:
    """Return the profile to look for: named, configured, applied, or none."""
    from gpuctl.profile import shipped

    if name is None:
        name = choose.configured(session)
    if name is None and session.simulate in shipped():
        name = session.simulate
    try:
        if name is None and not os.path.exists(session.own.applied):
            return None
        profile = choose.load(session, name) if name else choose.applied(session)
    except ProfileError as error:
        return Wanted(source=name or "", mistakes=error.mistakes)
    except NotFound:
        raise
    except GpuctlError as error:
        return Wanted(source=name or session.own.applied, mistakes=((error.message, error.hint),))
    return Wanted(
        source=profile.source or profile.host.name,
        profile=profile,
        runtime="simulated" if session.simulate else profile.host.runtime,
        in_docker_only=_in_docker_only(profile),
    )


def _in_docker_only(profile: Profile) -> tuple[str, ...]:
    from gpuctl.plugin import load_engines

    engines = load_engines()
    return tuple(
        workload.name
        for workload in profile.workloads
        if workload.engine in engines and "process" not in engines[workload.engine].runtimes
    )


def decided(wanted: Wanted, found: DockerFacts | Unread) -> Wanted:
    """Return it with its runtime decided: what leaves it open gets Docker where an engine is."""
    if wanted.runtime != "auto":
        return wanted
    absent = isinstance(found, Unread) and found.reason == "absent"
    return replace(wanted, runtime="process" if absent else "docker")


def _simulated(session: Session, wanted: Wanted | None) -> Facts:
    """Return what a simulated host tells: its GPUs, and the plan on them."""
    try:
        gpus: tuple[GpuReading, ...] | Unread = compose.read_gpus(session)
    except GpuUnavailable as error:
        reason = _NVML_REASONS.get(error.code or 0, "no_answer")
        gpus = Unread(reason=reason, message=error.message)
    facts = Facts(
        at=session.now(),
        wanted=wanted,
        gpus=gpus,
        **dict.fromkeys(
            ("driver", "toolkit", "cdi", "docker", "disks", "ports", "files", "system", "service"),
            _SIMULATED,
        ),
    )
    return _planned(session, facts)


def _with_plan(session: Session, facts: Facts, progress: Show) -> Facts:
    """Return the facts with those that a plan leads to: ports, files, disks."""
    from gpuctl.adapters import diagnosis

    facts = _planned(session, facts)
    plan = facts.wanted.plan if facts.wanted else None
    profile = facts.wanted.profile if facts.wanted else None
    runtime = facts.wanted.runtime if facts.wanted else "docker"
    numbers = _wanted_ports(profile, plan)
    found = diagnosis.gather(
        {
            "ports": lambda: diagnosis.ports(numbers, _ours(session, profile, numbers)),
            "files": lambda: _fetched(
                diagnosis.files(profile, plan, runtime, session.environment), profile
            ),
            "disks": partial(diagnosis.disks, _uses(session, facts)),
        },
        _ALL_SECONDS,
        progress,
    )
    return replace(facts, **found)


def _planned(session: Session, facts: Facts) -> Facts:
    wanted = facts.wanted
    if wanted is None or wanted.profile is None:
        return facts
    if facts.wants_gpus and isinstance(facts.gpus, Unread):
        return facts
    try:
        plan, _ = planned.made(session, wanted.profile)
        return replace(facts, wanted=replace(wanted, plan=plan))
    except PlanRefused as refused:
        *lines, last = refused.message.splitlines()
        hint = "; ".join(refused.hint.splitlines())
        mistakes = (*((line, "") for line in lines), (last, hint))
    except GpuctlError as error:
        mistakes = ((error.message, error.hint),)
    return replace(facts, wanted=replace(wanted, mistakes=mistakes))


def _wanted_ports(profile: Profile | None, plan: Plan | None) -> dict[int, str]:
    """Return who is to have each port; where there is no plan, those that are sure without it."""
    ports: dict[int, str] = {}
    if plan is not None:
        ports = {replica.spec.host_port: replica.name for replica in plan.replicas}
    elif profile is not None:
        ports = {
            workload.port + index: f"{workload.name}-{index}"
            for workload in profile.workloads
            for index in range(_sure(workload))
        }
    if profile is not None and profile.gateway is not None:
        ports[int(profile.gateway.listen.rpartition(":")[2])] = "the gateway"
    return ports


def _sure(workload: Workload) -> int:
    """Return how many replicas it has at least; how many GPUs "each" is, only a plan knows."""
    if workload.gpus == "none":
        return workload.replicas
    groups = 1 if workload.gpus == "each" else len(workload.gpus)
    return groups * workload.replicas_per_gpu


def _ours(session: Session, profile: Profile | None, wanted: Mapping[int, str]) -> frozenset[int]:
    """Return the ports that replicas and the gateway hold which run already."""
    if profile is None:
        return frozenset()
    running: set[str] = set()
    with suppress(RuntimeUnavailable), closing(compose.runtime(session, profile)) as runtime:
        running = {each.replica for each in runtime.list() if each.state == "running"}
    ours = {port for port, owner in wanted.items() if owner in running}
    if gateway_process.running(session.seen) is not None:
        listen = str(fast_status.gateway(session.seen.gateway).get("listen"))
        there = (listen.rpartition(":")[2], "the gateway")
        ours |= {port for port, owner in wanted.items() if (str(port), owner) == there}
    return frozenset(ours)


def _fetched(found: FilesFacts, profile: Profile | None) -> FilesFacts:
    """Return the files, each model with the command that fetches it."""
    needs = tuple(model_sources.needs(profile)) if profile is not None else ()
    commands = {
        (need.workload, str(path)): model_sources.pull_command(need)
        for need in needs
        for path in need.paths
    }
    models = (
        replace(file, fetch=commands.get((file.workload, file.path), "")) for file in found.models
    )
    return replace(found, models=tuple(models))


def _uses(session: Session, facts: Facts) -> list[tuple[str, str, bool]]:
    """Return what is kept where: (use, path, whether it is written)."""
    uses = [("state", session.own.state, True)]
    here = isinstance(facts.docker, DockerFacts) and not isinstance(facts.docker.config, Unread)
    if isinstance(facts.docker, DockerFacts) and here:
        uses.append(("Docker", facts.docker.root_directory, True))
    profile = facts.wanted.profile if facts.wanted else None
    for workload in profile.workloads if profile else ():
        for mount in workload.mounts:
            if os.path.isabs(mount.source):
                uses.append((f"{workload.name}: {mount.target}", mount.source, not mount.read_only))
    return uses


def _places(session: Session) -> Places:
    from gpuctl.adapters.diagnosis import Places

    package = Path(str(resources.files("gpuctl")))
    installed = package / "data" / "units"
    units = installed if installed.is_dir() else package.parent / "units"
    places = partial(
        Places,
        version=__version__,
        state=Path(session.own.state),
        socket=Path(session.seen.socket),
        shipped_unit=units / "gpuctl.service",
        moments=_moments(session),
    )
    try:
        status = session.status()
    except GpuctlError:
        return places()
    return places(
        daemon_version=status["daemon"]["version"],
        daemon_alive=fast_status.alive(status),
        daemon_stopped=bool(status.get("stopping")),
    )


def _moments(session: Session) -> tuple[tuple[float, float], ...]:
    boot_id = compose.clock().boot_id
    try:
        events = compose.events(session, limit=_MOMENTS)
    except GpuctlError:
        return ()
    return tuple((each.at, each.boot_seconds) for each in events if each.boot_id == boot_id)


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Return whether *kind* is what an error was made from; the SDK nests causes in args too."""
    pending: list[Any] = [error]
    while pending:
        link = pending.pop()
        if isinstance(link, kind):
            return True
        if isinstance(link, BaseException):
            pending += [link.__cause__, link.__context__, *link.args]
    return False
