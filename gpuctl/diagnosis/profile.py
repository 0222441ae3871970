"""Can this host carry the profile: its plan, ports, memory, files and programs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpuctl.diagnosis.facts import (
    Facts,
    FileFacts,
    FilesFacts,
    PortFacts,
    Step,
    SystemFacts,
    Unread,
)
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn
from gpuctl.model import GIB, Replica
from gpuctl.quantities import format_bytes

#: Workers of one replica hand tensors to each other there; vLLM's own documentation asks for
#: gigabytes, and Docker's default is 64 MiB.
_LEAST_SHM_BYTES = GIB
_UNLIMITED = -1


def plan(facts: Facts) -> Iterator[Finding]:
    """Judge the profile by itself and on this host, as `gpuctl check` does."""
    wanted = facts.wanted
    if wanted is None:
        yield skip("plan", "no profile is named, configured or applied")
        return
    for message, fix in wanted.mistakes:
        yield fail("plan", "plan_refused", message, fix)
    if wanted.plan is None:
        if not wanted.mistakes:
            yield skip("plan", "the GPUs cannot be read, so nothing can be planned", "no_answer")
        return
    for warning in wanted.plan.warnings:
        yield warn("plan", "plan_warning", warning, "`gpuctl plan` has the whole sum")
    if not wanted.plan.warnings and not wanted.mistakes:
        count = len(wanted.plan.replicas)
        replicas = "1 replica" if count == 1 else f"{count} replicas"
        yield ok("plan", f"{wanted.source}: {replicas}")


def ports(found: tuple[PortFacts, ...], facts: Facts) -> Iterator[Finding]:
    """Judge whether every port is free, or held by whom of ours is to have it."""
    for port in (each for each in found if each.state == "taken"):
        holder = port.holder or "somebody this user may not see"
        message = f"{port.number} for {port.owner} is taken by {holder}"
        fix = f"sudo ss -ltnp 'sport = :{port.number}'; end that, or choose another port"
        yield fail("ports", "port_taken", message, fix)
    if not found:
        broken = facts.wanted is not None and bool(facts.wanted.mistakes)
        why = "the profile has mistakes" if broken else "no profile"
        yield skip("ports", f"{why}, so no ports are known")
    elif all(port.state != "taken" for port in found):
        ours = sum(port.state == "ours" for port in found)
        planned = facts.wanted is not None and facts.wanted.plan is not None
        rest = "" if planned else "; without a plan, of each workload only what it surely has"
        yield ok("ports", f"{len(found) - ours} free, {ours} held by gpuctl{rest}")


def memory(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge host RAM and swap against what the limits of the replicas add up to."""
    replicas = _replicas(facts)
    limits = sum(replica.spec.memory_bytes or 0 for replica in replicas)
    swap = sum(_swap(replica) for replica in replicas)
    total = system.memory_total_bytes
    if not replicas or total is None:
        yield skip("memory", "no profile, so no limits to add up")
    elif limits > total:
        message = f"limits add up to {format_bytes(limits)} of {format_bytes(total)} of RAM"
        yield warn("memory", "memory_overcommitted", message, "lower `memory` of a workload")
    else:
        yield ok("memory", f"limits add up to {format_bytes(limits)} of {format_bytes(total)}")
    if not swap:
        yield skip("swap", "no replica may use any")
    elif system.swap_total_bytes is not None and system.swap_total_bytes < swap:
        have = format_bytes(system.swap_total_bytes)
        message = f"replicas may use {format_bytes(swap)} together, and this host has {have}"
        fix = "add swap, or set `memory_swap` to the same as `memory`"
        yield warn("swap", "swap_short", message, fix)
    else:
        yield from _swap_accounted(facts)


