"""
Load on a port, and what it costs the processes behind it.

Load and engines stay on one core, a proxy has the other: `measure` returns one round's figures.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.gateway.proxies import ENGINES, HERE, KEY

#: "max_tokens" that the engine takes as a word to it.
AT_ONCE, EVERY_10_MS = 64, 65


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long each part of a round takes, in whole seconds, as wrk has it."""

    alone: int
    eight: int
    crowd: int
    one_core: int
    first: int
    cadence: int


QUICK = Times(alone=1, eight=1, crowd=1, one_core=1, first=1, cadence=1)
FULL = Times(alone=2, eight=2, crowd=3, one_core=1, first=1, cadence=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of one proxy in one round. Times are in microseconds."""

    per_second: float  # answers, 64 clients
    cpu_us: float  # of one of these
    alone_p50_us: float  # one client
    alone_p99_us: float
    eight_p50_us: float
    eight_p99_us: float
    one_core_p50_us: float  # one client, with the proxy on the core of load and engines
    first_us: float  # to a stream's first event, median, one client
    chunk_cpu_us: float  # of one event, 16 streams with 10 ms from one to the next
    rss_bytes: int  # after all that
    errors: int
    ready_seconds: float = 0.0  # from its start to its first answer


class Load:
    """The programs that make load, and the engine; built once."""

    def __init__(self, folder: Path, cpu: int) -> None:
        self._folder, self.cpu = folder, cpu
        for name in ("mock", "streams"):
            source = str(HERE / f"{name}.c")
            subprocess.run(("cc", "-O2", "-o", str(folder / name), source), check=True)

    @contextmanager
    def engines(self) -> Iterator[int]:
        """Run the engines, one process of all; yield its pid."""
        command = (str(self._folder / "mock"), str(ENGINES[0]), str(len(ENGINES)))
        process = subprocess.Popen(("taskset", "-c", str(self.cpu), *command))
        try:
            _wait(ENGINES[-1], process)
            yield process.pid
        finally:
            process.terminate()
            process.wait()

    def ask(self, port: int, clients: int, seconds: int) -> Mapping[str, float]:
        """Ask for one answer after the other; see `request.lua` for what it returns."""
        return self._run(
            *("wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s"),
            *("-s", str(HERE / "request.lua"), f"http://127.0.0.1:{port}/v1/chat/completions"),
        )

    def stream(self, port: int, clients: int, seconds: float, tokens: int) -> Mapping[str, float]:
        """Ask for one stream after the other; see `streams.c` for what it returns."""
        program = str(self._folder / "streams")
        return self._run(
            program, str(port), str(clients), str(int(seconds * 1000)), str(tokens), KEY
        )

    def _run(self, *command: str) -> Mapping[str, float]:
        done = subprocess.run(
            ("taskset", "-c", str(self.cpu), *command),
            env={**os.environ, "BENCH_KEY": KEY},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return last_line(done.stdout)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something listens there."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no engine listens on port {port}") from None
            time.sleep(0.01)
        else:
            return


def last_line(output: str) -> Mapping[str, float]:
    """Return what the last line of a program's output says, a JSON object of numbers."""
    found: dict[str, float] = json.loads(output.strip().rpartition("\n")[2])
    return found


def measure(load: Load, port: int, pid: int, times: Times) -> Figures:
    """Measure one round of what listens on *port*, of which *pid* is the first process."""
    load.ask(port, 64, 1)  # connections are opened, and what is made late is made
    alone = load.ask(port, 1, times.alone)
    eight = load.ask(port, 8, times.eight)
    before = cpu_seconds(pid)
    crowd = load.ask(port, 64, times.crowd)
    crowd_cpu = cpu_seconds(pid) - before
    first = load.stream(port, 1, times.first, AT_ONCE)
    before = cpu_seconds(pid)
    cadence = load.stream(port, 16, times.cadence, EVERY_10_MS)
    cadence_cpu = cpu_seconds(pid) - before
    rss_bytes = resident_bytes(pid)
    with on_core(pid, load.cpu):
        one_core = load.ask(port, 1, times.one_core)
    parts = (alone, eight, crowd, first, cadence, one_core)
    return Figures(
        per_second=crowd["requests"] / crowd["seconds"],
        cpu_us=crowd_cpu * 1e6 / max(crowd["requests"], 1),
        alone_p50_us=alone["p50_us"],
        alone_p99_us=alone["p99_us"],
        eight_p50_us=eight["p50_us"],
        eight_p99_us=eight["p99_us"],
        one_core_p50_us=one_core["p50_us"],
        first_us=first["first_p50_us"],
        chunk_cpu_us=cadence_cpu * 1e6 / max(cadence["chunks"], 1),
        rss_bytes=rss_bytes,
        errors=int(sum(part["errors"] for part in parts)),
    )


def cpu_seconds(pid: int) -> float:
    """Return what a process and its children have used. Source: /proc/PID/task/TID/schedstat."""
    nanoseconds = 0
    for task in _tasks(pid):
        nanoseconds += int(Path(f"/proc/{task}/schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def resident_bytes(pid: int) -> int:
    """Return the RAM that they hold. Source: /proc/PID/smaps_rollup, Rss."""
    kib = 0
    for process in _tree(pid):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    return kib * 1024


@contextmanager
def on_core(pid: int, cpu: int) -> Iterator[None]:
    """Let them run on this core, and where they were afterwards."""
    before = {task: os.sched_getaffinity(task) for task in _tasks(pid)}
    for task in before:
        os.sched_setaffinity(task, {cpu})
    try:
        yield
    finally:
        for task, cpus in before.items():
            os.sched_setaffinity(task, cpus)


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _tasks(pid: int) -> list[int]:
    return [thread.id for process in _tree(pid) for thread in process.threads()]
