"""The image that a workload would need on the CPU, and could not be fetched."""

from __future__ import annotations

from gpuctl.checks.fallback_image import CHECK
from gpuctl.model import WorkloadPlan
from tests import make

WORKLOADS = (
    WorkloadPlan(name="chat", replicas=1, wanted=1, fallback=True, fallback_image="engine:cpu"),
    WorkloadPlan(name="other", replicas=1, wanted=1),
)
FAILED = make.event("image", "chat", "not_fetched", image="engine:cpu", error="no such host")


def told(*events: object) -> list[tuple[str, str, str, object]]:
    scene = make.scene(make.snapshot(), past=make.history(*events), workloads=WORKLOADS)  # type: ignore[arg-type]
    return [(v.subject, v.state, v.reason, v.evidence) for v in CHECK.run(scene)]


def test_one_that_could_not_be_fetched_is_told() -> None:
    """Nothing is wrong yet: it only degrades, and restarts nothing."""
    evidence = {"image": "engine:cpu", "error": "no such host"}
    assert told(FAILED) == [("chat", "degraded", "fallback_image_missing", evidence)]
    again = make.event("image", "chat", "fetching", image="engine:cpu")
    assert len(told(FAILED, again)) == 1


def test_one_that_is_there_is_not() -> None:
    """Nor one that was never looked for."""
    fetched = make.event("image", "chat", "fetched", image="engine:cpu")
    assert (told(), told(FAILED, fetched)) == ([], [])
