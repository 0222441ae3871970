"""
The parent of one engine: starts it, keeps its log within bounds, writes down how it ended.

A program of its own (`python -I -S shim.py DIRECTORY [--detach]`, standard library only), because
the exit code of a process is told to its parent alone, and the daemon may not be there to hear it.
It reads `spec.json` in DIRECTORY and writes `state.json` and `exit.json` there. The runtime
imports the small functions below from it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

LOCK = "shim.lock"  # held by the shim for as long as it lives
SPEC = "spec.json"
STATE = "state.json"
EXIT = "exit.json"
LOG = "log"

#: How often the log is trimmed while the engine runs: what it writes within that long comes on top.
TRIM_SECONDS = 1.0
#: FALLOC_FL_PUNCH_HOLE, and the FALLOC_FL_KEEP_SIZE that it asks for. Source: linux/falloc.h.
PUNCH_HOLE = 0x03
#: Asked of the shim, meant for the engine: what `systemctl stop` and a terminal send.
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start_ticks(pid: int) -> tuple[int, str] | None:
    """
    Return when a process started, in clock ticks since boot, and its state letter.

    With the boot id this names a process for ever, where a pid alone is used again. `None` when
    there is no such process.

    Source: /proc/<pid>/stat, fields 22 (starttime) and 3 (state), proc(5).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name, field 2, may itself hold spaces and brackets.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19]), fields[0].decode()


def boot_id() -> str:
    """Source: /proc/sys/kernel/random/boot_id, random(4)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def write_json(path: str, value: dict[str, Any]) -> None:
    """Replace a file atomically: a reader sees the old one or the new one, never a part."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8", opener=_private) as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def trim(path: str, keep_bytes: int, punch: Callable[[int, int], None] | None = None) -> None:
    """
    Give up the oldest part of a log, so that its newest *keep_bytes* stay.

    Every line that begins within the newest *keep_bytes* stays, however fast the engine writes
    meanwhile; the log then takes no more of the disk (`du`) than that and one block, though its
    length (`ls`) grows on. Between two looks, TRIM_SECONDS apart, comes on top what is written in
    that time; once the shim has been killed, nobody looks.

    A copy would lose what is written between copying and cutting. A pipe would stop the engine,
    or kill it, once its reader is gone. Where the file system cannot free a part of a file, or
    fails to, the whole log is cut to nothing: the engine must be able to go on.
    """
    # A log that was removed, or a disk that fails, must not end the shim.
    with contextlib.suppress(OSError), open(path, "r+b", buffering=0) as log:
        status = os.fstat(log.fileno())
        # The byte before the first line that stays must stay too: it tells that the line is whole.
        end = (status.st_size - keep_bytes - 1) // status.st_blksize * status.st_blksize
        if end <= 0:
            return
        try:
            (punch or _punch)(log.fileno(), end)
        except OSError:
            log.truncate(0)


