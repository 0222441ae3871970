"""What of a simulated host outlives its process, and who may write it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gpuctl.adapters.clock import SystemClock
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.errors import RuntimeUnavailable
from tests.adapters.runtime_contract import marked
from tests.adapters.simulated_bench import HostFile, Stage, file, spec
from tests.fakes import FakeClock

__all__ = ["file"]


def test_a_new_process_adopts_what_runs(file: HostFile, tmp_path: Path) -> None:
    """Containers, their pids and their loads go on where the state directory is the same."""
    stage = Stage(file, tmp_path / "state")
    stage.loaded()
    before = stage.runtime.list()
    identity = stage.runtime.identity()
    stage.born()
    assert stage.runtime.list() == before
    assert (stage.runtime.identity(), stage.ask()) == (identity, "ok")
    assert stage.start("chat-1", 8082) not in {found.id for found in before}
    assert len({found.pid for found in stage.runtime.list()}) == 2


def test_a_new_process_does_not_repeat_a_fault(file: HostFile, tmp_path: Path) -> None:
    """An edit that has had its death has had it for every process."""
    stage = Stage(file, tmp_path / "state")
    container = stage.loaded()
    file.fault("chat-0", "exit:1")
    assert stage.runtime.list()[0].exit_code == 1
    stage.runtime.start(container)
    stage.born()
    assert stage.runtime.list()[0].state == "running"


def test_hosts_without_a_directory_share_nothing(file: HostFile) -> None:
    """Two simulations in memory are two engines."""
    first, second = Stage(file), Stage(file)
    first.start()
    assert second.runtime.list() == ()
    assert first.runtime.identity() != second.runtime.identity()


def test_nothing_outlives_a_boot(file: HostFile, tmp_path: Path) -> None:
    """After a reboot every container has exited, with the code of an end nobody saw."""
    stage = Stage(file, tmp_path / "state")
    stage.loaded()
    stage.clock = FakeClock(seconds=1.0, boot_id="boot-2")
    stage.born()
    (found,) = stage.runtime.list()
    assert (found.state, found.exit_code, found.finished_at) == ("exited", 255, None)


def test_nothing_is_written_when_nothing_changed(file: HostFile, tmp_path: Path) -> None:
    """Reading, probing and repeating what is done already leave the file as it is."""
    stage = Stage(file, tmp_path / "state")
    container = stage.loaded()
    stored = tmp_path / "state" / "simulated.json"
    before = stored.stat()
    stage.runtime.list()
    stage.host.gpus.read()
    stage.ask()
    stage.runtime.start(container)
    stage.runtime.rename(container, "gpuctl-chat-0")
    after = stored.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_reader_writes_no_directory(file: HostFile, tmp_path: Path) -> None:
    """Looking at a host that nobody supervises makes nothing."""
    SimulatedHost(
        str(file.path), clock=SystemClock(), state_directory=tmp_path / "state"
    ).runtime.list()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"containers": [{}]}', '{"boot_id": 1}'])
def test_a_broken_state_file_is_named(file: HostFile, tmp_path: Path, text: str) -> None:
    """What is no state is an error that names the file and what to do."""
    (tmp_path / "simulated.json").write_text(text)
    host = SimulatedHost(str(file.path), clock=SystemClock(), state_directory=tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"simulated\.json does not hold"):
        host.runtime.list()


def test_no_update_is_lost(file: HostFile, tmp_path: Path) -> None:
    """Clients that write at the same time see each other's containers, all of them."""
    state = tmp_path / "state"

    def create(first: int) -> None:
        runtime = SimulatedHost(str(file.path), clock=SystemClock(), state_directory=state).runtime
        for number in range(first, first + 10):
            runtime.create(f"gpuctl-c-{number}", spec(), marked(f"c-{number}"))

    threads = [threading.Thread(target=create, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = SimulatedHost(str(file.path), clock=SystemClock(), state_directory=state).runtime.list()
    assert len(left) == 30
