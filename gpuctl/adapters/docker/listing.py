"""
Which containers are ours, inspecting only what changed.

One `GET /containers/json` a tick says which there are and in which state; the costly
`GET /containers/{id}/json` follows only for a container that is new, changed its state or name,
had an event, or runs and was inspected over a minute ago. With 16 replicas at a 5 s interval the
engine would otherwise work for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpuctl.adapters.docker import cgroup, reading
from gpuctl.model import ContainerReading, RuntimeEvent

if TYPE_CHECKING:
    from docker import APIClient

#: A running container that had no event is trusted this long: a cut event stream hides a restart.
TRUSTED_SECONDS = 60.0
#: Events that say of an end what an inspection may not.
_TELLING = frozenset({"oom", "kill"})
#: 128 + SIGKILL, as Docker reports it.
_KILLED = 137


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inspected:
    summary: tuple[str, tuple[str, ...]]  # state and names, as the list gave them
    changes: int  # events of the container seen before it was inspected
    reading: ContainerReading


class Listing:
    """
    The containers that carry the labels, by id.

    Takes no lock: each entry is replaced whole, and an event that arrives during an inspection
    makes the count stored with its result too old, so that the next list inspects again.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        boot_seconds: Callable[[], float],
        starved: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._labels, self._starved = labels, starved
        self._boot_seconds = boot_seconds
        self._inspected: dict[str, _Inspected] = {}
        self._changes: dict[str, int] = {}
        self._heard: dict[str, frozenset[str]] = {}  # of _TELLING, since the container's start

    def heard(self, event: RuntimeEvent) -> tuple[RuntimeEvent, ...]:
        """
        Hear an event of the stream, and return it.

        Before a death comes the `oom` that the kernel has told of and the engine has not (yet).
        """
        told: tuple[RuntimeEvent, ...] = (event,)
        known = self._heard.get(event.container, frozenset())
        killed = event.action == "die" and event.exit_code == _KILLED and not known
        if killed and self._starved(event.container):
            told = (replace(event, action="oom", exit_code=None), event)
        for each in told:
            self.hear(each)
        return told

    def hear(self, event: RuntimeEvent) -> None:
        """Inspect its container at the next list, and remember what no inspection will tell."""
        if event.action == "start":
            self._heard.pop(event.container, None)
        elif event.action in _TELLING:
            heard = self._heard.get(event.container, frozenset())
            self._heard[event.container] = heard | {event.action}
        self.changed(event.container)

    def inspected(self, found: Mapping[str, Any], boot_seconds: float) -> ContainerReading:
        """
        Return what `GET /containers/{id}/json` answered, completed by what the stream told.

        An OOM kill that the engine hears of after the exit is an `oom` event behind the `die`, up
        to 0.5 s later under load, and State.OOMKilled stays false (Docker 20.10).
        """
        told = reading.reading(found, boot_seconds=boot_seconds)
        heard = self._heard.get(told.id, frozenset())
        killed = told.state == "exited" and told.exit_code == _KILLED
        return replace(
            told,
            oom_killed=told.oom_killed or (killed and "oom" in heard),
            signalled="kill" in heard,
        )

    def changed(self, container: str) -> None:
        """Inspect *container* at the next list: it is ours, and something happened to it."""
        self._changes[container] = self._changes.get(container, 0) + 1

    def knows(self, container: str) -> bool:
        """True when *container* is an id that was seen to be ours."""
        return container in self._changes

    def read(self, client: APIClient) -> tuple[ContainerReading, ...]:
        """Return every container of ours, by name. Source: `GET /containers/json?all=1`."""
        known = tuple(self._changes)
        rows = client.containers(all=True, filters={"label": list(self._labels)})
        self._forget({row["Id"] for row in rows}, known)
        found = (self._reading(client, row) for row in rows)
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.name))

    def _forget(self, listed: set[str], known: tuple[str, ...]) -> None:
        """Drop the ids that were known before the list was asked for, and are not in it."""
        for container in known:
            if container not in listed:
                self._inspected.pop(container, None)
                self._changes.pop(container, None)
                self._heard.pop(container, None)

    def _reading(self, client: APIClient, row: Mapping[str, Any]) -> ContainerReading | None:
        container = row["Id"]
        changes = self._changes.setdefault(container, 0)
        summary = (row["State"], tuple(row["Names"]))
        kept = self._inspected.get(container)
        if kept is None or not self._current(kept, summary, changes):
            inspected = self._inspect(client, container)
            if inspected is None:
                return None
            kept = _Inspected(summary=summary, changes=changes, reading=inspected)
            self._inspected[container] = kept
        pid = kept.reading.pid
        return replace(
            kept.reading,
            memory_bytes=cgroup.memory_bytes(pid, container),
            cpu_seconds=cgroup.cpu_seconds(pid, container),
            boot_seconds=self._boot_seconds(),
        )

    def _current(
        self, kept: _Inspected, summary: tuple[str, tuple[str, ...]], changes: int
    ) -> bool:
        if kept.summary != summary or kept.changes != changes:
            return False
        age_seconds = self._boot_seconds() - kept.reading.boot_seconds
        return kept.reading.state != "running" or age_seconds < TRUSTED_SECONDS

    def _inspect(self, client: APIClient, container: str) -> ContainerReading | None:
        """Return one reading, `None` when it was removed since the list was made."""
        from docker.errors import NotFound

        at = self._boot_seconds()
        try:
            return self.inspected(client.inspect_container(container), at)
        except NotFound:
            return None