def _punch(descriptor: int, end: int) -> None:
    """Free the blocks before byte *end*. Source: fallocate(2), FALLOC_FL_PUNCH_HOLE."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, PUNCH_HOLE, 0, end) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(directory: str, detach: bool) -> int:
    os.chdir(directory)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another shim starts this engine: there is never a second one
    if detach and os.fork():
        return 0
    if detach:
        os.setsid()
    with open(SPEC, encoding="utf-8") as file:
        spec = json.load(file)
    waited = {signal.SIGCHLD, *FORWARDED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    kills = _oom_kills()
    engine = _spawn(spec, before)
    if engine is None:
        return 0
    keep_bytes = spec["log_max_bytes"] * spec["log_files"]
    status = _supervise(engine, keep_bytes, waited)
    trim(LOG, keep_bytes)
    _finish(engine, status, oom=_oom_kills() > kills)
    return 0


def _spawn(spec: dict[str, Any], mask: set[int | signal.Signals]) -> int | None:
    """
    Start the engine and return its pid; `None` when it could not be executed.

    The child waits until its pid is on disk before it becomes the engine, so that a shim killed
    in between leaves either nothing or an engine that can be found.
    """
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        _become(spec, mask, log, go_read, error_write)
    os.close(error_write)
    os.close(go_read)
    state = {**_identity(pid), "shim": _identity(os.getpid()), "started_at": time.time()}
    write_json(STATE, {**state, "executed": False})
    os.write(go_write, b"g")
    os.close(go_write)
    with open(error_read, "rb") as errors:
        error = errors.read()  # empty once exec has closed the other end
    os.close(log)
    if not error:
        write_json(STATE, {**state, "executed": True})
        return pid
    os.waitpid(pid, 0)
    number, _, what = error.decode().partition(" ")
    code = 127 if int(number) == errno.ENOENT else 126  # as a shell, and Docker, number it
    _write_exit(code, error=f"{what}: {os.strerror(int(number))}")
    return None


def _become(
    spec: dict[str, Any], mask: set[int | signal.Signals], log: int, go: int, error: int
) -> NoReturn:
    """Turn this child into the engine; an error is told through the pipe, which exec closes."""
    what = spec["argv"][0]
    try:
        if os.read(go, 1) != b"g":
            os._exit(125)
        os.setsid()  # a session, and a group, of its own: SIGKILL reaches its workers too
        _stdio(log)
        what = "ulimits"
        for name, soft, hard in spec["ulimits"]:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
        environment = spec["environment"]
        for variable, what in spec["secrets"].items():  # read as ourselves, written down nowhere
            with open(what, encoding="utf-8") as file:
                environment[variable] = file.read().strip()
        what = "user"
        if spec["user"] is not None:
            uid, gid = spec["user"]
            os.setgroups([gid])
            os.setgid(gid)
            os.setuid(uid)
        what = spec["argv"][0]
        os.chdir("/")
        os.umask(0o022)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored_by_python, signal.SIG_DFL)
        os.execvpe(spec["argv"][0], spec["argv"], environment)
    except OSError as problem:
        os.write(error, f"{problem.errno} {what}".encode())
    except ValueError:  # setrlimit: above the hard limit, and not root
        os.write(error, f"{errno.EPERM} {what}".encode())
    os._exit(126)


def _stdio(log: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _supervise(engine: int, keep_bytes: int, waited: set[signal.Signals]) -> os.waitid_result:
    """Wait for the engine's end, passing signals on; leave it unreaped, so that its pid stays."""
    while True:
        ended = os.waitid(os.P_PID, engine, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None:
            return ended
        got = signal.sigtimedwait(waited, TRIM_SECONDS)
        if got is not None and got.si_signo in FORWARDED:
            os.kill(engine, got.si_signo)
        trim(LOG, keep_bytes)


def _finish(engine: int, status: os.waitid_result, *, oom: bool) -> None:
    """Kill what the engine leaves behind, write down its end, and only then let its pid go."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine, signal.SIGKILL)
    killed = status.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
    code = status.si_status + (128 if killed else 0)
    _write_exit(code, oom_killed=oom and killed and status.si_status == signal.SIGKILL)
    os.waitpid(engine, 0)


def _write_exit(code: int, *, oom_killed: bool = False, error: str = "") -> None:
    ended = {"exit_code": code, "oom_killed": oom_killed, "error": error}
    write_json(EXIT, {**ended, "finished_at": time.time()})


def _identity(pid: int) -> dict[str, Any]:
    read = start_ticks(pid)
    assert read is not None  # our own child, not reaped, or ourselves
    return {"pid": pid, "start_ticks": read[0], "boot_id": boot_id()}


def _oom_kills() -> int:
    """
    Return how many processes of our memory cgroup the kernel has killed for memory.

    Exact in a unit of the engine's own; in a shared cgroup another process may have been meant.

    Source: memory.events `oom_kill` (cgroup v2), memory.oom_control `oom_kill` (v1).
    """
    for path in _memory_files():
        try:
            with open(path, encoding="ascii") as file:
                words = [line.split() for line in file]
        except OSError:
            continue
        for word in words:
            if word[0] == "oom_kill":
                return int(word[1])
    return 0


def _memory_files() -> Iterator[str]:
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                yield f"/sys/fs/cgroup/memory{path}/memory.oom_control"
            elif number == "0":
                yield f"/sys/fs/cgroup{path}/memory.events"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--detach" in sys.argv[2:]))
