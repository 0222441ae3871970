"""
An Action, carried out through the Runtime: one Outcome out. The daemon's workers call it.

Every step can be repeated: an attempt that was cut off anywhere is taken up again with the same
id and ends in the same place. Names are unique, so a second create is a conflict, never a twin.

An attempt that was given up writes nothing more: before each write it looks whether it is still
the current one. A call that was on its way by then may take effect late, and these rules hold it:
only what has the fixed name is ever started, so the next attempt finds it there by its labels;
what never ran is removed, so that a start still on its way finds nothing; what runs is killed.
Should one start to run aside all the same, `decide` kills what is aside on the next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from gpuctl.errors import ContainerMissing, GpuctlError, NameTaken, StartRefused
from gpuctl.leftovers import apart
from gpuctl.model import ContainerReading, Drain, Evidence, Json, Start, Stop
from gpuctl.orders import Order
from gpuctl.ports import Runtime

#: Added to a new container's name until the old one is out of its place; none ever runs so.
NEXT = ".next"
#: Kept from a container before it goes.
LOG_LINES = 200
LINE_CHARACTERS = 500
#: How often an old container that was sent SIGKILL is looked at before it counts as stuck.
KILL_LOOKS = 20
#: The same for one that another client is removing; what takes longer is put aside.
REMOVAL_LOOKS = 20

#: Called at every named step, between two writes: tests kill the daemon there.
FaultPoint = Callable[[str], None]
Pause = Callable[[float], None]
#: Asked before each write: whether the attempt has not been given up.
Current = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended; `left` is what old containers left behind, each for an Event of its own."""

    done: bool
    reason: str = ""
    counts: bool = False  # a start that the runtime refused: it answered, so no outage excuses it
    evidence: Evidence = field(default_factory=dict)
    left: tuple[Evidence, ...] = ()


def act(
    order: Order,
    runtime: Runtime,
    fault: FaultPoint,
    pause: Pause,
    current: Current = lambda: True,
) -> Outcome:
    """
    Carry out one order; what goes wrong is an Outcome, not an exception.

    *pause* waits a fraction of a second between looks at a container that is being killed.
    """
    fenced = _Fenced(runtime=runtime, current=current, fault=fault)
    try:
        match order.action:
            case Start(step="fetch"):
                return _fetched(order, fenced)
            case Start():
                return _Starting(order, fenced, pause).start()
            case Stop() as stop:
                return _stop(stop, fenced)
            case Drain():
                return Outcome(done=True)
            case _:
                assert_never(order.action)
    except _GivenUp:
        return Outcome(done=False, reason="given_up")
    except _ImageMissing as error:
        return Outcome(done=False, reason="image_missing", evidence={"missing_image": error.image})
    except StartRefused as error:
        return _undone(error, reason="start_refused", counts=True)
    except GpuctlError as error:
        return _undone(error, reason=_REASONS.get(type(error).__name__, "runtime_error"))


class _GivenUp(Exception):
    """Another attempt may be under way: this one must not write any more."""


class _ImageMissing(Exception):
    """It must be fetched first, which takes longer than a start may."""

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.image = image


_REASONS = {"RuntimeTimeout": "runtime_timeout", "NameTaken": "name_taken"}


