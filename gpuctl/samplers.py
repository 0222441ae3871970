"""
Each source keeps its latest reading on the board and wakes the loop when it matters.

`sample()` is one pass of a source, for the threads of `pacing` and for tests without any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from gpuctl.errors import GpuctlError
from gpuctl.guarded import guarded
from gpuctl.model import (
    ContainerReading,
    GatewayReading,
    RuntimeEvent,
    SourceError,
)
from gpuctl.observe import Latest
from gpuctl.ports import Clock, Gateway, Host, Runtime

Wake = Callable[[str], None]

#: Events that change what a list would show; others (exec, attach, health) do not.
_TELLING = frozenset({"start", "die", "oom", "stop", "destroy", "pause", "unpause"})
#: Between tries to reach an event stream that ended.
_RECONNECT_SECONDS = 1.0
#: A stream that broke off sooner was not followed at all.
_FOLLOWED_SECONDS = 5.0


class RuntimeSource:
    """The containers: a full list every interval, and one inspection per telling event."""

    def __init__(self, runtime: Runtime, clock: Clock, latest: Latest, wake: Wake) -> None:
        self._runtime, self._clock, self._latest, self._wake = runtime, clock, latest, wake
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}  # replica → when an action last changed it
        self._ended = threading.Event()
        self._listing = threading.Lock()  # one list at a time: a later one must not end first
        self._unread_at = 0.0  # when a question was last not answered
        self._since: float | None = None  # what the stream told last is of this time
        self._following_at: float | None = None  # when the stream that is open was asked for
        self._broke_at: float | None = None  # when it broke off, until a later list is read
        # Containers of which the stream has told this, since their last start.
        self._signalled: set[str] = set()
        self._starved: set[str] = set()

    def sample(self) -> None:
        """Read the full list: the truth, where events are only hints."""
        with self._listing:
            self._list()
        if self._followed() and self._latest.errors.pop("events", None) is not None:
            self._wake("events")

    def _list(self) -> None:
        began = self._clock.boot_seconds()
        try:
            listed = self._runtime.list()
        except GpuctlError as error:
            self._unread(error.message)
            return
        with self._lock:
            merged = self._merged({reading.id: reading for reading in listed}, began)
            changed = _essence(merged) != _essence(self._latest.containers)
            self._latest.containers = merged
            first = self._latest.runtime_boot_seconds is None
            self._latest.runtime_boot_seconds = began
            back = self._back(began)
        if changed or first or back:
            self._wake("runtime")

    def _unread(self, message: str) -> None:
        with self._lock:
            self._unread_at = self._clock.boot_seconds()
            failed(self._latest, "runtime", message, self._clock, self._wake)

    def _back(self, began: float) -> bool:
        """Take an error back, unless the list that came through began before the latest failure."""
        if self._broke_at is not None:
            # A socket that systemd holds (docker.socket) keeps questions while the engine restarts:
            # none fails, and one asked before it went may be answered after. Where the stream
            # alone broke off, containers that live on tell so.
            self._latest.runtime_back_boot_seconds = self._clock.boot_seconds()
            if began >= self._broke_at:
                self._broke_at = None
        failing = self._latest.errors.get("runtime")
        if failing is None or self._unread_at > began:
            return False
        del self._latest.errors["runtime"]
        following = self._following_at
        if following is None or following >= failing.since_boot_seconds:
            # An engine that goes ends its stream; one whose stream went on was slow to answer.
            self._latest.runtime_back_boot_seconds = self._clock.boot_seconds()
        return True

    def refresh(self, replica: str) -> None:
        """Look again at one replica, right after an action on it; older lists are then void."""
        self._touched[replica] = self._clock.boot_seconds()
        name = f"gpuctl-{replica}"
        try:
            reading = self._runtime.inspect(name)
        except GpuctlError as error:
            # What is on the board is older than the action: nothing may rest on it until a list.
            self._unread(error.message)
            return
        with self._lock:
            kept = {
                id_: other
                for id_, other in self._latest.containers.items()
                if other.replica != replica or other.name != name
            }
            if reading is not None:
                kept[reading.id] = reading
            self._latest.containers = kept

    def watch(self) -> None:
        """Follow the event stream until `end()`; it is taken up again wherever it breaks off."""
        while not self._ended.is_set():
            guarded("events", self._follow)
            self._ended.wait(_RECONNECT_SECONDS)

    def _follow(self) -> None:
        self._following_at = self._clock.boot_seconds()
        words = "the stream ended"
        try:
            for event in self._runtime.watch(self._since):
                self._since = event.at
                guarded("events", partial(self._take, event))
        except GpuctlError as error:
            words = error.message
        finally:
            self._broke_off(words)

    def _broke_off(self, words: str) -> None:
        """Find out whether the engine has gone, or its stream alone, which stops no decision."""
        followed = self._followed()
        self._following_at = None
        if self._ended.is_set():
            return
        if followed:
            with self._lock:
                self._broke_at = self._clock.boot_seconds()
        self.sample()
        if not followed and "runtime" not in self._latest.errors:
            words = f"{words}; deaths are noticed at the interval"
            failed(self._latest, "events", words, self._clock, self._wake)

    def end(self) -> None:
        self._ended.set()

    def _followed(self) -> bool:
        at = self._following_at
        return at is not None and self._clock.boot_seconds() - at >= _FOLLOWED_SECONDS

    def _take(self, event: RuntimeEvent) -> None:
        match event.action:
            case "kill":
                self._signalled.add(event.container)
            case "oom":
                self._starved.add(event.container)
            case "start" | "destroy":
                self._signalled.discard(event.container)
                self._starved.discard(event.container)
            case "die" if self._believed(event):
                return
        if event.action in _TELLING:
            self._tell(event)

    def _believed(self, event: RuntimeEvent) -> bool:
        """
        Take a death from the event alone, where that says all there is to know.

        Docker answers no inspection until it has cleaned up after a container: 100 ms with a
        published port (20.10). One that was sent a signal through the engine waits for it, which
        alone tells a `docker kill` from a `docker rm -f`.
        """
        known = self._latest.containers.get(event.container)
        if known is None or known.state != "running" or event.exit_code is None:
            return False
        if event.container in self._signalled or event.at < (known.started_at or event.at):
            return False
        dead = replace(
            known,
            state="exited",
            pid=None,
            exit_code=event.exit_code,
            oom_killed=event.container in self._starved,
            finished_at=event.at,
            memory_bytes=None,
            boot_seconds=self._clock.boot_seconds(),
        )
        self._touched[known.replica] = dead.boot_seconds
        with self._lock:
            self._latest.containers = {**self._latest.containers, dead.id: dead}
        self._wake(f"die {known.replica}")
        return True

    def _tell(self, event: RuntimeEvent) -> None:
        known = self._latest.containers.get(event.container)
        began = self._clock.boot_seconds()
        try:
            reading = self._runtime.inspect(event.container)
        except GpuctlError as error:
            # It may be going down, and its containers with it: nothing is theirs until it is read.
            self._unread(error.message)
            return
        if reading is None and known is not None:
            # Removed before it could be read: what the event said of its end is all there is.
            code = event.exit_code if event.exit_code is not None else known.exit_code
            reading = replace(
                known, state="removed", exit_code=code, boot_seconds=self._clock.boot_seconds()
            )
        if reading is None:
            return
        with self._lock:
            if self._touched.get(reading.replica, -1.0) > began:
                return  # an action has changed it in the meantime, and was looked at
            self._latest.containers = {**self._latest.containers, reading.id: reading}
        self._wake(f"{event.action} {reading.replica}")

    def _merged(
        self, listed: dict[str, ContainerReading], began: float
    ) -> dict[str, ContainerReading]:
        names = {reading.name for reading in listed.values()}
        merged = dict(listed)
        for id_, known in self._latest.containers.items():
            if self._touched.get(known.replica, -1.0) >= began:
                merged[id_] = known  # this list began before an action on it ended
            elif id_ not in listed and known.name not in names and not _is_aside(known):
                merged[id_] = replace(known, state="removed", boot_seconds=began)
        for id_, reading in listed.items():
            touched = self._touched.get(reading.replica, -1.0) >= began
            if touched and id_ not in self._latest.containers:
                del merged[id_]
        return merged


class HostSource:
    """The machine itself, and the gateway's file beside it."""

    def __init__(
        self, host: Host, gateway: Gateway, clock: Clock, latest: Latest, wake: Wake
    ) -> None:
        self._host, self._gateway, self._clock = host, gateway, clock
        self._latest, self._wake = latest, wake

    def sample(self) -> None:
        try:
            self._latest.host = self._host.read()
            self._latest.errors.pop("host", None)
        except GpuctlError as error:
            failed(self._latest, "host", error.message, self._clock, self._wake)
        self.sample_gateway()

    def sample_gateway(self) -> None:
        before, self._latest.gateway = self._latest.gateway, self._gateway.read()
        if _emptied(self._latest.gateway) - _emptied(before):
            self._wake("gateway")  # somebody waits for that


def failed(
    latest: Latest, source: str, message: str, clock: Clock, wake: Wake, code: int | None = None
) -> None:
    """Put what is wrong with a source on the board; wake the loop where it was well before."""
    before = latest.errors.get(source)
    since = before.since_boot_seconds if before else clock.boot_seconds()
    latest.errors[source] = SourceError(message=message, since_boot_seconds=since, code=code)
    if before is None:
        wake(source)


def _emptied(gateway: GatewayReading | None) -> set[str]:
    """Return the replicas that a gateway drains, and has nothing at any more."""
    if gateway is None:
        return set()
    return {
        name
        for name, through in gateway.replicas.items()
        if through.state == "draining" and not through.in_flight
    }


def _is_aside(reading: ContainerReading) -> bool:
    return reading.name != f"gpuctl-{reading.replica}"


def _essence(containers: Mapping[str, ContainerReading]) -> dict[str, tuple[object, ...]]:
    """What of the containers a decision could turn on: not when they were read."""
    return {
        id_: (reading.state, reading.pid, reading.name, reading.exit_code)
        for id_, reading in containers.items()
    }
