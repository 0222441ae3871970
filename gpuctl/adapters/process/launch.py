"""
How a shim, and its engine with it, is started so that it outlives whoever starts it.

Under a systemd that takes our orders, root's or the user's own: a transient unit, with a cgroup of
its own and the memory limit. Otherwise a session of its own, and no limit: only a cgroup can hold a
process to its memory, and there is none to be had.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpuctl.adapters.process import shim
from gpuctl.adapters.process.records import Record
from gpuctl.errors import RuntimeTimeout, StartRefused

#: Isolated, and without site-packages: a shim holds 10 MB, and nothing in a user's directory can
#: change what it does.
SHIM = (sys.executable, "-I", "-S", shim.__file__)

#: Both ways return once the shim has been executed, in 0.1 s; a busy machine gets its time.
LAUNCH_SECONDS = 10.0


def units_available() -> bool:
    """
    Return whether engines can be units: systemd is PID 1 here, and takes our orders.

    Root's do. A user's own systemd is asked where we run under it: a stop of our unit would end
    what is in its cgroup, and engines then live as long as we could, until the user's last logout
    or, with `loginctl enable-linger`, for ever. A user's shell is elsewhere: what is started there
    outlives the logout in a session of its own, which a unit of the user's would not.

    Source: sd_booted(3) for the directory, user@.service(5).
    """
    if not os.path.isdir("/run/systemd/system"):
        return False
    return os.geteuid() == 0 or _under_user_manager()


def _under_user_manager() -> bool:
    """True where a user's systemd has started us, and can be reached as `systemd-run` does."""
    user = os.geteuid()
    ours = Path("/proc/self/cgroup").read_text()
    return f"/user@{user}.service/" in ours and os.path.exists(f"/run/user/{user}/bus")


def launch(directory: Path, record: Record, *, unit: bool) -> None:
    """Start the shim of one engine; returns before the engine runs. Raises `StartRefused`."""
    command = (
        (*_systemd_run(directory.name, record), *SHIM, str(directory))
        if unit
        else (*SHIM, str(directory), "--detach")
    )
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Not a pipe: the shim keeps it, and the read would last as long as the engine.
            stderr=(errors := (directory / "shim.err").open("wb")),
            timeout=LAUNCH_SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeTimeout(
            f"{record.name}: {command[0]} did not return within {LAUNCH_SECONDS:.0f} s",
            "the machine is overloaded, or systemd does not answer: try `systemctl status`",
        ) from error
    finally:
        errors.close()
    if done.returncode != 0:
        raise StartRefused(f"{record.name}: {launch_errors(directory) or command[0] + ' failed'}")


def launch_errors(directory: Path) -> str:
    """Return what a shim that could not do its work said, its last line; "" for nothing."""
    lines = (directory / "shim.err").read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _systemd_run(identity: str, record: Record) -> Iterator[str]:
    """
    Yield the command that makes a transient unit.

    A user's systemd has no memory controller with cgroup v1, and takes the limit without effect.

    Source: systemd-run(1), systemd.resource-control(5), systemd.kill(5).
    """
    # Never the same twice: the unit of a start before may not have been collected yet.
    yield from ("systemd-run", f"--unit=gpuctl-{identity}-{secrets.token_hex(2)}")
    if os.geteuid() != 0:
        yield "--user"
    yield from ("--collect", "--quiet", "--service-type=exec")
    yield f"--description=gpuctl {record.name}"
    # The shim's death must not be the engine's, nor may one worker's death by OOM be the unit's.
    yield from ("--property=KillMode=process", "--property=OOMPolicy=continue")
    yield "--property=NoNewPrivileges=yes"
    yield f"--property=TasksMax={record.pids_limit}"
    if record.memory_bytes is not None:
        yield f"--property=MemoryMax={record.memory_bytes}"
        if record.memory_swap_bytes is not None:
            swap = max(0, record.memory_swap_bytes - record.memory_bytes)
            yield f"--property=MemorySwapMax={swap}"
    yield "--"


def port_owner(port: int) -> str | None:
    """
    Return who has a loopback port already, `None` when it is free.

    The answer names the process where it may be read, and is "another process" where not.
    """
    with socket.socket() as probe:
        # As a server would ask for it: a connection that has ended and lingers is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _listener(port) or "another process"
    return None


def _listener(port: int) -> str | None:
    """Source: psutil.net_connections (/proc/net/tcp and tcp6, /proc/<pid>/fd), Process.name."""
    import psutil  # here, because nothing else of a start pays for it

    for found in psutil.net_connections("tcp"):
        listens = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
        if listens and found.pid is not None:
            with suppress(psutil.Error):  # it ended meanwhile
                return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
    return None
