"""One supervisor per state directory and per engine, shown with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.adapters.lock import lock_directory, lock_engine
from gpuctl.errors import LockHeld, StoreError

HOLDS_DIRECTORY = """
import sys
from pathlib import Path
from gpuctl.adapters.lock import lock_directory
held = lock_directory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
HOLDS_ENGINE = """
import sys
from gpuctl.adapters.lock import lock_engine
held = lock_engine(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def _holder(program: str, argument: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has taken a lock; killed at the end."""
    command = [sys.executable, "-c", program, argument]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def _killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def name() -> str:
    """The identity of an engine that no other test uses."""
    return f"test-{uuid.uuid4()}"


def test_a_second_supervisor_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    """The message has the pid, so that an operator need not search for it."""
    with _holder(HOLDS_DIRECTORY, str(tmp_path)) as process, pytest.raises(LockHeld) as held:
        lock_directory(tmp_path)
    assert held.value.message == (f"{tmp_path}: another gpuctl (pid {process.pid}) supervises here")


def test_a_killed_holder_frees_the_directory(tmp_path: Path) -> None:
    """The kernel frees it with SIGKILL, and the next holder's pid replaces the longer one."""
    (tmp_path / "lock").write_text("99999999\n")
    with _holder(HOLDS_DIRECTORY, str(tmp_path)) as process:
        _killed(process)
        descriptor = lock_directory(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_one_process_cannot_take_a_directory_twice(tmp_path: Path) -> None:
    """The lock is the descriptor's and not the process's, so a second one within it is refused."""
    descriptor = lock_directory(tmp_path)
    with pytest.raises(LockHeld, match=f"pid {os.getpid()}"):
        lock_directory(tmp_path)
    os.close(descriptor)
    os.close(lock_directory(tmp_path))


def test_a_refused_supervisor_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """`up` in a loop against a held directory does not run out of descriptors."""
    descriptor = lock_directory(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(LockHeld):
            lock_directory(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(descriptor)


def test_a_child_does_not_inherit_the_locks(tmp_path: Path, name: str) -> None:
    """An engine that outlives its daemon must not keep the next daemon out."""
    descriptor, held = lock_directory(tmp_path), lock_engine(name)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        os.close(descriptor)
        held.close()
        os.close(lock_directory(tmp_path))
        lock_engine(name).close()
        assert child.poll() is None
        child.kill()


def test_a_holder_that_cannot_be_named_is_unknown(tmp_path: Path) -> None:
    """Whatever stands in the file, the refusal is words."""
    descriptor = lock_directory(tmp_path)
    for content, told in ((b"\xff\xfe", "pid unknown"), (b"", "pid unknown")):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(LockHeld, match=told):
            lock_directory(tmp_path)
    os.close(descriptor)


def test_the_lock_file_is_for_owner_and_group(tmp_path: Path) -> None:
    """Others do not see it."""
    os.close(lock_directory(tmp_path))
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) & 0o137 == 0


def test_a_directory_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    """It cannot be locked, in words with its path and what to do."""
    with pytest.raises(StoreError, match="gone/lock: No such file") as missing:
        lock_directory(tmp_path / "gone")
    assert "GPUCTL_STATE_DIR" in missing.value.hint


def test_an_engine_has_one_supervisor_whatever_its_state_directory(name: str) -> None:
    """Two daemons with two directories cannot both act on one engine; SIGKILL frees it."""
    with _holder(HOLDS_ENGINE, name) as process:
        with pytest.raises(LockHeld, match="another gpuctl supervises the engine test-"):
            lock_engine(name)
        _killed(process)
        lock_engine(name).close()


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_long_identities_are_told_apart_to_their_end(name: str, letter: str) -> None:
    """The process runtime's identity is a path, and paths may differ only after 100 characters."""
    path = f"/{name}{letter * 150}"
    with lock_engine(f"{path}/a"), lock_engine(f"{path}/b"), pytest.raises(LockHeld):
        lock_engine(f"{path}/a")
