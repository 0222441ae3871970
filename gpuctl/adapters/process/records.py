"""
The directory that stands for a container engine: one sub-directory per process, plain JSON in it.

`spec.json` is what was asked for, `state.json` and `exit.json` are the shim's. Whoever reads the
directory sees the same processes, so a daemon adopts what an earlier one started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpuctl.adapters.process import shim
from gpuctl.errors import ContainerMissing, RuntimeUnavailable
from gpuctl.model import ContainerReading

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

#: A directory on its way in or out: its name begins with a dot, and nobody lists it.
HIDDEN = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`spec.json`: all that is needed to start a process, by us or by whoever comes after us."""

    name: str
    labels: Mapping[str, str]
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]  # variable → the file that is read when it starts
    port: int  # it will listen there on loopback; 0: nowhere
    user: tuple[int, int] | None  # uid and gid; None: our own
    ulimits: tuple[tuple[str, int, int], ...]  # name, soft, hard; -1 is unlimited
    memory_bytes: int | None
    memory_swap_bytes: int | None  # RAM and swap together, as Docker counts
    pids_limit: int
    log_max_bytes: int
    log_files: int

    @property
    def replica(self) -> str:
        return self.labels.get("gpuctl.replica", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process, told from every other that has had or will have its pid."""

    pid: int
    start_ticks: int
    boot_id: str

    def alive(self, *, zombie: bool) -> bool:
        """True while it exists; *zombie* says whether one that has ended unreaped counts."""
        if self.boot_id != shim.boot_id():
            return False
        read = shim.start_ticks(self.pid)
        return read is not None and read[0] == self.start_ticks and (zombie or read[1] != "Z")

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal to it, SIGKILL to its whole group, as Docker does; nothing once it has ended.

        Raises `ProcessLookupError` when it ends meanwhile.
        """
        handle = os.pidfd_open(self.pid)  # this process, even when its number is used again
        try:
            if not self.alive(zombie=False):
                return
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`state.json`: the engine that was started, and its shim."""

    engine: Identity
    shim: Identity
    started_at: float
    executed: bool  # the engine's program runs; before, its pid is only reserved

    def going(self) -> bool:
        """
        True while the engine runs.

        An engine that has ended counts as running until its shim has written its exit code.
        """
        return self.engine.alive(zombie=self.shim.alive(zombie=False))


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the file system says into words for an operator."""
    try:
        yield
    except OSError as error:
        raise RuntimeUnavailable(
            f"process runtime: {what}: {error}",
            "look whether the state directory is full, read-only or another user's",
        ) from error


def write(directory: Path, record: Record) -> None:
    shim.write_json(str(directory / shim.SPEC), asdict(record))


def read(directory: Path) -> Record:
    """Raises `ContainerMissing` when the process was removed."""
    spec = _json(directory / shim.SPEC)
    if spec is None:
        raise ContainerMissing(f"process runtime: {directory.name[:12]} is not there")
    for name in ("argv", "ulimits"):
        spec[name] = tuple(tuple(v) if isinstance(v, list) else v for v in spec[name])
    spec["user"] = tuple(spec["user"]) if spec["user"] else None
    return Record(**spec)


def read_run(directory: Path) -> Run | None:
    """Return what was started, `None` before the first start."""
    state = _json(directory / shim.STATE)
    if state is None:
        return None
    own = {name: state[name] for name in ("pid", "start_ticks", "boot_id")}
    return Run(
        engine=Identity(**own),
        shim=Identity(**state["shim"]),
        started_at=state["started_at"],
        executed=state["executed"],
    )


def read_exit(directory: Path) -> dict[str, Any] | None:
    """Return `exit.json`: exit_code, oom_killed, error, finished_at."""
    return _json(directory / shim.EXIT)


def find(root: Path, container: str) -> Path | None:
    """Return the directory of a process of ours by its id or name, `None` where there is none."""
    for directory in directories(root):
        with contextlib.suppress(ContainerMissing):  # removed meanwhile
            record = read(directory)
            if record.replica and container in (directory.name, record.name):
                return directory
    return None


def reading(
    directory: Path, boot_seconds: float, used: Callable[[], Mapping[int, float]]
) -> ContainerReading | None:
    """
    Return one process as Docker would tell it, `None` when it is not ours or was removed.

    *used* gives the processor time of every session; it is called only for one that runs.
    """
    try:
        record = read(directory)
    except ContainerMissing:
        return None
    if not record.replica:
        return None
    run = read_run(directory)
    # The order matters: the shim writes exit.json before the engine's pid can disappear.
    running = run is not None and read_exit(directory) is None and run.going()
    ended = None if running else read_exit(directory)
    if run is None and not directory.exists():
        return None  # removed since its spec was read
    label = record.labels.get
    return ContainerReading(
        id=directory.name,
        name=record.name,
        replica=record.replica,
        profile=label("gpuctl.profile", ""),
        state=_state(run, running=running, refused=bool(ended and ended["error"])),
        pid=run.engine.pid if run and running else None,
        started_at=run.started_at if run else None,
        finished_at=ended["finished_at"] if ended else None,
        exit_code=ended["exit_code"] if ended else None,
        oom_killed=bool(ended and ended["oom_killed"]),
        error=ended["error"] if ended else "",
        gpus=tuple(uuid for uuid in label("gpuctl.gpus", "").split(",") if uuid),
        attempt=label("gpuctl.attempt", ""),
        digest=label("gpuctl.digest", ""),
        memory_bytes=_resident_bytes(run.engine.pid) if run and running else None,
        cpu_seconds=used().get(run.engine.pid) if run and running else None,
        boot_seconds=boot_seconds,
    )


def _state(run: Run | None, *, running: bool, refused: bool) -> Any:
    if running:
        return "running"
    return "created" if run is None or refused else "exited"


def directories(root: Path) -> tuple[Path, ...]:
    """Return the directory of every process, in the order of their ids."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return ()
    return tuple(root / name for name in names if not name.startswith(HIDDEN))


def hide(directory: Path) -> Path:
    return directory.with_name(f"{HIDDEN}{directory.name}")


def discard(directory: Path) -> None:
    """Remove a process's directory; one that is interrupted leaves nothing that is listed."""
    hidden = hide(directory)
    os.rename(directory, hidden)
    shutil.rmtree(hidden)


def sweep(root: Path) -> None:
    """Remove what an interrupted `create` or `remove` left."""
    for name in os.listdir(root):
        if name.startswith(HIDDEN) and (root / name).is_dir():
            shutil.rmtree(root / name, ignore_errors=True)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RuntimeUnavailable(
            f"process runtime: {path} is not JSON: {error}",
            "stop its process by hand, then remove the directory",
        ) from error
    return value


def _resident_bytes(pid: int) -> int | None:
    """Source: /proc/<pid>/statm, field 2 (resident pages), proc(5)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return None


def cpu_seconds(*, proc: Path = Path("/proc")) -> Mapping[int, float]:
    """
    Return the processor time used in every session, by the pid of the engine that leads it.

    Source: /proc/<pid>/stat, fields 6 (session) and 14 to 17 (utime, stime, and those of the
    children that were waited for), proc(5).
    """
    ticks: Counter[int] = Counter()
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            fields = (proc / pid / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended, or is another user's under hidepid=1
        ticks[int(fields[3])] += sum(map(int, fields[11:15]))
    return {session: used / _TICKS_PER_SECOND for session, used in ticks.items()}
