"""
The actions under way: orders go to the workers, and how each ended comes back as Events.

The daemon begins them when they are committed and closes them on its own thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from gpuctl.act import FaultPoint, Outcome, act
from gpuctl.decide import Withdrawal
from gpuctl.history import ReplicaHistory
from gpuctl.journal import Journal
from gpuctl.log_lines import cuda_oom
from gpuctl.model import Action, Event, EventKind, Evidence, Json, Plan, Snapshot, Start
from gpuctl.orders import Order
from gpuctl.plugin import Explained, load_engines
from gpuctl.ports import World
from gpuctl.spares import Spares
from gpuctl.transitions import failures
from gpuctl.workers import Workers

#: Actions carried out at once.
_WORKERS = 4
#: Images are fetched in a lane of their own ...
_PULLS = 2
#: ... which may take this long.
_PULL_SECONDS = 3600.0
#: What only a failover would need is fetched apart from them, one image at a time.
_SPARES = 1

#: Called on a worker's thread with an attempt's id and how it ended.
Finished = Callable[[str, Outcome], None]
Explain = Callable[[Sequence[str]], Explained | None]
Hire = Callable[[str, int, Finished, Callable[[], float]], Workers[Outcome]]


class Attempts:
    """*refresh* is told the replica whose containers an action has changed."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        *,
        finished: Finished,
        refresh: Callable[[str], None],
        fault: FaultPoint,
        hire: Hire,
    ) -> None:
        self._world, self._journal = world, journal
        self._refresh, self._fault = refresh, fault
        self._explain = {engine.name: engine.explain for engine in load_engines().values()}
        self._workers = hire("worker", _WORKERS, finished, world.clock.boot_seconds)
        self._pulls = hire("pull", _PULLS, finished, world.clock.boot_seconds)
        ahead = hire("spare", _SPARES, finished, world.clock.boot_seconds)
        self._lanes = (self._workers, self._pulls, ahead)
        self._spares = Spares(world.runtime, journal, ahead.submit)
        self._open: dict[str, tuple[Action, float]] = {}  # by id; began at boot seconds
        self._ended: deque[tuple[str, Outcome]] = deque()  # and not committed yet

    def begin(self, order: Order, seconds: float) -> None:
        """Have an order carried out; *seconds* is how long it may take."""
        self._open[order.attempt] = (order.action, self._world.clock.boot_seconds())
        fetches = isinstance(order.action, Start) and order.action.step == "fetch"
        lane = self._pulls if fetches else self._workers
        lane.submit(
            order.attempt,
            lambda: self._carried_out(order),
            _PULL_SECONDS if fetches else seconds,
        )

    def fetch_ahead(self, plan: Plan, now: Snapshot) -> None:
        """Have what a failover would need fetched, when nothing else is under way."""
        self._spares.tick(plan, now)

    def ended(self, attempt: str, outcome: Outcome) -> None:
        """Take note of how an attempt ended, for `commit`."""
        self._ended.append((attempt, outcome))

    def commit(self, plan: Plan, now: Snapshot) -> None:
        """
        Commit how attempts ended, with what they left behind; what takes too long is given up.

        What could not be stored is kept for the next time: an attempt that never closes would
        hold its replica for ever.

        Raises:
            StoreError: the events could not be stored.
        """
        late = Outcome(done=False, reason="action_timeout")
        for lane in self._lanes:
            self._ended.extend((attempt, late) for attempt in lane.overdue())
        while self._ended:
            attempt, outcome = self._ended[0]
            if attempt in self._open:  # or it was withdrawn
                action, began = self._open[attempt]
                self._journal.record(self._ends(attempt, action, began, outcome, plan, now))
                del self._open[attempt]
            self._spares.ended(attempt, outcome, now)
            self._ended.popleft()

    def withdraw(self, found: Iterable[Withdrawal]) -> None:
        """
        Close what nobody wants any more; what is still done for it is not listened to.

        Raises:
            StoreError: the events could not be stored.
        """
        make = self._journal.event
        for each in found:
            told: Evidence = {"attempt": each.attempt, "withdrawn": True}
            self._journal.record([make(EventKind.UNDONE, each.replica, each.reason, told)])
            self._open.pop(each.attempt, None)

    def end(self) -> None:
        """Let the threads go; what is under way is taken up again by the next daemon."""
        for lane in self._lanes:
            lane.close()

    def _carried_out(self, order: Order) -> Outcome:
        def current() -> bool:
            # Closed on the deciding thread, before another attempt can begin.
            return order.attempt in self._open

        outcome = act(order, self._world.runtime, self._fault, self._world.clock.sleep, current)
        self._refresh(order.action.replica)
        return outcome

    def _ends(
        self,
        attempt: str,
        action: Action,
        began: float,
        outcome: Outcome,
        plan: Plan,
        now: Snapshot,
    ) -> list[Event]:
        seconds = round(self._world.clock.boot_seconds() - began, 3)
        told: dict[str, Json] = {"attempt": attempt, "seconds": seconds, **outcome.evidence}
        replica = plan.replica(action.replica)
        if replica is not None and isinstance(action, Start) and not outcome.done:
            known = self._journal.history.replica(replica.name)
            if not _excused(outcome, now, known):
                # After a start that was excused it is the second: an excuse is no further try.
                least = 2 if known.start_undone and not known.missing_image else 1
                told["failures"] = max(least, failures(replica, now, known))
        kind = EventKind.DONE if outcome.done else EventKind.UNDONE
        make = self._journal.event
        explain = self._explain.get(replica.engine) if replica is not None else None
        return [
            *(event for left in outcome.left for event in self._left(action, left, explain)),
            make(kind, action.replica, action.reason if outcome.done else outcome.reason, told),
        ]

    def _left(self, action: Action, left: Evidence, explain: Explain | None) -> Iterator[Event]:
        """Yield what an old container left behind, and what is made of it if it had failed."""
        make, failure = self._journal.event, self._journal.history.replica(action.replica).failure
        log, container = left.get("log"), left.get("container")
        lines = tuple(map(str, log)) if isinstance(log, tuple | list) else ()
        failed = failure is not None and failure.container == container
        found = explain(lines) if failed and explain is not None else None
        if found is not None:
            left = {**left, "explanation": found.what, "advice": found.hint}
        yield make(EventKind.EVIDENCE, action.replica, action.reason, left)
        line = cuda_oom(lines)
        if line and failed:
            told: Evidence = {"container": container, "line": line}
            yield make(EventKind.CUDA_OOM, action.replica, "cuda_oom", told)


def _excused(outcome: Outcome, now: Snapshot, known: ReplicaHistory) -> bool:
    """
    Return whether a start that was not carried out is not held against its replica.

    It is a failure like any other, or a start that hangs would be tried without end: it waits its
    back-off, and the tries after it are restarts. Not where the engine had gone under it, or it
    found no image, which is fetched first; but twice in a row neither is an accident.
    """
    if outcome.counts or known.start_undone:
        return False
    return "runtime" in now.errors or outcome.reason == "image_missing"
