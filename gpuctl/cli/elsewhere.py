"""
What `up` has no say in: replicas in another runtime, which its daemon would not see, and the
system's own gpuctl.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from gpuctl import fast_status
from gpuctl.cli import choose, compose
from gpuctl.cli.session import Session
from gpuctl.errors import DaemonDown, GpuctlError, RuntimeUnavailable, StoreError

if TYPE_CHECKING:
    from gpuctl.model import ContainerReading, Profile

_RUNNING = ("running", "paused")


def refuse_system(session: Session) -> Session:
    """
    Refuse to supervise, or to say what is, where the system's gpuctl does and we are not its user.

    A profile names programs, images and mounts: who may change it may do all that its daemon can,
    which is more than stopping and starting replicas, as members of its group may.

    Returns:
        the session to go on with, which sees nothing of a system's gpuctl that has ended: its
        unit keeps its status until the next boot.

    Raises:
        GpuctlError: what we see is the system's, and it lives or cannot be told.
    """
    if session.seen == session.own or not _lives(session):
        return replace(session, alone=True)
    raise GpuctlError(
        f"the system's gpuctl supervises this host ({session.seen.runtime}), and its profile is"
        " not yours to change",
        "use `sudo gpuctl …`; for a gpuctl of your own, name a directory: GPUCTL_RUNTIME_DIR",
    )


def _lives(session: Session) -> bool:
    """True unless what we see says that its daemon has ended."""
    try:
        return fast_status.alive(session.status())
    except DaemonDown:  # its status was removed just now
        return False
    except GpuctlError:
        return True


def refuse(session: Session, profile: Profile) -> None:
    """
    Refuse a profile that moves to another runtime while anything of the applied one may run.

    Raises:
        GpuctlError: replicas run there, a daemon looks after them, or it cannot be told.
    """
    before = _applied(session)
    if before is None or compose.kind(session, before) == compose.kind(session, profile):
        return
    old, new = before.host.runtime, profile.host.runtime
    moves = f"the replicas of {before.host.name} belong in {old}, and would move to {new}"
    if session.running() is not None:
        raise GpuctlError(
            f"{moves}, where this host's daemon does not look",
            "`gpuctl down` first; a daemon that stays is a unit's: `systemctl stop gpuctl`",
        )
    left = _running(session, before, moves)
    if left:
        raise GpuctlError(f"{moves}, but {', '.join(left)} still run", "`gpuctl down` first")


def _applied(session: Session) -> Profile | None:
    if not os.path.exists(session.own.applied):
        return None
    try:
        return choose.applied(session)
    except StoreError:  # damaged: what it said is lost, and `up` is what mends it
        return None


def _running(session: Session, before: Profile, moves: str) -> list[str]:
    try:
        with closing(compose.runtime(session, before)) as runtime:
            running = (found for found in runtime.list() if found.state in _RUNNING)
            return sorted(found.replica for found in running if _belongs(found, before))
    except RuntimeUnavailable as error:
        raise GpuctlError(
            f"{moves}, but what still runs cannot be told: {error.message}",
            f"bring it back and `gpuctl down`; is it gone for good, remove {session.own.applied}",
        ) from error


def _belongs(found: ContainerReading, before: Profile) -> bool:
    """True for a replica of the applied profile, also one kept since it had another name."""
    workload = found.replica.rpartition("-")[0]
    named = any(workload == each.name for each in before.workloads)
    return named or found.profile == before.host.name
