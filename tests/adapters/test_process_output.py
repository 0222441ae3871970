"""What is told of running processes: their logs and the stream of events."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.adapters.process import ProcessRuntime, logs, shim
from gpuctl.model import LogRotation
from tests.adapters.process_bench import bench, directory, run, shell
from tests.adapters.runtime_bench import Bench, Watcher, marked

__all__ = ["bench"]

#: What a file system frees at a time, at most, where these tests run. Source: stat(2), st_blksize.
BLOCK = 4096
KIB = 1024


def held_bytes(log: Path) -> int:
    """Return what a file takes of the disk. Source: stat(2), st_blocks of 512 bytes."""
    return log.stat().st_blocks * 512


def test_a_log_is_kept_within_its_bounds(bench: Bench) -> None:
    """A burst of 60 MB with room for 64 KiB: its newest lines stay, all of them, and no more."""
    rotation = LogRotation(max_bytes=32 * KIB, files=2)
    container = run(bench, shell("exec seq 7000000", log=rotation))
    bench.ended(container)
    kept = [int(line) for line in bench.runtime.logs(container, 7000000)]
    assert kept == list(range(kept[0], 7000001))
    log = directory(bench, container) / "log"
    assert 64 * KIB - 8 < len(kept) * 8 <= held_bytes(log) <= 64 * KIB + 3 * BLOCK


def test_no_line_is_lost_while_the_log_is_trimmed(tmp_path: Path) -> None:
    """However often the old part goes while lines come, those that stay have no gap."""
    log = tmp_path / "log"
    with log.open("ab") as output, subprocess.Popen(["seq", "3000000"], stdout=output) as writer:
        trimmed = 0
        while writer.poll() is None:
            shim.trim(str(log), keep_bytes=64 * KIB)
            trimmed += 1
    kept = [int(line) for line in logs.tail(log, 3000000)]
    assert trimmed > 10
    assert kept == list(range(kept[0], 3000001))
    assert len(kept) * 8 > 64 * KIB - 8


@pytest.mark.parametrize("keep_bytes", [3 * BLOCK - 10, 3 * BLOCK, 3 * BLOCK + 10])
def test_every_line_that_begins_within_the_bound_stays(tmp_path: Path, keep_bytes: int) -> None:
    """To the byte: 10 blocks of lines of 8 bytes, on and beside the edge of a block."""
    log = tmp_path / "log"
    lines = [f"{number:07d}" for number in range(10 * BLOCK // 8)]
    log.write_text("".join(f"{line}\n" for line in lines))
    shim.trim(str(log), keep_bytes)
    kept = logs.tail(log, 10**6)
    assert len(kept) >= keep_bytes // 8
    assert list(kept) == lines[-len(kept) :]
    assert held_bytes(log) <= keep_bytes + 2 * BLOCK


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    """Nothing goes that there is room for; a log that somebody has removed is not made again."""
    log = tmp_path / "log"
    shim.trim(str(log), keep_bytes=0)
    assert not log.exists()
    log.write_bytes(b"x" * (2 * BLOCK))
    shim.trim(str(log), keep_bytes=2 * BLOCK)
    assert held_bytes(log) == 2 * BLOCK


def test_a_log_that_cannot_be_trimmed_is_given_up(tmp_path: Path) -> None:
    """Where no part of a file can be freed, all of it is: a full disk must not fill further."""

    def refuse(descriptor: int, end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    log = tmp_path / "log"
    log.write_bytes(b"x" * (3 * BLOCK))
    shim.trim(str(log), keep_bytes=BLOCK, punch=refuse)
    assert log.read_bytes() == b""


def test_a_reader_that_is_left_behind_is_told_so(tmp_path: Path) -> None:
    """What went before it was read is said in its place, and no part of a line is shown as one."""
    log = tmp_path / "log"
    log.write_text("first\nhal")
    write = iter([f"f\n{'x' * 100}\n" * 500, "last\n", ""])

    def pause() -> bool:
        with log.open("a") as file:
            file.write(text := next(write))
        shim.trim(str(log), keep_bytes=1000)
        return not text

    followed = list(logs.follow(log, 5, running=lambda: True, pause=pause))
    assert followed[:3] == ["first", "hal", logs.GIVEN_UP]
    assert {"x" * 100, "f"} == set(followed[3:-1])
    assert followed[-1] == "last"


def test_a_reader_at_the_edge_of_the_hole_misses_nothing(tmp_path: Path) -> None:
    """What was trimmed up to the very byte that it had read is no gap."""
    log = tmp_path / "log"
    log.write_text("1234567\n" * (BLOCK // 8))
    write = iter(["7654321\n" * 200, ""])

    def pause() -> bool:
        with log.open("a") as file:
            file.write(text := next(write))
        shim.trim(str(log), keep_bytes=1000)
        return not text

    assert list(logs.follow(log, 0, lambda: True, pause)) == ["7654321"] * 200


def test_a_reader_begins_again_when_the_log_was_cut(tmp_path: Path) -> None:
    """A log that is shorter than what was read of it has begun anew."""
    log = tmp_path / "log"
    log.write_text("old lines\n")
    write = iter(["new\n", ""])

    def pause() -> bool:
        log.write_text(text := next(write))
        return not text

    assert list(logs.follow(log, 5, lambda: True, pause)) == ["old lines", "new"]


def test_the_last_lines_are_read_without_the_rest(bench: Bench) -> None:
    """A long log is read from its end; a line without an end is a line."""
    container = run(bench, shell("seq 200000; printf unfinished"))
    bench.ended(container)
    assert bench.runtime.logs(container, 3) == ("199999", "200000", "unfinished")
    assert bench.runtime.logs(container, 0) == ()


def test_what_was_missed_is_told_again(bench: Bench) -> None:
    """A stream opened with *since* begins with what has happened from then on."""
    since = time.time()
    container = run(bench, shell("exit 4"))
    bench.ended(container)
    watcher = Watcher(bench.runtime, since)
    assert watcher.wait("die", container).exit_code == 4
    assert [event.action for event in watcher.events] == ["start", "die"]


def test_what_another_did_is_seen(bench: Bench) -> None:
    """A rename and a removal by another client of the directory arrive with the next look."""
    watcher = Watcher(bench.open())
    container, replica = bench.create()
    other = bench.open()
    other.start(container)
    watcher.wait("start", container)
    other.rename(container, f"gpuctl-{replica}-old")
    assert watcher.wait("rename", container).replica == replica
    other.signal(container, "SIGKILL")
    bench.ended(container)
    other.remove(container)
    watcher.wait("destroy", container)


@pytest.fixture
def patient(bench: Bench) -> Iterator[ProcessRuntime]:
    """Another client of the bench's directory, whose watchers hardly ever look by themselves."""
    runtime = ProcessRuntime(Path(bench.runtime.identity()), units=False, rescan_seconds=600.0)
    yield runtime
    runtime.close()


def test_a_death_is_told_at_once(bench: Bench, patient: ProcessRuntime) -> None:
    """An engine's end wakes the watcher; it does not wait for the next look."""
    container, _ = bench.started()
    watcher = Watcher(patient)
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    began = time.time()
    assert watcher.wait("die", container).exit_code == 137
    assert time.time() - began < 0.5


def test_what_we_do_is_told_at_once(patient: ProcessRuntime) -> None:
    """Our own start, rename and removal wake our watchers, and closing lets them go."""
    watcher = Watcher(patient)
    container = patient.create("gpuctl-chat-0", shell("exec sleep 600"), marked("chat-0"))
    patient.start(container)
    watcher.wait("start", container)
    patient.rename(container, "gpuctl-chat-0-old")
    watcher.wait("rename", container)
    patient.signal(container, "SIGKILL")
    watcher.wait("die", container)
    patient.remove(container)
    watcher.wait("destroy", container)
    patient.close()
    watcher.thread.join(1.0)
    assert not watcher.thread.is_alive()
