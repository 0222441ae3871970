"""
The containers of a simulated host, as they are kept: values that change by being replaced, and one
JSON file of them that any process of the same state directory reads and writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from gpuctl.errors import RuntimeTimeout, RuntimeUnavailable

#: Whoever holds the lock lets it go within milliseconds, unless it is stopped.
LOCK_SECONDS = 5.0
PAUSE_SECONDS = 0.01
#: Linux gives no process a pid above 2**22 (PID_MAX_LIMIT, proc(5)), so none of these exists.
FIRST_PID = 2**22 + 1
#: The engine itself was down, and says nothing else of what ran: the exit code Docker shows then.
LOST_EXIT_CODE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One simulated container; times are Unix seconds unless they say otherwise."""

    id: str
    name: str
    labels: Mapping[str, str]
    image: str
    port: int  # on the host's loopback; 0 once it is cut from its network
    gpus: tuple[str, ...]  # UUIDs
    vram_bytes: int | None = None  # planned of each of them; None: nobody knows
    memory_limit_bytes: int | None
    state: Literal["created", "running", "exited"] = "created"
    pid: int | None = None
    started_at: float | None = None
    started_boot_seconds: float = 0.0
    finished_at: float | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""

    @property
    def replica(self) -> str:
        """The replica it belongs to; "" when it is not ours."""
        return self.labels.get("gpuctl.replica", "")

    def ended(self, code: int, at: float, *, oom_killed: bool = False) -> Container:
        """Return it as it is after its end."""
        return replace(
            self, state="exited", pid=None, exit_code=code, finished_at=at, oom_killed=oom_killed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that outlives a process."""

    boot_id: str
    containers: Mapping[str, Container] = field(default_factory=dict)  # by id, oldest first
    next_pid: int = FIRST_PID
    #: Replica → the edit of the host-state file whose deadly fault it has had.
    suffered: Mapping[str, int] = field(default_factory=dict)
    xids_told: int = 0  # of those in the host-state file, its first ones

    def with_container(self, container: Container) -> State:
        """Return the state with a container added or replaced."""
        return replace(self, containers={**self.containers, container.id: container})

    def without(self, container: str) -> State:
        """Return the state without a container."""
        kept = {id_: each for id_, each in self.containers.items() if id_ != container}
        return replace(self, containers=kept)

    def booted(self, boot_id: str) -> State:
        """Return the state as this boot finds it: nothing has outlived another one."""
        if boot_id == self.boot_id:
            return self
        found = {
            id_: replace(each.ended(LOST_EXIT_CODE, 0.0), finished_at=None)
            if each.state == "running"
            else each
            for id_, each in self.containers.items()
        }
        return replace(self, boot_id=boot_id, containers=found)


#: dataclasses.asdict copies every value deeply, which costs five times the writing.
_FIELDS = tuple(each.name for each in fields(Container))


class Shelf:
    """Where the state lies: in a file, or without a *directory* only in memory."""

    def __init__(self, directory: Path | None, boot_id: str) -> None:
        self._path = directory / "simulated.json" if directory else None
        self._seen: tuple[int, int, int] | None = None
        self._state = State(boot_id=boot_id)

    def read(self) -> State:
        """
        Return the state; the file is read only when another process has written it.

        Raises:
            RuntimeUnavailable: it cannot be read.
        """
        if self._path is None:
            return self._state
        with _translated(self._path):
            seen = _stamp(self._path)
            if seen != self._seen:
                self._state = _load(self._path, self._state.boot_id)
                self._seen = seen
        return self._state

    def write(self, state: State) -> None:
        """Replace the state, in a way that no reader sees a part of it."""
        if self._path is not None:
            with _translated(self._path):
                temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
                temporary.write_text(json.dumps(_document(state), separators=(",", ":")))
                os.replace(temporary, self._path)
                self._seen = _stamp(self._path)
        self._state = state

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep out every other process while the state is read, changed and written."""
        if self._path is None:
            yield
            return
        with _translated(self._path):
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            lock = os.open(self._path.with_suffix(".lock"), flags, 0o600)
        try:
            _acquire(lock, self._path)
            yield
        finally:
            os.close(lock)


def _acquire(lock: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeTimeout(f"simulated host: {path} is held by another") from None
        time.sleep(PAUSE_SECONDS)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load(path: Path, boot_id: str) -> State:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return State(boot_id=boot_id)
    containers = (
        Container(**{**each, "gpus": tuple(each["gpus"])}) for each in document.pop("containers")
    )
    state = State(**document, containers={each.id: each for each in containers})
    return state.booted(boot_id)


def _document(state: State) -> dict[str, Any]:
    return {
        "boot_id": state.boot_id,
        "next_pid": state.next_pid,
        "suffered": dict(state.suffered),
        "xids_told": state.xids_told,
        "containers": [
            {name: getattr(each, name) for name in _FIELDS} for each in state.containers.values()
        ],
    }


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RuntimeUnavailable(
            f"simulated host: {path}: {error.strerror or error}",
            "look whether the state directory is full, read-only or another user's",
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RuntimeUnavailable(
            f"simulated host: {path} does not hold simulated containers: {error}",
            "remove the file: nothing in it is real",
        ) from error
