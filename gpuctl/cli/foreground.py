"""`daemon`: compose the World, take the locks, and supervise until told to end."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.cli import background, choose, compose
from gpuctl.cli.session import Session

if TYPE_CHECKING:
    from gpuctl.daemon import Setting


def command(session: Session) -> int:
    """Run the daemon in the foreground, on the applied profile; return the exit code."""
    from gpuctl.adapters.control import ControlServer
    from gpuctl.adapters.lock import lock_directory, lock_engine
    from gpuctl.adapters.systemd import Systemd
    from gpuctl.daemon import Daemon, fault_from, run

    systemd = Systemd.take(os.environ)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    own = session.own
    background.prepare(own)
    lock = lock_directory(Path(own.state))
    world = compose.world(session, choose.applied(session))
    engine = lock_engine(world.runtime.identity())
    daemon = Daemon(
        world,
        lambda: setting(session),
        notify=systemd.tell,
        fault=fault_from(session.environment),
        simulated=bool(session.simulate),
    )
    server = ControlServer(Path(own.socket), daemon.handle)
    server.begin()
    try:
        run(daemon)
    finally:
        server.close()
        engine.close()
        os.close(lock)
    return 0


def setting(session: Session) -> Setting:
    """Return the applied profile, under this process's own environment, with its plan."""
    from gpuctl.applied import apply
    from gpuctl.daemon import Setting
    from gpuctl.planning import plan
    from gpuctl.plugin import load_engines

    profile = apply(choose.applied(session), session.environment).profile
    inventory = compose.inventory(session, profile)
    return Setting(profile=profile, plan=plan(profile, inventory, load_engines(), strict=False))
