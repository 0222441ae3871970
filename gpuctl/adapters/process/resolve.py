"""
What a ContainerSpec means for a plain process of this host.

Kept: command, environment, GPUs, port, user, ulimits, memory and pids limit (in a unit), and the
bytes of log, which are in one file. Without meaning here: image, mounts (the process sees the
host's own files), network, shared memory, capabilities and Docker's health check.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Mapping

from gpuctl.adapters.process.records import Record
from gpuctl.errors import StartRefused
from gpuctl.model import ContainerSpec

#: Tells an engine, and each process it starts, from a stranger: `/proc/<pid>/environ` has it.
CONTAINER_VARIABLE = "GPUCTL_CONTAINER"


def resolve(
    identity: str,
    name: str,
    spec: ContainerSpec,
    labels: Mapping[str, str],
    minimal: Mapping[str, str],
) -> Record:
    """Return what is written down for one process; *minimal* is the environment it starts from."""
    argv = (*(spec.entrypoint or ()), *spec.command)
    if not argv:
        raise StartRefused(
            f"{name}: there is no command to run, and the process runtime has no images",
            "set `command`, or use an engine that runs as a process",
        )
    return Record(
        name=name,
        labels=dict(labels),
        argv=argv,
        environment={
            **minimal,
            **spec.environment,
            **_gpus(spec),
            CONTAINER_VARIABLE: identity,
        },
        secrets=dict(spec.secrets),
        port=spec.host_port,
        user=None if spec.user is None else _user(name, spec.user),
        ulimits=tuple((_ulimit(name, u.name), u.soft, u.hard) for u in spec.ulimits),
        memory_bytes=spec.memory_bytes,
        memory_swap_bytes=spec.memory_swap_bytes,
        pids_limit=spec.pids_limit,
        log_max_bytes=spec.log.max_bytes,
        log_files=spec.log.files,
    )


def _gpus(spec: ContainerSpec) -> Mapping[str, str]:
    """
    Return the variables that show a process its GPUs and no other; none at all hides every one.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables" (UUIDs are taken as they are).
    """
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(spec.gpus)}


def _ulimit(name: str, limit: str) -> str:
    if not hasattr(resource, f"RLIMIT_{limit.upper()}"):
        raise StartRefused(f"{name}: this system has no ulimit {limit!r}", "see `man 2 setrlimit`")
    return limit


def _user(name: str, user: str) -> tuple[int, int] | None:
    """Return uid and gid of `user`, `user:group`, by name or by number; None for ourselves."""
    who, _, group = user.partition(":")
    try:
        entry = pwd.getpwuid(int(who)) if who.isdigit() else pwd.getpwnam(who)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError as error:
        if not (who.isdigit() and group):
            raise StartRefused(f"{name}: this host has no user {who!r}") from error
        uid, gid = int(who), -1
    try:
        if group:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise StartRefused(f"{name}: this host has no group {group!r}") from error
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        raise StartRefused(f"{name}: only root can run it as user {user!r}")
    return uid, gid
