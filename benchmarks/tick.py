"""
What a tick of the daemon costs, and whether a long run stays small: `python benchmarks/tick.py`.

The daemon is the real one with its real journal on disk; host, containers and time are simulated,
so nothing waits. Figures are of CPU time (time.process_time); the goals are ratios and counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from gpuctl import host_state
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.arrangement import Setting
from gpuctl.daemon import Daemon
from gpuctl.host_state import HostState
from gpuctl.model import (
    GIB,
    ContainerSpec,
    GpuIdentity,
    HostSettings,
    Plan,
    ProbeSpec,
    Profile,
    Replica,
    WatchdogSettings,
)
from gpuctl.ports import World

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fakes import FakeClock, FakeGateway, Inline

SMALL, LARGE, GOAL_RATIO = 64, 512, 9.0
RUNS, TICKS = 5, 20
#: The long run: this many replicas, one killed from outside every so many ticks.
REPLICAS, DEATH_TICKS = 16, 100
#: Eight replicas with and without a GPU each, sampling and tick together.
CARDS, GOAL_GPUS_MS = 8, 20.0
GOAL_MEGABYTES, GOAL_FDS, GOAL_THREADS = 5.0, 2, 0
INTERVAL_SECONDS = 5.0
#: Until a ready replica's VRAM has a baseline, which is when every check is at work.
SETTLED_TICKS = 40
FIRST_PORT = 10_000

SETTINGS = WatchdogSettings(
    interval_seconds=INTERVAL_SECONDS, loads_at_once=0, load_spacing_seconds=0.0
)


class Stage:
    """A daemon on a simulated host with so many replicas, driven tick by tick."""

    def __init__(self, folder: Path, replicas: int, gpus: int, *, threads: bool = False) -> None:
        self.clock, self.threads = FakeClock(), threads
        plan = _plan(replicas, gpus)
        folder.mkdir()
        (folder / "host.json").write_text(host_state.dump(_host(gpus)))
        host = SimulatedHost(str(folder / "host.json"), clock=self.clock)
        self.runtime = host.runtime
        world = World(
            runtime=host.runtime,
            gpus=host.gpus,
            prober=host.prober,
            host=host.host,
            store=SqliteStore(folder / "state.db", folder / "status.json"),
            clock=self.clock,
            gateway=FakeGateway(),
        )
        setting = Setting(
            profile=Profile(host=HostSettings(name="benchmark")), plan=plan, arrange=lambda _: plan
        )
        workers = {} if threads else {"hire": Inline}
        self.daemon = Daemon(world, lambda: setting, simulated=True, **workers)  # type: ignore[arg-type]

    def pass_(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.advance(INTERVAL_SECONDS)
            self.daemon.sources.sample()
            self.daemon.step()

    def settle(self, replicas: int) -> None:
        """Bring every replica up and let it settle."""
        self.await_running(replicas)
        self.pass_(SETTLED_TICKS)

    def await_running(self, replicas: int) -> None:
        """Let time pass until so many run; real workers are given real time."""
        for _ in range(1000):
            if sum(found.state == "running" for found in self.runtime.list()) == replicas:
                return
            self.clock.advance(1.0)
            self.daemon.sources.sample()
            self.daemon.step(0.02 if self.threads else 0.0)
        raise SystemExit(f"{replicas} replicas did not come up")

    def cost(self, ticks: int) -> tuple[float, float]:
        """Return the CPU seconds of one sampling and of one tick, medians over so many."""
        samplings, steps = [], []
        for _ in range(ticks):
            self.clock.advance(INTERVAL_SECONDS)
            began = time.process_time()
            self.daemon.sources.sample()
            sampled = time.process_time()
            self.daemon.step()
            samplings.append(sampled - began)
            steps.append(time.process_time() - sampled)
        return statistics.median(samplings), statistics.median(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What this process holds."""

    megabytes: float  # resident
    fds: int
    threads: int

    @classmethod
    def now(cls) -> Size:
        gc.collect()
        # Source: /proc/self/statm, field 2 (resident pages), proc(5).
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            megabytes=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            fds=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
        )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--ticks", type=int, default=10_000, help="of the long run")
    options.add_argument("--gpus", type=int, default=8, help="of the host")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        met = [
            _ratio(Path(folder), given.gpus),
            _gpus(Path(folder)),
            _growth(Path(folder), given.ticks),
        ]
    return 0 if all(met) else 1


