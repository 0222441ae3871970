"""
The gateway beside nginx, HAProxy, vllm-router and LiteLLM: `python -m benchmarks.gateway`.

Every proxy is started anew in every round, one after the other, on a core of its own; load and
engines (`mock.c`, which takes no time) are on another. The gateway is what the compiled wheel
installs, and once more interpreted. It does all its duties: a key with limits, a log line for each
request, metrics, retries, gate and queue. The peers check the key where they can (vllm-router has
the option and does not), and log nothing. It prints the medians and what became of the goals; a
peer that is not installed is left out. Exit code 0: it is no test.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.gateway import installed, load, micro, proxies, table
from benchmarks.gateway.load import Figures, Load

#: Medians of an odd number; the whole takes nine minutes.
ROUNDS = 5


def main() -> int:
    options = _options()
    missing = [tool for tool in ("wrk", "taskset", "cc") if shutil.which(tool) is None]
    cpus = sorted(os.sched_getaffinity(0))
    if missing or len(cpus) < 2:
        print(f"not measured: there is no {missing[0] if missing else 'second core'}")
        return 0
    chosen = _chosen(options.only)
    print(f"gpuctl: the compiled wheel, installed in {installed.installed()}")
    times = load.QUICK if options.quick else load.FULL
    with tempfile.TemporaryDirectory(prefix="gpuctl-bench-") as name:
        folder = Path(name)
        work = Load(folder, cpus[0])
        rounds = [
            _round(work, chosen, times, cpus[1], folder / str(number))
            for number in range(1 if options.quick else options.rounds)
        ]
    costs_us = micro.costs_us()
    print(table.table(rounds))
    print()
    for what, (median_us, p99_us) in costs_us.items():
        print(f"{what}: {median_us:.1f} µs, p99 {p99_us:.1f}")
    print()
    print("\n".join(table.goals(rounds, costs_us)))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="of a proxy; may be repeated"
    )
    return parser.parse_args()


def _chosen(names: Sequence[str]) -> list[proxies.Proxy]:
    """Return the proxies that are asked for and installed."""
    chosen = []
    for proxy in proxies.PROXIES:
        if names and proxy.name not in names:
            continue
        if proxies.found(proxy.program) is None:
            print(f"left out: {proxy.name}, as there is no {proxy.program}")
        else:
            chosen.append(proxy)
    return chosen


def _round(
    work: Load, chosen: Sequence[proxies.Proxy], times: load.Times, cpu: int, folder: Path
) -> dict[str, Figures]:
    folder.mkdir()
    figures = {}
    with work.engines() as pid:
        figures[table.DIRECT] = load.measure(work, proxies.ENGINES[0], pid, times)
        for proxy in chosen:
            with proxies.running(proxy, cpu, folder / proxy.name) as running:
                if proxy in (proxies.GPUCTL, proxies.INTERPRETED):
                    _say_when_all_is_ready(proxy.name, running)
                found = load.measure(work, proxies.PORT, running.pid, times)
            figures[proxy.name] = replace(found, ready_seconds=running.ready_seconds)
            print(f"{folder.name} {proxy.name}: {found.per_second:,.0f}/s", file=sys.stderr)
    return figures


def _say_when_all_is_ready(name: str, running: proxies.Running) -> None:
    began = time.monotonic()
    while proxies.get("/readyz") != 200:
        time.sleep(0.002)
    seconds = running.ready_seconds + time.monotonic() - began
    how = "compiled" if installed.is_compiled(running.pid) else "interpreted"
    print(
        f"{name}: runs {how}; first answer after {running.ready_seconds:.2f} s, the operator's"
        f" endpoints after {seconds:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
