"""
Every source of readings with its thread, for the daemon to begin, hurry and end as one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gpuctl.gpu_sampler import AccessSource, GpuSource, XidSource
from gpuctl.history import History
from gpuctl.loading import LoadSource
from gpuctl.model import Plan, Snapshot
from gpuctl.observe import Latest
from gpuctl.pacing import Sampler
from gpuctl.plugin import load_engines
from gpuctl.ports import World
from gpuctl.probing import ProbeSource
from gpuctl.samplers import HostSource, RuntimeSource

#: While a start waits for VRAM to be let go of, the GPUs are read this often and no more: each
#: reading has the loop decide, and ask for the next one.
_GPUS_APART_SECONDS = 0.25
#: How often it is looked what a gateway says: it writes every second, and when a drain is over.
_GATEWAY_SECONDS = 0.25
#: How often it is looked whether an Xid was told, which costs two system calls.
_XIDS_SECONDS = 0.5
#: How often the logs of what loads are read: an operator watches the progress.
_LOADS_SECONDS = 3.0
#: How often containers are asked whether they may open their GPUs, with a process in each.
_ACCESS_SECONDS = 60.0


class Sources:
    """The samplers of one host, all writing on one board."""

    def __init__(
        self, world: World, latest: Latest, wake: Callable[[str], None], interval_seconds: float
    ) -> None:
        clock = world.clock
        self._latest = latest
        self.runtime = RuntimeSource(world.runtime, clock, latest, wake)
        self.gpus = GpuSource(world.gpus, world.host, clock, latest, wake)
        self.xids = XidSource(world.gpus, world.kernel_log, clock, latest, wake)
        self.access = AccessSource(world.runtime, latest, wake)
        self.host = HostSource(world.host, world.gateway, clock, latest, wake)
        engines = load_engines().values()
        stats = {engine.name: engine.stats for engine in engines}
        self.probes = ProbeSource(world.prober, clock, latest, wake, stats)
        stages = {engine.name: engine.stage for engine in engines if engine.stage is not None}
        self.loads = LoadSource(world.runtime, clock, latest, wake, stages)
        self._gpus = Sampler("gpus", self.gpus.sample, interval_seconds, _GPUS_APART_SECONDS)
        self._paced = (
            Sampler("runtime", self.runtime.sample, interval_seconds),
            self._gpus,
            Sampler("host", self.host.sample, interval_seconds),
        )
        gateway = Sampler("gateway", self.host.sample_gateway, _GATEWAY_SECONDS)
        loads = Sampler("loads", self.loads.sample, _LOADS_SECONDS)
        xids = Sampler("xids", self.xids.sample, _XIDS_SECONDS)
        access = Sampler("access", self.access.sample, _ACCESS_SECONDS)
        self._samplers = (*self._paced, gateway, loads, xids, access)

    def begin(self) -> None:
        """Start the threads."""
        for sampler in self._samplers:
            sampler.begin()
        self.probes.begin()
        threading.Thread(target=self.runtime.watch, name="events", daemon=True).start()

    def end(self) -> None:
        for sampler in self._samplers:
            sampler.end()
        self.probes.end()
        self.runtime.end()
        self.xids.end()

    def sample(self) -> None:
        """Read every source once, on this thread: for a host without threads of its own."""
        self.runtime.sample()
        self.gpus.sample()
        self.xids.sample()
        self.host.sample()
        self.probes.sample()
        self.loads.sample()
        self.access.sample()

    def follow(self, plan: Plan, now: Snapshot, history: History) -> None:
        """Take note of what runs, and of what of that is ready; called every tick."""
        ready = {replica.ready_container for replica in history.replicas.values()}
        self.probes.follow(plan, now.owned, ready)
        self.loads.follow(plan, now.owned, ready)
        self.access.follow(plan, now.owned, ready)

    def pace(self, interval_seconds: float) -> None:
        """Read every source at another interval from now on."""
        for sampler in self._paced:
            sampler.pace(interval_seconds)

    def hurry_gpus(self) -> None:
        """Read the GPUs next, and wake the loop with the reading even if it shows nothing new."""
        self.gpus.hurried = True
        self._gpus.hurry()

    def spoken(self) -> bool:
        """Return whether the runtime and the GPUs have been read, or failed to be."""
        latest = self._latest
        runtime = latest.runtime_boot_seconds is not None or "runtime" in latest.errors
        gpus = latest.gpus_boot_seconds is not None or "gpus" in latest.errors
        return runtime and gpus
