"""What is told of running processes: their logs and the stream of events."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from gpuctl.adapters.process import shim
from gpuctl.model import LogRotation
from tests.adapters.process_bench import bench, directory, run, shell
from tests.adapters.runtime_bench import Bench, Watcher

__all__ = ["bench"]


def test_a_log_is_kept_within_its_bounds(bench: Bench) -> None:
    """Three files of some 8 KiB each, the newest lines last, none of them lost on the way."""
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); printf '%0500d\\n' $i; sleep 0.05; done"
    container = run(bench, shell(script, log=LogRotation(max_bytes=8192, files=3)))
    followed = [int(line) for line in bench.runtime.follow(container, 0)]
    bench.ended(container)
    assert followed == list(range(followed[0], 61))
    kept = [int(line) for line in bench.runtime.logs(container, 1000)]
    assert kept == list(range(kept[0], 61))
    assert bench.runtime.logs(container, 3) == tuple(f"{n:0500d}" for n in (58, 59, 60))
    sizes = [path.stat().st_size for path in directory(bench, container).glob("log*")]
    # Looked at once a second: 20 lines of 501 bytes may come on top.
    assert len(sizes) <= 3
    assert all(size <= 8192 + 30 * 501 for size in sizes)


def test_a_log_that_cannot_be_kept_is_given_up(tmp_path: Path) -> None:
    """When the old lines find no place, they go: a full disk must not fill further."""
    log = tmp_path / "log"
    log.write_text("old lines\n")
    (tmp_path / "log.1").mkdir()
    shim.rotate(str(log), max_bytes=5, files=2)
    assert log.read_bytes() == b""


def test_one_file_is_cut_and_none_kept(tmp_path: Path) -> None:
    """A rotation of one file has room for nothing old."""
    log = tmp_path / "log"
    log.write_text("old lines\n")
    shim.rotate(str(log), max_bytes=5, files=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"log": ""}


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
    """A rename and a removal by another client of the directory arrive within two seconds."""
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


def test_a_death_is_told_at_once(bench: Bench) -> None:
    """An engine's end wakes the watcher; it does not wait for the next look."""
    container, _ = bench.started()
    watcher = Watcher(bench.runtime)
    pid = bench.read(container).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    began = time.time()
    assert watcher.wait("die", container).exit_code == 137
    assert time.time() - began < 0.5