def shared_memory(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge /dev/shm of each replica whose workers talk through it."""
    groups = [replica for replica in _replicas(facts) if len(replica.gpus) > 1]
    small = []
    for replica in groups:
        size = replica.spec.shm_bytes or 64 * 1024**2  # Docker's default
        if facts.wanted is not None and facts.wanted.runtime == "process":
            size = system.shm_total_bytes or size
        if size < _LEAST_SHM_BYTES:
            small.append(f"{replica.name} {format_bytes(size)}")
    if small:
        message = f"too little shared memory for several GPUs: {', '.join(small)}"
        yield warn("shared_memory", "shm_small", message, 'set shm = "8g" in its workload')
    elif groups:
        yield ok("shared_memory", f"enough for {len(groups)} replicas on several GPUs")
    else:
        yield skip("shared_memory", "no replica spans several GPUs")


def locked_memory(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the limit of those replicas that are told to lock their model in RAM."""
    locking = [replica for replica in _replicas(facts) if _locks(replica)]
    bound = [replica.name for replica in locking if _lock_limit(replica, system) != _UNLIMITED]
    if bound:
        message = f"told to lock their model in RAM, and not allowed to: {', '.join(bound)}"
        fix = "set ulimits = { memlock = -1 } in the workload"
        yield warn("locked_memory", "memlock_limited", message, fix)
    elif locking:
        yield ok("locked_memory", f"{len(locking)} replicas may lock what they like")
    else:
        yield skip("locked_memory", "no replica locks its model in RAM")


def models(files: FilesFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether each model file is there, and can be read by who runs in the container."""
    yield from _files("models", files.models, lambda file: _unread_model(file, facts))


def secrets(files: FilesFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether each secret's file is there, and closed to others."""
    yield from _files("secrets", files.secrets, _open_secret)


def programs(files: FilesFacts, facts: Facts) -> Iterator[Finding]:
    """Judge, where replicas are processes, whether their programs are installed."""
    lacking = [name for name, path in files.programs.items() if path is None]
    if lacking:
        message = f"not on this host: {', '.join(lacking)}"
        fix = "install it, or put it on the PATH; on Docker an image brings it along"
        yield fail("programs", "program_missing", message, fix)
    elif files.programs:
        yield ok("programs", ", ".join(path or "" for path in files.programs.values()))
    else:
        yield skip("programs", "images bring their own")


def _replicas(facts: Facts) -> tuple[Replica, ...]:
    plan = facts.wanted.plan if facts.wanted else None
    return plan.replicas if plan else ()


def _swap(replica: Replica) -> int:
    """Return the bytes of swap that its limits leave it."""
    spec = replica.spec
    if spec.memory_bytes is None or spec.memory_swap_bytes is None:
        return 0
    return max(0, spec.memory_swap_bytes - spec.memory_bytes)


def _swap_accounted(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.docker, Unread) or facts.docker.swap_limit:
        yield ok("swap", "this host has what replicas may use")
    else:
        message = "the kernel does not count swap: `memory_swap` has no effect"
        fix = "add swapaccount=1 to the kernel's command line (GRUB_CMDLINE_LINUX) and reboot"
        yield warn("swap", "swap_not_counted", message, fix)


def _locks(replica: Replica) -> bool:
    return any("mlock" in word for word in replica.spec.command)


def _lock_limit(replica: Replica, system: SystemFacts) -> int | None:
    own = (limit.hard for limit in replica.spec.ulimits if limit.name == "memlock")
    return next(own, system.locked_memory_limit)


def _files(
    check: str, files: tuple[FileFacts, ...], judge: Callable[[FileFacts], Finding | None]
) -> Iterator[Finding]:
    """Judge each file that is there by *judge*; say once that all are well."""
    bad: list[Finding] = []
    unseen = [file.path for file in files if file.there is None]
    for file in files:
        if file.there is False:
            message = f"workloads.{file.workload}: there is no {file.path}"
            get = f"fetch it with `{file.fetch}`" if file.fetch else "put it there"
            fix = f"{get}, or correct the profile"
            bad.append(fail(check, f"{check.removesuffix('s')}_missing", message, fix))
        elif file.there and (found := judge(file)) is not None:
            bad.append(found)
    yield from bad
    if unseen:
        message = f"this user may not look at {', '.join(unseen)}"
        yield skip(check, message, "no_permission", "sudo gpuctl doctor")
    elif not files:
        yield skip(check, "the profile names none")
    elif not bad:
        yield ok(check, f"{len(files)} there, and as they should be")


def _unread_model(file: FileFacts, facts: Facts) -> Finding | None:
    """Find the first step on the way that its reader may not take, by the permission bits."""
    user = _reader(file, facts)
    if user is None or file.privileged:
        return None
    for step in file.steps:
        last = step is file.steps[-1]
        needed = 0o4 if last else 0o1
        if not _bits(step, *user) & needed:
            message = (
                f"workloads.{file.workload}: uid {user[0]} of the container may not "
                f"{'read' if last else 'enter'} {step.path} (mode {step.mode:04o})"
            )
            # A root that has lost its capabilities reads like anybody else.
            fix = f"sudo chmod {'a+r' if last else 'a+x'} {step.path}"
            return fail("models", "model_unreadable", message, fix)
    return None


def _reader(file: FileFacts, facts: Facts) -> tuple[int, int] | None:
    """Return uid and gid of who reads it, `None` where that is not known."""
    if isinstance(facts.docker, Unread):
        return file.user
    if facts.docker.remapped or facts.docker.rootless:
        return None  # whom its users are here, is not told
    if file.user is not None:
        return file.user
    image = facts.docker.images.get(file.image)
    return (0, 0) if image is not None and image.user in ("", "0", "root") else None


def _open_secret(file: FileFacts) -> Finding | None:
    mode = file.steps[-1].mode if file.steps else 0
    if not mode & 0o077:
        return None
    message = f"workloads.{file.workload}: others may use {file.path} (mode {mode:04o})"
    return warn("secrets", "secret_open", message, f"sudo chmod 0600 {file.path}")


def _bits(step: Step, uid: int, gid: int) -> int:
    """Return what this user may, as the kernel chooses: owner, then group, then others."""
    if step.uid == uid:
        return step.mode >> 6
    return step.mode >> 3 if step.gid == gid else step.mode


GROUP = Group(
    name="profile",
    checks=(
        plan,
        needing("ports", "ports", ports),
        needing("system", "memory", memory),
        needing("system", "shared_memory", shared_memory),
        needing("system", "locked_memory", locked_memory),
        needing("files", "models", models),
        needing("files", "secrets", secrets),
        needing("files", "programs", programs),
    ),
)