def _undone(error: GpuctlError, *, reason: str, counts: bool = False) -> Outcome:
    told: Evidence = {"error": error.message, "hint": error.hint}
    return Outcome(done=False, reason=reason, counts=counts, evidence=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fenced:
    """A runtime that may be read at any time, and written to by the current attempt alone."""

    runtime: Runtime
    current: Current
    fault: FaultPoint

    @property
    def writing(self) -> Runtime:
        """The runtime, for one write. Raises `_GivenUp`."""
        if not self.current():
            raise _GivenUp
        return self.runtime


class _Starting:
    """
    The one way a replica comes up: create under a name that will do, rename the old one aside and
    the new one into its place, start it, then clear the old one away.
    """

    def __init__(self, order: Order, fenced: _Fenced, pause: Pause) -> None:
        assert order.replica is not None
        self.order, self.replica = order, order.replica
        self.fenced, self.pause = fenced, pause
        self.runtime, self.fault = fenced.runtime, fenced.fault

    def start(self) -> Outcome:
        self.fault("start.reserved")
        spec = self.replica.spec
        container = self._made()
        self.fault("start.named")
        self.fenced.writing.start(container)
        self.fault("start.started")
        told: dict[str, Json] = {
            "container": container,
            "spec_digest": self.replica.spec_digest,
            "gpus": tuple(gpu.uuid for gpu in self.replica.gpus),
            "port": spec.host_port,
        }
        left = self._clear(told)
        self.fault("start.cleared")
        return Outcome(done=True, evidence=told, left=left)

    def _made(self) -> str:
        """Return the id of this attempt's container, made now or before an interruption."""
        name = self.replica.container_name
        old = self.order.previous
        # What was there before is not looked at first: Docker 20.10 keeps that waiting while it
        # cleans up after a death. Only a start that was cut off may find its own container.
        if not old or self.order.resumed:
            there = self.runtime.inspect(name)
            if there is not None and there.attempt == self.order.attempt:
                return there.id
            old = there.id if there is not None else old
        if self.order.fetches:
            self._see_image()  # before anything is touched
        # Under a name of its own: made while the engine still cleans up after the old one.
        made = self._created(f"{name}{NEXT}")
        self.fault("start.created")
        try:
            self._place(made, old)
        except StartRefused:
            self.fenced.writing.remove(made)
            raise
        return made

    def _place(self, made: str, old: str) -> None:
        """Give the new container the replica's name, out of whose place the old one goes."""
        name = self.replica.container_name
        if old:
            self._put_aside(old)
        self.fault("start.vacated")
        try:
            self.fenced.writing.rename(made, name)
        except NameTaken:
            there = self.runtime.inspect(name)
            if there is None:
                raise
            self._put_aside(there.id)
            self.fenced.writing.rename(made, name)

    def _created(self, name: str) -> str:
        try:
            return self._create(name)
        except NameTaken:
            there = self.runtime.inspect(name)
            # A create whose answer was lost made it after all.
            if there is not None and there.attempt == self.order.attempt:
                return there.id
            if there is not None:
                self.fenced.writing.remove(there.id)  # of a start that was given up
            return self._create(name)

    def _create(self, name: str) -> str:
        spec, labels = self.replica.spec, self.order.labels
        try:
            return self.fenced.writing.create(name, spec, labels)
        except StartRefused:
            self._see_image()  # whoever removed the container may have removed its image
            raise

    def _see_image(self) -> None:
        if not self.runtime.has_image(self.replica.spec.image):
            raise _ImageMissing(self.replica.spec.image)

    def _put_aside(self, container: str) -> None:
        """Rename a container, if it is there, and make sure it does not run."""
        if self.order.action.reason == "removed":
            self._await_removal(container)
        aside = f"{self.replica.container_name}.old-{container[:12]}"
        try:
            self.fenced.writing.rename(container, aside)
        except ContainerMissing:
            return  # somebody removed it in the meantime
        self.fault("start.aside")
        old = self.runtime.inspect(container)
        if old is not None and old.state == "created":
            self.fenced.writing.remove(old.id)  # its start may still be on its way
            return
        if old is None or old.state not in ("running", "paused") or self._killed(old):
            return
        self.fenced.writing.disconnect(old.id)
        if not apart(self.replica, old):
            # Never two of one replica running in one place, or on one port.
            self.fenced.writing.rename(old.id, self.replica.container_name)
            raise StartRefused(
                f"the old container {old.id[:12]} of {self.replica.name} cannot be killed",
                "its processes hang in the kernel, as on a lost GPU: a reboot clears them",
            )

    def _await_removal(self, container: str) -> None:
        """
        Let another client's removal end, within reason.

        A rename writes into the directory that Docker 20.10 is deleting, and the client is told
        that the removal failed: "directory not empty".
        """
        for _ in range(REMOVAL_LOOKS):
            there = self.runtime.inspect(container)
            if there is None or there.state != "removing":
                return
            self.pause(0.1)

    def _killed(self, old: ContainerReading) -> bool:
        self.fenced.writing.signal(old.id, "SIGKILL")
        for _ in range(KILL_LOOKS):
            there = self.runtime.inspect(old.id)
            if there is None or there.state not in ("running", "paused"):
                return True
            self.pause(0.1)
        return False

    def _clear(self, told: dict[str, Json]) -> tuple[Evidence, ...]:
        """Save what the old container said and remove it; one that will not go stays aside."""
        if not self.order.previous:
            return ()
        try:
            old = self.runtime.inspect(self.order.previous)
        except GpuctlError as error:
            told["not_removed"] = error.message  # the new one runs all the same
            return ()
        if old is None or old.name == self.replica.container_name or old.state == "running":
            return ()
        left = legacy(self.runtime, old)
        self.fault("start.logs_saved")
        try:
            self.fenced.writing.remove(old.id)
        except GpuctlError as error:
            told["not_removed"] = error.message
        return (left,)


def _fetched(order: Order, fenced: _Fenced) -> Outcome:
    assert order.replica is not None
    image = order.replica.spec.image
    fenced.fault("fetch.begun")

    def told(_line: str, _ratio: float | None) -> None:
        """End a pull that was given up: it would keep its thread from the next one."""
        _ = fenced.writing

    if not fenced.runtime.has_image(image):
        fenced.writing.pull(image, told)
    fenced.fault("fetch.done")
    return Outcome(done=True, evidence={"image": image})


def legacy(runtime: Runtime, container: ContainerReading) -> Evidence:
    """Return what a container leaves behind: how it ended and the last lines it wrote."""
    try:
        lines = runtime.logs(container.id, LOG_LINES)
    except GpuctlError as error:
        lines = (f"(its log could not be read: {error.message})",)
    return {
        "container": container.id,
        "state": container.state,
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "error": container.error,
        "started_at": container.started_at,
        "finished_at": container.finished_at,
        "log": tuple(line[:LINE_CHARACTERS] for line in lines),
    }


def _stop(stop: Stop, fenced: _Fenced) -> Outcome:
    fenced.fault(f"stop.{stop.step}")
    told: Evidence = {"container": stop.container}
    left: tuple[Evidence, ...] = ()
    match stop.step:
        case "terminate":
            fenced.writing.signal(stop.container, "SIGTERM")
        case "kill":
            fenced.writing.signal(stop.container, "SIGKILL")
        case "remove":
            left = _removed(stop.container, fenced)
        case _:
            assert_never(stop.step)
    fenced.fault(f"stop.{stop.step}.asked")
    return Outcome(done=True, evidence=told, left=left)


def _removed(container: str, fenced: _Fenced) -> tuple[Evidence, ...]:
    there = fenced.runtime.inspect(container)
    if there is None:
        return ()
    left = legacy(fenced.runtime, there)
    fenced.fault("stop.remove.logs_saved")
    try:
        fenced.writing.remove(container)
    except ContainerMissing:
        return (left,)
    return (left,)
