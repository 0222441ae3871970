"""The process runtime on real processes: the shared contract, and how lives begin and end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuctl.adapters.process import container_of, records, shim
from gpuctl.errors import RuntimeUnavailable
from gpuctl.model import MIB
from tests.adapters.process_bench import bench, directory, exists, run, shell, shim_of
from tests.adapters.runtime_bench import Bench, watched
from tests.adapters.runtime_contract import RuntimeContract
from tests.rig import http
from tests.rig.waiting import wait_for

__all__ = ["bench", "watched"]


class TestContract(RuntimeContract):
    """The shared contract, on real processes."""


CREATOR = """
import os, signal, sys
from pathlib import Path
from gpuctl.adapters.process import ProcessRuntime
from gpuctl.model import ContainerSpec
runtime = ProcessRuntime(Path(sys.argv[1]), units=False)
spec = ContainerSpec(image="", command=tuple(sys.argv[2:]), host_port=0, container_port=0)
container = runtime.create("gpuctl-orphan-0", spec, {"gpuctl.replica": "orphan-0"})
runtime.start(container)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_engine_outlives_the_daemon_that_started_it(bench: Bench) -> None:
    """SIGKILL of the creator: the engine runs on, and its exit code is told to the next one."""
    command = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    root = bench.runtime.identity()
    killed = subprocess.run([sys.executable, "-c", CREATOR, root, *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    (adopted,) = bench.runtime.list()
    assert (adopted.state, adopted.replica) == ("running", "orphan-0")
    bench.runtime.signal(adopted.id, "SIGTERM")
    assert bench.ended(adopted.id).exit_code == 7


def test_an_end_that_nobody_watched_is_remembered(bench: Bench) -> None:
    """An engine that came and went while no daemon ran has left its code."""
    command = ("sh", "-c", "exit 9")
    root = bench.runtime.identity()
    subprocess.run([sys.executable, "-c", CREATOR, root, *command], check=False)
    (found,) = bench.runtime.list()
    assert bench.ended(found.id).exit_code == 9


def test_an_engine_survives_its_shim(bench: Bench) -> None:
    """SIGKILL of the shim: the engine serves on, and when it ends its exit code is unknown."""
    container, port = bench.started()
    before = bench.read(container)
    os.kill(shim_of(bench, container), signal.SIGKILL)
    wait_for(lambda: not exists(shim_of(bench, container)), "the shim's end")
    assert http.get(port, "/health") is not None
    after = bench.read(container)
    assert (after.state, after.pid, after.started_at) == ("running", before.pid, before.started_at)
    bench.runtime.start(container)
    assert bench.read(container).pid == before.pid
    bench.runtime.signal(container, "SIGKILL")
    assert bench.ended(container).exit_code is None


@pytest.mark.parametrize("field", ["start_ticks", "boot_id"])
def test_a_pid_in_other_hands_is_not_ours(bench: Bench, field: str) -> None:
    """A process with our pid but another start time, or of another boot, is never touched."""
    container, port = bench.started()
    state = directory(bench, container) / shim.STATE
    value = json.loads(state.read_text())
    forged = {"start_ticks": value["start_ticks"] + 1, "boot_id": "another"}[field]
    shim.write_json(str(state), {**value, field: forged})
    assert bench.read(container).state == "exited"
    bench.runtime.signal(container, "SIGKILL")
    assert http.get(port, "/health") is not None
    shim.write_json(str(state), value)


def test_a_frozen_engine_is_running(bench: Bench) -> None:
    """SIGSTOP is a fault that health must find, not a state that an operator asked for."""
    container, _ = bench.started()
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert bench.read(container).state == "running"


def test_a_killed_engine_takes_its_workers_along(bench: Bench) -> None:
    """What the engine has started ends with it, however it ends: VRAM must come free."""
    spec = shell("sleep 600 & echo $!; wait")
    container = run(bench, spec)
    (worker,) = wait_for(lambda: bench.runtime.logs(container, 1), "the worker's pid")
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    bench.ended(container)
    wait_for(lambda: not exists(int(worker)), "the worker's end")


def test_processor_time_is_of_the_engine_and_all_it_started(tmp_path: Path) -> None:
    """A script that waits for its engine has that one's time; another session's does not count."""
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, session, seconds in (
        (7, 7, [1, 0, 2, 0]),
        (8, 7, [100, 50, 0, 0]),
        (9, 9, [1, 1, 1, 1]),
    ):
        (tmp_path / str(pid)).mkdir()
        times = " ".join(str(ticks * each) for each in seconds)
        stat = f"{pid} (a ) b) S 1 {pid} {session} 0 -1 0 0 0 0 0 {times} 20 0 1 0 99"
        (tmp_path / f"{pid}/stat").write_text(stat)
    (tmp_path / "10").mkdir()  # it has ended since the directory was read
    assert records.cpu_seconds(proc=tmp_path) == {7: 153.0, 9: 4.0}


def test_a_process_that_may_not_be_looked_at_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under hidepid=1 another user's processes are listed, and refuse to be read."""
    stat = f"S 1 7 7 0 -1 0 0 0 0 0 {os.sysconf('SC_CLK_TCK')} 0 0 0 20 0 1 0 99"
    for pid in (6, 7):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/stat").write_text(f"{pid} (engine) {stat}")
    read = Path.read_bytes

    def hidden(path: Path) -> bytes:
        if path == tmp_path / "6/stat":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", hidden)
    assert records.cpu_seconds(proc=tmp_path) == {7: 1.0}


def test_processor_time_is_read_once_for_all_that_run_and_for_no_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc may hold thousands of processes; who looks up a name asks for none of them."""
    scans: list[Mapping[int, float]] = []
    scan = records.cpu_seconds

    def counted() -> Mapping[int, float]:
        scans.append(scan())
        return scans[-1]

    monkeypatch.setattr(records, "cpu_seconds", counted)
    (first, _), (second, _) = bench.create(), bench.create()
    bench.runtime.start(first)
    bench.runtime.start(second)
    bench.runtime.signal(first, "SIGCONT")
    bench.runtime.logs(second, 1)
    assert scans == []
    found = bench.runtime.list()
    assert [reading.state for reading in found] == ["running", "running"]
    assert all(reading.cpu_seconds is not None for reading in found)
    assert len(scans) == 1


def test_what_has_ended_can_be_started_again(bench: Bench) -> None:
    """A second start has a new process and forgets the first one's end; the log goes on."""
    container = run(bench, shell("echo run; exec sleep 0.2"))
    bench.ended(container)
    first = bench.read(container).started_at
    bench.runtime.start(container)
    again = bench.read(container)
    assert (again.state, again.exit_code) == ("running", None)
    assert again.started_at != first
    assert bench.runtime.logs(container, 5) == ("run", "run")


def test_a_worker_is_told_by_its_environment(bench: Bench) -> None:
    """What an engine has started is the engine's; we, and what has ended, are strangers."""
    container = run(bench, shell("sleep 600 & echo $!; wait"))
    (worker,) = wait_for(lambda: bench.runtime.logs(container, 1), "the worker's pid")
    assert container_of(int(worker)) == container
    assert container_of(os.getpid()) is None
    assert container_of(2**22) is None


def test_a_running_engine_is_not_removed(bench: Bench) -> None:
    """Removing is for what has ended; the hint says what to do first."""
    container, _ = bench.started()
    with pytest.raises(RuntimeUnavailable, match="is running") as refused:
        bench.runtime.remove(container)
    assert "SIGTERM" in refused.value.hint
    assert bench.read(container).state == "running"


def test_disconnecting_leaves_it_as_it_is(bench: Bench) -> None:
    """A process has no network to be cut from."""
    container, port = bench.started()
    bench.runtime.disconnect(container)
    assert http.get(port, "/health") is not None


def test_a_shim_is_small(bench: Bench) -> None:
    """Sixteen engines cost sixteen shims: each stays below 16 MiB, half of it shared."""
    container = run(bench, shell("exec sleep 60"))
    words = Path(f"/proc/{shim_of(bench, container)}/statm").read_text().split()
    assert int(words[1]) * records.PAGE_BYTES < 16 * MIB