def _ratio(folder: Path, gpus: int) -> bool:
    """Print what a tick costs with few and with many replicas; return whether the goal is met."""
    stages = {n: Stage(folder / str(n), n, gpus) for n in (SMALL, LARGE)}
    costs: dict[int, list[tuple[float, float]]] = {SMALL: [], LARGE: []}
    for replicas, stage in stages.items():
        stage.settle(replicas)
    for _ in range(RUNS):  # by turns, so that a slow moment of the machine falls on both
        for replicas, stage in stages.items():
            costs[replicas].append(stage.cost(TICKS))
    small, large = (_medians(costs[n]) for n in (SMALL, LARGE))
    print(f"{'CPU per tick':<22}{SMALL:>7}{LARGE:>10}{'ratio':>9}{'goal':>8}")
    for name, few, many in zip(("sampling", "tick"), small, large, strict=True):
        goal = f"≤ {GOAL_RATIO:g}" if name == "tick" else ""
        print(f"{name:<22}{few * 1e3:>4.1f} ms{many * 1e3:>7.1f} ms{many / few:>9.1f}{goal:>8}")
    return large[1] / small[1] <= GOAL_RATIO


def _gpus(folder: Path) -> bool:
    """Print what eight GPUs add to sampling and tick; return whether the goal is met."""
    stages = {n: Stage(folder / f"gpus-{n}", CARDS, n) for n in (0, CARDS)}
    costs: dict[int, list[float]] = {0: [], CARDS: []}
    for stage in stages.values():
        stage.settle(CARDS)
    for _ in range(RUNS):
        for cards, stage in stages.items():
            costs[cards].append(sum(stage.cost(TICKS)))
    without, beside = (statistics.median(costs[n]) * 1e3 for n in (0, CARDS))
    more = beside - without
    print(
        f"\n{CARDS} replicas: {without:.1f} ms on the CPU, {beside:.1f} ms on {CARDS} GPUs:",
        end=" ",
    )
    print(f"{more:+.1f} ms (goal + {GOAL_GPUS_MS:g})")
    return more <= GOAL_GPUS_MS


def _medians(costs: list[tuple[float, float]]) -> tuple[float, float]:
    samplings, steps = zip(*costs, strict=True)
    return statistics.median(samplings), statistics.median(steps)


def _growth(folder: Path, ticks: int) -> bool:
    """Print what a long run leaves behind in this process; return whether the goals are met."""
    stage = Stage(folder / "long", REPLICAS, 8, threads=True)
    stage.settle(REPLICAS)
    _die(stage)
    before, began = Size.now(), time.process_time()
    for tick in range(1, ticks + 1):
        stage.pass_(1)
        if tick % DEATH_TICKS == 0:
            _die(stage)
    seconds = time.process_time() - began
    after = Size.now()
    goals = Size(megabytes=GOAL_MEGABYTES, fds=GOAL_FDS, threads=GOAL_THREADS)
    print(f"\n{ticks} ticks, {REPLICAS} replicas, a death every {DEATH_TICKS}: {seconds:.1f} s CPU")
    print(f"{'':<22}{'before':>7}{'after':>10}{'change':>9}{'goal':>8}")
    met = True
    for field in dataclasses.fields(Size):
        old, new, goal = (getattr(size, field.name) for size in (before, after, goals))
        sign = "+" if field.name == "megabytes" else "±"  # memory given back is no fault
        change = new - old
        met = met and (change if sign == "+" else abs(change)) <= goal
        print(f"{field.name:<22}{old:>7.1f}{new:>10.1f}{change:>+9.1f}{f'{sign} {goal:g}':>8}")
    return met


def _die(stage: Stage) -> None:
    stage.runtime.signal(stage.runtime.list()[0].id, "SIGKILL")
    stage.await_running(REPLICAS)


def _host(gpus: int) -> HostState:
    """Return a host of A100, which report most of all cards."""
    shipped = host_state.read(host_state.find("a100x8"))
    cards = (
        dataclasses.replace(
            shipped.gpus[index % len(shipped.gpus)], index=index, uuid=f"GPU-{index}"
        )
        for index in range(gpus)
    )
    return dataclasses.replace(shipped, memory_total_bytes=512 * GIB, gpus=tuple(cards), links=())


def _plan(replicas: int, gpus: int) -> Plan:
    cards = tuple(GpuIdentity(index=i, uuid=f"GPU-{i}", name="A100") for i in range(gpus))
    own = [cards[n % gpus : n % gpus + 1] if gpus else () for n in range(replicas)]
    return Plan(
        profile="benchmark",
        watchdog=SETTINGS,
        replicas=tuple(_replica(number, own[number]) for number in range(replicas)),
        gpus=cards,
        expected_gpus=gpus,
    )


def _replica(number: int, gpus: tuple[GpuIdentity, ...]) -> Replica:
    port = FIRST_PORT + number
    return Replica(
        name=f"chat-{number}",
        workload="chat",
        engine="llama.cpp",
        gpus=gpus,
        spec=ContainerSpec(
            image="engine:1",
            host_port=port,
            container_port=8080,
            gpus=tuple(gpu.uuid for gpu in gpus),
            memory_bytes=GIB // 2,
        ),
        probe=ProbeSpec(
            port=port,
            health_path="/health",
            metrics_path="/metrics",
            canary_path="/v1/completions",
        ),
        watchdog=SETTINGS,
        model="chat",
        digest="v1:benchmark",
        spec_digest="benchmark",
    )


if __name__ == "__main__":
    sys.exit(main())
