"""`up`: plan, preflight, apply, ensure a daemon, and wait until all is ready."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from gpuctl.cli import (
    background,
    choose,
    compose,
    elsewhere,
    follow,
    gateway_process,
    knowledge,
    outcome,
    planned,
    preflight,
    whose,
)
from gpuctl.cli.session import Session
from gpuctl.errors import DaemonDown

if TYPE_CHECKING:
    from gpuctl.model import GpuIdentity, Known, Plan, Profile
    from gpuctl.model.status import Status

#: A daemon listens a second after its start; NVML on eight cards may take ten.
_LISTENS_SECONDS = 60.0
_LOOK_SECONDS = 0.05


def command(session: Session, name: str | None, *, wait: bool, timeout: float) -> int:
    """
    Bring a profile up; return 0 when all is ready (or not waited for).

    3 when a replica failed, or the gateway does not listen.

    Raises:
        TimedOut: and every other reason for not getting there, as its own error.
    """
    session = elsewhere.refuse_system(session)
    whose.refuse(session)
    profile = compose.resolved(session, choose.chosen(session, name))
    elsewhere.refuse(session, profile)
    models = knowledge.known(session, profile)
    plan, inventory = planned.checked(session, profile, models)
    for warning in plan.warnings:
        session.say(f"warning: {warning}")
    background.prepare(session.own)
    with closing(compose.runtime(session, profile)) as runtime:
        preflight.check(session, profile, plan, runtime)
        preflight.pull(session, plan, runtime)
    apply(session, profile, inventory.gpus, models)
    guard, known = supervise(session)
    gateway = None if session.simulate else profile.gateway
    background.set_gateway(session, wanted=gateway is not None)
    if not wait:
        session.say("supervision has begun; `gpuctl status` shows how far it is")
        return 0
    code = ready(session, plan, guard, known, timeout)
    if gateway is not None and not gateway_process.tell(session, gateway.listen):
        code = code or 3
    return code


def apply(
    session: Session,
    profile: Profile,
    gpus: tuple[GpuIdentity, ...] = (),
    known: Known | None = None,
) -> None:
    """Write the applied profile: whole or not at all, readable by its owner only."""
    from gpuctl import applied
    from gpuctl.model import Known

    text = applied.dump(
        profile,
        source=profile.source,
        overrides=profile.overrides,
        at=session.now(),
        gpus=gpus,
        known=Known() if known is None else known,
        simulated=bool(session.simulate),
    )
    path = session.own.applied
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(f"{path}.new", path)


def supervise(session: Session) -> tuple[Callable[[], None], Callable[[Status], bool]]:
    """
    Tell the daemon to take up the applied profile, starting one where none runs.

    Returns:
        a guard that raises when that daemon ends, and a test of whether a Status knows of this.
    """
    guard: Callable[[], None] = _nothing_to_guard
    try:
        event = compose.ask(session, "up")
    except DaemonDown:
        guard = background.ensure(session)
        event = _ask_when_it_listens(session, guard)
    return guard, lambda now: now["last_event"] >= event


def _nothing_to_guard() -> None:
    """Stand for a daemon that was there before: its end is not this command's."""


def _ask_when_it_listens(session: Session, guard: Callable[[], None]) -> int:
    """Send the Intent to a daemon that is starting: an earlier `down` holds until it is told."""
    end = time.monotonic() + _LISTENS_SECONDS
    while True:
        guard()
        try:
            return compose.ask(session, "up")
        except DaemonDown:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOOK_SECONDS)


def ready(
    session: Session,
    plan: Plan,
    guard: Callable[[], None],
    known: Callable[[Status], bool],
    timeout: float,
) -> int:
    """
    Wait until every replica of the plan is ready or has failed; say which; return 0 or 3.

    Ctrl-C ends the wait with 130.

    Raises:
        TimedOut: some are still on their way; which, has been said.
    """
    from gpuctl.views import words

    names = frozenset(replica.name for replica in plan.replicas)

    def done(status: Status) -> bool:
        published = {replica["name"] for replica in status["replicas"]}
        return known(status) and names <= published and outcome.settled(status, names)

    follower = follow.Follower(session=session, timeout_seconds=timeout, guard=guard)
    try:
        with follow.progress(session) as show:
            status = follower.until(done, show)
    except follow.TimedOut as late:
        if late.status is not None:
            outcome.tell(session, late.status, names, "the daemon has not taken it up yet")
        raise
    except KeyboardInterrupt:
        session.say("interrupted: the daemon goes on; `gpuctl status` shows it, `down` ends it")
        return 130
    return outcome.tell(
        session, status, names, f"all ready: {words.counted(len(names), 'replica')}"
    )
