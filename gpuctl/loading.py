"""
How far a start has come: the last log lines of replicas that load, and of no others, every few
seconds, into what their engine makes of them. `sources` paces it; the daemon says what loads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from gpuctl.errors import GpuctlError
from gpuctl.model import ContainerReading, LoadReading, Plan, Replica
from gpuctl.observe import Latest
from gpuctl.plugin import STAGES
from gpuctl.ports import Clock, Runtime

Wake = Callable[[str], None]
Stage = Callable[[Sequence[str]], str]

#: vLLM writes some hundred lines on its way, most of them after its weights are loaded.
LOG_LINES = 200


def fold(
    before: LoadReading | None, replica: str, container: str, stage: str, at: float
) -> LoadReading:
    """
    Return what is known of a start after one look more; *at* is in boot seconds.

    A stage once reached stays so, whatever has pushed its line out of the last ones.
    """
    if before is None or before.container != container:
        before = LoadReading(replica=replica, container=container)
    if stage not in STAGES or stage in before.reached:
        return before
    furthest = STAGES.index(stage)
    if before.reached and STAGES.index(before.stage) > furthest:
        return before
    return replace(before, reached={**before.reached, stage: at})


class LoadSource:
    """Reads the logs of every replica that loads, where its engine tells stages."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        latest: Latest,
        wake: Wake,
        stages: Mapping[str, Stage],
    ) -> None:
        self._runtime, self._clock, self._latest, self._wake = runtime, clock, latest, wake
        self._stages = stages  # engine → its reader of logs
        self._loading: Mapping[str, tuple[Stage, str]] = {}  # replica → its engine's, container

    def follow(self, plan: Plan, running: Mapping[str, ContainerReading], ready: Set[str]) -> None:
        """Take note of what loads now: what runs, and is not among the containers *ready*."""
        self._loading = {
            replica.name: (self._stages[replica.engine], container.id)
            for replica in plan.replicas
            if (container := _loading(replica, running, ready)) and replica.engine in self._stages
        }
        if self._latest.loads:
            self._latest.loads = {
                name: load
                for name, load in self._latest.loads.items()
                if name in self._loading and self._loading[name][1] == load.container
            }

    def sample(self) -> None:
        """Look once at each; a log that cannot be read tells nothing, the list tells why."""
        for name, (stage, container) in self._loading.items():
            try:
                lines = self._runtime.logs(container, LOG_LINES)
            except GpuctlError:
                continue
            before = self._latest.loads.get(name)
            load = fold(before, name, container, stage(lines), self._clock.boot_seconds())
            if load != before:
                self._latest.loads = {**self._latest.loads, name: load}
                self._wake(f"stage {name}")


def _loading(
    replica: Replica, running: Mapping[str, ContainerReading], ready: Set[str]
) -> ContainerReading | None:
    container = running.get(replica.name)
    if container is None or container.state != "running" or container.id in ready:
        return None
    return container
