"""`daemon`: compose the World, take the locks, and supervise until told to end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import background, choose, compose, elsewhere, gateway_process, whose
from gpuctl.cli.claim import Claim
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, RuntimeUnavailable

if TYPE_CHECKING:
    from gpuctl.arrangement import Setting
    from gpuctl.daemon import Daemon
    from gpuctl.ports import World


def command(session: Session) -> int:
    """Run the daemon in the foreground, on the applied profile; return the exit code."""
    from gpuctl.adapters.systemd import Systemd
    from gpuctl.cli import gateway_keeper
    from gpuctl.daemon import run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with (
        supervisor(session, notify=Systemd.take(os.environ).tell) as daemon,
        gateway_keeper.kept(session, daemon),
    ):
        run(daemon)
    return 0


@contextmanager
def supervisor(
    session: Session, *, notify: Callable[[str], None] = lambda _: None, intent: str = ""
) -> Iterator[Daemon]:
    """
    Give a daemon that holds its locks and listens on its socket, and has not begun yet.

    *intent* is recorded before it looks at anything, so that it begins with that; whoever gives
    one waits for it, and is told at once when the runtime does not answer.

    Raises:
        LockHeld: another one supervises here already.
        GpuctlError: the system's gpuctl does, and we are not its user.
        UsageError: the directories are of a real host, and this is a simulated one, or back.
        NotFound: no profile is applied.
        RuntimeUnavailable: with an *intent* only.
    """
    from gpuctl.adapters.control import ControlServer
    from gpuctl.adapters.lock import lock_directory, lock_engine
    from gpuctl.daemon import Daemon
    from gpuctl.faults import fault_from

    session = elsewhere.refuse_system(session)
    whose.refuse(session)
    own, profile = session.own, choose.applied(session)
    background.prepare(own)
    with ExitStack() as held:
        held.callback(os.close, lock_directory(Path(own.state)))
        world = compose.world(session, profile)
        claim = Claim(world.runtime, lambda engine: held.enter_context(lock_engine(engine)))
        try:
            claim.take()
        except RuntimeUnavailable:
            if intent:
                raise
        world = replace(world, runtime=claim.runtime)
        if intent:
            _intend(world, intent)
        daemon = Daemon(
            world,
            lambda: setting(session, world.runtime.kind),
            notify=notify,
            fault=fault_from(session.environment),
            simulated=bool(session.simulate),
        )
        server = ControlServer(Path(own.socket), daemon.handle, gateway_process.users())
        held.callback(server.close)
        server.begin()
        yield daemon


def setting(session: Session, supervised: str) -> Setting:
    """
    Return the applied profile, under this process's own environment, with what plans it.

    It is called on the thread that decides, and asks no runtime for anything.

    Raises:
        GpuctlError: its replicas belong in another runtime than the one *supervised* here.
    """
    from gpuctl.applied import load, load_gpus, load_known
    from gpuctl.arrangement import Setting
    from gpuctl.model import Assignments, Plan
    from gpuctl.overrides import apply_watchdog
    from gpuctl.planning import plan
    from gpuctl.plugin import load_engines

    text = choose.applied_text(session)
    profile = apply_watchdog(compose.settled(session, load(text)), session.environment)
    found = compose.inventory(session, profile, gpus=False)
    if found.runtime != supervised:
        raise GpuctlError(
            f"the profile wants its replicas in {found.runtime}, and this daemon supervises those"
            f" in {supervised}",
            "take down what runs with `gpuctl down`, end the daemon, then `gpuctl up PROFILE`",
        )
    inventory = replace(found, gpus=load_gpus(text))
    engines, models = load_engines(), load_known(text)

    def arrange(assignments: Assignments) -> Plan:
        known = replace(models, assignments=assignments)
        return plan(profile, inventory, engines, strict=False, known=known)

    return Setting(profile=profile, plan=arrange(Assignments()), arrange=arrange)


def _intend(world: World, verb: str) -> None:
    from gpuctl.journal import Journal
    from gpuctl.model import EventKind

    journal = Journal(world.store, world.clock)
    told = {"uid": os.getuid(), "pid": os.getpid()}
    journal.record([journal.event(EventKind.INTENT, "", verb, told)])
