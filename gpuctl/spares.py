"""
Images that only a failover would need: fetched while nothing loads, not when a GPU has died.

`attempts` asks it at each tick, and hands it what its jobs ended with. One image at a time, in a
lane of its own: no replica waits for it, and what cannot be fetched is an Event and a condition.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from gpuctl.act import Outcome
from gpuctl.errors import GpuctlError
from gpuctl.history import History
from gpuctl.journal import Journal
from gpuctl.model import EventKind, Json, Plan, Replica, Snapshot
from gpuctl.ports import Runtime
from gpuctl.wanted import desired

#: An image may be pruned, and a registry may be back: so often each is looked for.
_AGAIN_SECONDS = 3600.0
#: To ask the runtime for an image is a moment, to fetch one may take as long as any pull.
_SECONDS = {"look": 30.0, "pull": 3600.0}

Submit = Callable[[str, Callable[[], Outcome], float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    step: Literal["look", "pull"]
    workload: str
    image: str
    began_at: float  # boot seconds


class Spares:
    """*submit* takes a job's key, its work and how many seconds that may take."""

    def __init__(self, runtime: Runtime, journal: Journal, submit: Submit) -> None:
        self._runtime, self._journal, self._submit = runtime, journal, submit
        self._due: dict[str, float] = {}  # by image, in boot seconds
        self._jobs: dict[str, _Job] = {}  # at most one

    def tick(self, plan: Plan, now: Snapshot) -> None:
        """Look for the next image that is due, when nothing else is under way."""
        history = self._journal.history
        if self._jobs or not calm(plan, now, history):
            return
        for workload, image in images(plan, history):
            if now.boot_seconds >= self._due.get(image, now.boot_seconds):
                self._due[image] = now.boot_seconds + _AGAIN_SECONDS
                self._begin("look", workload, image, now)
                return

    def ended(self, key: str, outcome: Outcome, now: Snapshot) -> None:
        """
        Take note of how a job ended; of another's there is nothing to note.

        Raises:
            StoreError: the event could not be stored.
        """
        job = self._jobs.get(key)
        if job is None:
            return
        missing = job.step == "look" and bool(outcome.evidence.get("missing"))
        if missing:
            self._tell(job, "fetching", {})
        elif job.step == "pull":
            told: dict[str, Json] = {"seconds": round(now.boot_seconds - job.began_at, 3)}
            if not outcome.done:
                told |= {"error": outcome.reason, **outcome.evidence}
            self._tell(job, "fetched" if outcome.done else "not_fetched", told)
        elif outcome.done and job.image in self._journal.history.images:
            self._tell(job, "fetched", {})  # by somebody else
        del self._jobs[key]
        if missing:
            self._begin("pull", job.workload, job.image, now)

    def _begin(
        self, step: Literal["look", "pull"], workload: str, image: str, now: Snapshot
    ) -> None:
        key = uuid.uuid4().hex
        job = _Job(step=step, workload=workload, image=image, began_at=now.boot_seconds)
        self._jobs[key] = job
        work = self._look if step == "look" else self._pull
        self._submit(key, lambda: _outcome(work, image), _SECONDS[step])

    def _look(self, image: str) -> dict[str, Json]:
        return {"missing": not self._runtime.has_image(image)}

    def _pull(self, image: str) -> dict[str, Json]:
        self._runtime.pull(image, lambda _line, _ratio: None)
        return {}

    def _tell(self, job: _Job, reason: str, told: dict[str, Json]) -> None:
        told = {"image": job.image, **told}
        self._journal.record([self._journal.event(EventKind.IMAGE, job.workload, reason, told)])


def calm(plan: Plan, now: Snapshot, history: History) -> bool:
    """Return whether nothing is done to any replica, none loads, and the disk is not low."""
    if "runtime" in now.errors or plan.watchdog.mode == "observe":
        return False
    free = now.host.disk_free_bytes
    if free is not None and free < plan.watchdog.disk_free_bytes:
        return False  # nobody asked for it, and the check `disk` tells why it does not come
    return not any(_busy(replica, now, history) for replica in plan.replicas)


def _busy(replica: Replica, now: Snapshot, history: History) -> bool:
    known, container = history.replica(replica.name), now.own(replica.name)
    runs = container is not None and container.state == "running"
    ready = container is not None and container.id == known.ready_container
    return known.attempt is not None or (runs and not ready)


def images(plan: Plan, history: History) -> Iterator[tuple[str, str]]:
    """Yield the image that each workload would need on the CPU, of those that are to run."""
    wanted = {r.workload for r in plan.replicas if desired(history, r, running=False)}
    for workload in plan.workloads:
        if workload.fallback_image and workload.name in wanted:
            yield workload.name, workload.fallback_image


def _outcome(work: Callable[[str], dict[str, Json]], image: str) -> Outcome:
    try:
        return Outcome(done=True, evidence=work(image))
    except GpuctlError as error:
        told: dict[str, Json] = {"error": error.message, "hint": error.hint}
        return Outcome(done=False, reason="not_fetched", evidence=told)
