"""A daemon in the background: the unit's where there is one, else a process of this user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

from gpuctl import paths
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError

UNIT = "gpuctl.service"
GATEWAY_UNIT = "gpuctl-gateway.service"
_LOG_LINES = 15
#: A gateway drains for 30 s at most, and is idle when its replicas have gone.
_DRAINED_SECONDS = 40.0


def ensure(session: Session) -> Callable[[], None]:
    """Start a daemon; return a guard that raises when the one started here has ended."""
    if _unit_is(session, "enabled", UNIT):
        _systemctl("start", UNIT)
        return lambda: None
    process = _spawn(session)

    def guard() -> None:
        code = process.poll()
        if code is not None:
            log = session.own.daemon_log
            raise GpuctlError(
                f"the daemon ended with exit code {code}:\n{_tail(log)}",
                f"its whole log is {log}; run it in the foreground with `gpuctl daemon`",
            )

    return guard


def end(session: Session, pid: int) -> bool:
    """Ask a daemon that `up` put in the background to end; False for any other, left alone."""
    try:
        with open(session.own.spawned, encoding="ascii") as file:
            ours = file.read().strip() == str(pid)
    except OSError:
        return False
    if ours:
        os.kill(pid, signal.SIGTERM)
        os.unlink(session.own.spawned)
    return ours


def prepare(directories: paths.Directories) -> None:
    """Make the state and runtime directories, for this user and group only."""
    for directory in (directories.state, directories.runtime):
        os.makedirs(directory, mode=0o750, exist_ok=True)


def _spawn(session: Session) -> subprocess.Popen[bytes]:
    own = session.own
    environment = {
        **session.environment,
        "GPUCTL_CONFIG_DIR": own.config,
        "GPUCTL_STATE_DIR": own.state,
        "GPUCTL_RUNTIME_DIR": own.runtime,
    }
    simulate = ["--simulate", session.simulate] if session.simulate else []
    with open(own.daemon_log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gpuctl", *simulate, "daemon"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # outlives the terminal
        )
    with open(own.spawned, "w", encoding="ascii") as file:
        file.write(f"{process.pid}\n")
    return process


def set_gateway(session: Session, *, wanted: bool) -> None:
    """Start or stop the gateway's unit; where there is none, the daemon keeps its own gateway."""
    try:
        if not wanted:
            if _unit_is(session, "active", GATEWAY_UNIT):
                _systemctl("stop", GATEWAY_UNIT)
        elif _unit_is(session, "enabled", GATEWAY_UNIT):
            _systemctl("--no-block", "start", GATEWAY_UNIT)
        elif _unit_is(session, "enabled", UNIT):
            what = f"{GATEWAY_UNIT} is not enabled, so nothing starts it"
            raise GpuctlError(what, f"`systemctl enable --now {GATEWAY_UNIT}`")
    except GpuctlError as error:
        session.say(f"warning: the gateway: {error.message}; {error.hint}")


def end_gateway(session: Session, *, seconds: float = _DRAINED_SECONDS) -> None:
    """End the gateway, whoever started it, and wait so long until it has; what keeps it is said."""
    from gpuctl.cli import gateway_process

    try:
        if _unit_is(session, "active", GATEWAY_UNIT):
            _systemctl("stop", GATEWAY_UNIT)
        elif not gateway_process.ended(session.seen, seconds=seconds):
            session.say("warning: the gateway has not ended yet: it answers what it still holds")
    except GpuctlError as error:
        session.say(f"warning: the gateway: {error.message}; {error.hint}")


def _unit_is(session: Session, state: str, unit: str) -> bool:
    """Return whether a system unit is `enabled`, or `active`."""
    system = session.own.runtime == paths.SYSTEM_RUNTIME and not session.simulate
    # sd_booted(3): systemd runs where this directory exists.
    if not system or not os.path.isdir("/run/systemd/system") or not shutil.which("systemctl"):
        return False
    asked = ["systemctl", f"is-{state}", "--quiet", unit]
    done = subprocess.run(asked, check=False, timeout=10, capture_output=True)
    return done.returncode == 0


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(
        ["systemctl", *arguments], check=False, timeout=90, capture_output=True, text=True
    )
    if done.returncode:
        raise GpuctlError(
            f"systemctl {' '.join(arguments)}: {done.stderr.strip()}",
            f"see `journalctl -u {arguments[-1]} -n 50`",
        )


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-_LOG_LINES:]).rstrip()
    except OSError:
        return "(no log)"
