"""
The gateway as a process: found by its lock, started, and ended.

It is another program, `python -m gpuctl.gateway`, and where root starts it another user. `up`,
`down`, `gateway` and the keeper in the daemon use this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from gpuctl import fast_status, paths
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError

#: Names whom it runs as where root starts it, if it is to be somebody else than ...
USER_VARIABLE = "GPUCTL_GATEWAY_USER"
#: ... the first of these that the host has.
USERS = ("gpuctl-gateway", "nobody")
PROGRAM = (sys.executable, "-m", "gpuctl.gateway")
#: Its own directories come from us, and not from the unit that we may be started by.
_SYSTEMD = ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY")
#: It listens within half a second, and who keeps it looks every second.
_BEGINS_SECONDS = 5.0
_LOOK_SECONDS = 0.05


def running(own: paths.Directories) -> int | None:
    """
    Return the pid of the gateway that runs here, `None` when none does.

    What it wrote is believed only of a process that holds its lock: the file may be an old one, the
    number another program's by now, and the gateway another user's. Nobody tries to take the lock
    for that: a gateway that starts at this moment would find it taken.

    Source: /proc/locks, proc_locks(5).
    """
    pid = fast_status.gateway(own.gateway).get("pid")
    try:
        inode = os.stat(own.gateway_lock).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            held = [line.split() for line in file if "->" not in line]
    except OSError:
        return None
    # 1: FLOCK ADVISORY WRITE 812 fe:00:2146636 0 EOF
    wanted = ("FLOCK", str(pid), str(inode))
    ours = any((words[1], words[4], words[5].rpartition(":")[2]) == wanted for words in held)
    return int(str(pid)) if ours else None


def tell(session: Session, listen: str, *, seconds: float = _BEGINS_SECONDS) -> bool:
    """Say, and return, whether the gateway listens there at most so many seconds from now."""
    own = session.own
    until = time.monotonic() + seconds
    while running(own) is None or fast_status.gateway(own.gateway).get("listen") != listen:
        if time.monotonic() >= until:
            why = own.gateway_log if os.path.exists(own.gateway_log) else "`gpuctl gateway`"
            session.say(f"warning: no gateway listens on {listen}; {why} says why")
            return False
        time.sleep(_LOOK_SECONDS)
    session.say(f"the gateway listens on {listen}")
    return True


def start(session: Session, program: Sequence[str] = PROGRAM) -> subprocess.Popen[bytes]:
    """
    Start one in a session of its own, so that it outlives the daemon that starts it.

    Raises:
        GpuctlError: the program cannot be run, as it may be as another user.
    """
    own = session.own
    given = prepare(session)
    user, group = given or (None, None)
    try:
        with open(own.gateway_log, "ab") as log:
            return subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(session),
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=[] if given else None,
            )
    except OSError as error:
        as_whom = f" as user {user}" if given else ""
        raise GpuctlError(
            f"the gateway cannot be started{as_whom}: {error}",
            f"may that user run {program[0]}? Or name another in {USER_VARIABLE}",
        ) from error


def become(session: Session, program: Sequence[str] = PROGRAM) -> NoReturn:
    """Replace this process by the gateway, as whom it is to run."""
    given = prepare(session)
    if given:
        user, group = given
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    os.execve(program[0], list(program), _environment(session))


def end(own: paths.Directories) -> int | None:
    """
    Ask the gateway to drain and end; return its pid, `None` when none runs.

    Raises:
        GpuctlError: it belongs to another user.
    """
    pid = running(own)
    if pid is None:
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # The number may have become another's before it was opened, and cannot any more.
        if running(own) != pid:
            return None
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except PermissionError as error:
        raise GpuctlError(f"the gateway ({pid}) is another user's", "use sudo") from error
    finally:
        os.close(process)
    return pid


def ended(own: paths.Directories, *, seconds: float) -> bool:
    """End the gateway and wait until it has ended; False when it has not so many seconds later."""
    if end(own) is None:
        return True
    until = time.monotonic() + seconds
    while running(own) is not None:
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def prepare(session: Session) -> tuple[int, int] | None:
    """
    Make the gateway's directory; return the user and group that it is for, `None`: our own.

    The group is the one that may read status.json.

    Raises:
        GpuctlError: there is no such user.
    """
    own = session.own
    directory = os.path.dirname(own.gateway)
    os.makedirs(directory, mode=0o750, exist_ok=True)
    if os.geteuid() != 0:
        return None
    user = account(session.environment.get(USER_VARIABLE))
    group = _group(own)
    os.chown(directory, user, group, follow_symlinks=False)
    if running(own) is None:
        with os.scandir(directory) as left:
            for entry in left:
                # Not changed to its new owner: what lies there may be a link, made by the old one.
                if entry.stat(follow_symlinks=False).st_uid != user:
                    os.unlink(entry.path)
    return (user, group) if user else None


def account(named: str | None) -> int:
    """Return the number of the user that a gateway of root's is to be. Raises `GpuctlError`."""
    import pwd

    for name in (named,) if named else USERS:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise GpuctlError(
        f"there is no user {named or USERS[0]} for the gateway to be",
        f"`useradd --system {USERS[0]}`, or name another in {USER_VARIABLE}",
    )


def users() -> frozenset[int]:
    """Return the users that a gateway of root's may be: those who serve clients command nobody."""
    import pwd

    if os.geteuid() != 0:
        return frozenset()
    return frozenset(each.pw_uid for each in pwd.getpwall() if each.pw_name in USERS)


def _group(own: paths.Directories) -> int:
    try:
        return os.stat(own.status).st_gid
    except FileNotFoundError:
        return os.getegid()  # the daemon's, which will write it


def _environment(session: Session) -> dict[str, str]:
    own = session.own
    rest = {name: text for name, text in session.environment.items() if name not in _SYSTEMD}
    return {
        **rest,
        "GPUCTL_CONFIG_DIR": own.config,
        "GPUCTL_STATE_DIR": own.state,
        "GPUCTL_RUNTIME_DIR": own.runtime,
    }
