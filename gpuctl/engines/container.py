"""
Any image with a health URL: gpuctl starts it, probes it and routes to it, and knows no more.

It has no metrics that gpuctl could read, so its progress is unknown and only /health speaks.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuctl.model import EngineStats, ProbeSpec, Workload
from gpuctl.plugin import Engine, Launch, Slot

CONTAINER_PORT = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Such a workload has no options: everything it takes is a key of its own."""


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the image's own command, or the profile's, and the port it listens on inside."""
    fallback = slot.port if workload.network == "host" else CONTAINER_PORT
    return Launch(
        image=workload.image,
        command=(*workload.command, *workload.args),
        container_port=workload.container_port or fallback,
    )


def probe(workload: Workload, slot: Slot) -> ProbeSpec:
    """Return how it is asked: /health, unless the profile's `health.path` says otherwise."""
    return ProbeSpec(port=slot.port, health_path="/health")


def stats(text: str) -> EngineStats:
    """Return nothing: an image that is not known has no metrics that are."""
    return EngineStats()


ENGINE = Engine(
    name="container",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    needs_model=False,
    groups=True,
)
