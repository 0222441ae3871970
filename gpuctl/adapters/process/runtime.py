"""
ProcessRuntime: the Runtime port over plain processes and a directory.

Every engine runs under a shim (`shim.py`) that outlives the daemon. What is known of it is in its
directory, so any number of runtimes over one directory agree, one after another or at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import signal as signals
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gpuctl.adapters.process import launch, logs, records, shim
from gpuctl.adapters.process.records import Record, translated
from gpuctl.adapters.process.resolve import resolve
from gpuctl.adapters.process.watch import RESCAN_SECONDS, Readings, Waker, changes
from gpuctl.errors import (
    ContainerMissing,
    NameTaken,
    RuntimeTimeout,
    RuntimeUnavailable,
    StartRefused,
)
from gpuctl.model import ContainerReading, ContainerSpec, RuntimeEvent

#: A shim writes down its engine within 0.1 s; after this long something is wrong.
START_SECONDS = 10.0

#: No holder of a lock keeps it longer than a start takes.
LOCK_SECONDS = START_SECONDS + launch.LAUNCH_SECONDS

PAUSE_SECONDS = 0.005


class ProcessRuntime:
    """Replicas as processes; see `gpuctl.ports.Runtime`, which says what each method does."""

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        units: bool | None = None,
        rescan_seconds: float = RESCAN_SECONDS,
    ) -> None:
        """
        Use the directory *root*, which is made at the first `create`.

        *environment* is what each process starts from: PATH, HOME and LANG unless given. *units*
        says whether engines become transient systemd units; `None` looks whether they can. A
        watcher sees what another process did within *rescan_seconds*.
        """
        self._root = root.absolute()
        self._environment = _minimal() if environment is None else environment
        self._units = launch.units_available() if units is None else units
        self._waker = Waker(rescan_seconds)

    @property
    def kind(self) -> str:
        return "process"

    def identity(self) -> str:
        return str(self._root)

    def list(self) -> tuple[ContainerReading, ...]:
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        used = functools.cache(records.cpu_seconds)  # /proc is read once, or not at all
        with translated("list"):
            found = (records.reading(path, at, used) for path in records.directories(self._root))
            return tuple(reading for reading in found if reading is not None)

    def inspect(self, container: str) -> ContainerReading | None:
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        with translated(f"inspect {container}"):
            directory = records.find(self._root, container)
            if directory is None:
                return None
            return records.reading(directory, at, records.cpu_seconds)

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        # Looked at now, not when the first event is asked for: nothing in between is missed.
        before = {} if since is not None else self._readings()
        return self._watch(before, since or 0.0, self._waker.join())

    def _watch(self, before: Readings, since: float, watcher: int) -> Iterator[RuntimeEvent]:
        try:
            while not self._waker.closed.is_set():
                now = self._readings()
                for event in changes(before, now, time.time()):
                    if event.at >= since:
                        yield event
                before = now
                running = (r.pid for r in now.values() if r.pid is not None)
                self._waker.wait(watcher, running)
        finally:
            self._waker.leave(watcher)

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        identity = secrets.token_hex(32)
        record = resolve(identity, name, spec, labels, self._environment)
        with translated(f"create {name}"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked(self._root):
                records.sweep(self._root)
                self._refuse_taken(name)
                directory = self._root / identity
                hidden = records.hide(directory)
                hidden.mkdir(mode=0o700)
                records.write(hidden, record)
                hidden.rename(directory)
        self._waker.wake()
        return identity

    def start(self, container: str) -> None:
        directory = self._find(container)
        with translated(f"start {container}"), self._locked(directory):
            record = records.read(directory)
            if self._running(directory):
                return
            # A shim that has written its engine's end is about to end itself.
            if records.read_exit(directory):
                _await_shim_end(directory)
            if not _shim_runs(directory):
                _clear(directory)
                self._refuse_hopeless(directory, record)
                launch.launch(directory, record, unit=self._units)
            self._await_start(directory, record)
        self._waker.wake()

    def signal(self, container: str, signal: str) -> None:
        with translated(f"signal {container}"), contextlib.suppress(ProcessLookupError):
            directory = records.find(self._root, container)
            run = records.read_run(directory) if directory else None
            if run is not None:
                run.engine.signal(signals.Signals[signal])

    def rename(self, container: str, name: str) -> None:
        directory = self._find(container)
        with translated(f"rename {container}"), self._locked(self._root):
            record = records.read(directory)
            if record.name == name:
                return
            self._refuse_taken(name)
            records.write(directory, replace(record, name=name))
        self._waker.wake()

    def disconnect(self, container: str) -> None:
        """Do nothing: a process has no network of its own, only its end frees its ports."""
        self._find(container)

    def remove(self, container: str) -> None:
        try:
            directory = self._find(container)
        except ContainerMissing:
            return
        with translated(f"remove {container}"), self._locked(self._root), self._locked(directory):
            if self._running(directory):
                raise RuntimeUnavailable(
                    f"process runtime: {container} is running and cannot be removed",
                    "stop it first: SIGTERM, then SIGKILL",
                )
            _await_shim_end(directory)
            records.discard(directory)
        self._waker.wake()

    def may_open_gpus(self, container: str) -> bool | None:
        return None  # it has no devices of its own

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        directory = self._find(container)
        with translated(f"logs {container}"):
            return logs.tail(directory / shim.LOG, lines)

    def follow(self, container: str, lines: int) -> Iterator[str]:
        directory = self._find(container)
        log = directory / shim.LOG
        with translated(f"logs {container}"):
            yield from logs.follow(
                log,
                lines,
                running=lambda: self._running(directory),
                pause=lambda: self._waker.closed.wait(0.1),
            )

    def has_image(self, image: str) -> bool:
        """Return True: a process needs none."""
        return True

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        """Do nothing: a process needs no image."""

    def close(self) -> None:
        self._waker.close()

    def _readings(self) -> Readings:
        return {reading.id: reading for reading in self.list()}

    def _find(self, container: str) -> Path:
        with translated(f"find {container}"):
            directory = records.find(self._root, container)
        if directory is None:
            raise ContainerMissing(f"process runtime: {container} is not there")
        return directory

    def _refuse_taken(self, name: str) -> None:
        holder = records.find(self._root, name)
        if holder is not None:
            raise NameTaken(f"process runtime: {holder.name[:12]} has the name {name} already")

    def _running(self, directory: Path) -> bool:
        run = records.read_run(directory)
        return run is not None and records.read_exit(directory) is None and run.going()

    def _refuse_hopeless(self, directory: Path, record: Record) -> None:
        """Say what stands in the way of a start, where that can be known beforehand."""
        program = record.argv[0]
        if shutil.which(program, path=record.environment.get("PATH")) is None:
            raise _refused(
                directory,
                127,
                f"{program}: no such program on this host",
                "install it, or give its full path",
            )
        owner = launch.port_owner(record.port) if record.port else None
        if owner is not None:
            raise _refused(
                directory,
                128,
                f"port {record.port} on 127.0.0.1 is taken by {owner}",
                "end it, or give the workload another port",
            )

    def _await_start(self, directory: Path, record: Record) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = records.read_exit(directory)
            if ended is not None and ended["error"]:
                raise StartRefused(f"{record.name}: {ended['error']}")
            run = records.read_run(directory)
            if ended is not None or (run is not None and run.executed):
                return
            time.sleep(PAUSE_SECONDS)
        raise RuntimeTimeout(
            f"{record.name}: not started within {START_SECONDS:.0f} s: "
            f"{launch.launch_errors(directory) or 'its shim has said nothing'}",
            "look whether the machine is overloaded or its disk full",
        )

    @contextlib.contextmanager
    def _locked(self, directory: Path) -> Iterator[None]:
        """Keep out every other thread and process that changes this directory."""
        name = ".lock" if directory == self._root else "start.lock"
        lock = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_SECONDS
        try:
            while not _lock(lock):
                if time.monotonic() > deadline:
                    raise RuntimeTimeout(f"process runtime: {directory / name} is held by another")
                time.sleep(PAUSE_SECONDS)
            yield
        finally:
            os.close(lock)


def _minimal() -> Mapping[str, str]:
    home = os.environ.get("HOME", "/")
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "LANG": "C.UTF-8"}


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shim_runs(directory: Path) -> bool:
    """True while a shim lives; only asked under the start lock, so that no shim is turned away."""
    descriptor = os.open(directory / shim.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _await_shim_end(directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _shim_runs(directory):
        if time.monotonic() > deadline:
            raise RuntimeTimeout(
                f"process runtime: the shim of {directory.name[:12]} does not end",
                f"end it by hand: `fuser {directory / shim.LOCK}` names it",
            )
        time.sleep(PAUSE_SECONDS)


def _clear(directory: Path) -> None:
    """Forget the run before, so that what is read next is of this one."""
    for name in (shim.STATE, shim.EXIT):
        (directory / name).unlink(missing_ok=True)


def _refused(directory: Path, code: int, error: str, hint: str) -> StartRefused:
    """Write down why a start was refused, as Docker keeps it with the container."""
    ended = {"exit_code": code, "oom_killed": False, "error": error, "finished_at": time.time()}
    shim.write_json(str(directory / shim.EXIT), ended)
    return StartRefused(error, hint)
