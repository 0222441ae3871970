"""`up`: plan, preflight, apply, ensure a daemon, and wait until all is ready."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from gpuctl.cli import background, choose, compose, follow, outcome, planned, preflight
from gpuctl.cli.session import Session
from gpuctl.errors import DaemonDown

if TYPE_CHECKING:
    from gpuctl.model import Plan, Profile
    from gpuctl.model.status import Status


def command(session: Session, name: str | None, *, wait: bool, timeout: float) -> int:
    """Bring a profile up; return 0 when all is ready (or not waited for), 3 when some failed."""
    profile = choose.chosen(session, name)
    plan, _ = planned.made(session, profile)
    for warning in plan.warnings:
        session.say(f"warning: {warning}")
    background.prepare(session.own)
    with closing(compose.runtime(session, profile)) as runtime:
        preflight.check(session, plan, runtime)
        preflight.pull(session, plan, runtime)
    apply(session, profile)
    guard, known = supervise(session)
    if not wait:
        session.say("supervision has begun; `gpuctl status` shows how far it is")
        return 0
    return ready(session, plan, guard, known, timeout)


def apply(session: Session, profile: Profile) -> None:
    """Write the applied profile: whole or not at all, readable by its owner only."""
    from gpuctl import applied

    overrides = applied.apply(profile, session.environment).overrides
    text = applied.dump(profile, source=profile.source, overrides=overrides, at=session.now())
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
    before = session.running()
    try:
        compose.ask(session, "up")
    except DaemonDown:
        return background.ensure(session), lambda _: True
    instance = before["instance"] if before else ""
    seq = before["seq"] if before else 0
    # One Status may have been under way when the Intent was stored; the one after it knows.
    return lambda: None, lambda now: now["instance"] != instance or now["seq"] >= seq + 2


def ready(
    session: Session,
    plan: Plan,
    guard: Callable[[], None],
    known: Callable[[Status], bool],
    timeout: float,
) -> int:
    """Wait until every replica of the plan is ready or has failed; say which; return 0 or 3."""
    names = frozenset(replica.name for replica in plan.replicas)

    def done(status: Status) -> bool:
        published = {replica["name"] for replica in status["replicas"]}
        return known(status) and names <= published and outcome.settled(status, names)

    follower = follow.Follower(session=session, timeout_seconds=timeout, guard=guard)
    try:
        with follow.progress(session) as show:
            status = follower.until(done, show)
    except follow.TimedOut as late:
        session.say(f"error: {late.message}\nhint: {late.hint}")
        return outcome.tell(session, late.status, names, "") if late.status else 3
    except KeyboardInterrupt:
        session.say("interrupted: the daemon goes on; `gpuctl status` shows it, `down` ends it")
        return 130
    return outcome.tell(session, status, names, f"all ready: {len(names)} replicas")
