"""
The engine's own record of what ran: the witness that the tests hold gpuctl's events against.

The engine keeps its last 256 events only, so they are followed while a test goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, cast

from docker.errors import DockerException

from tests.rig.dockerd import PrivateEngine

EngineEvent = dict[str, Any]  # as `GET /events` gives it


class EngineRecord:
    """A context manager that follows the engine's container events, over its restarts too."""

    def __init__(self, engine: PrivateEngine) -> None:
        self._engine = engine
        self._since = f"{time.time():.6f}"
        self._told: dict[tuple[int, str, str], EngineEvent] = {}
        self._ended = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> EngineRecord:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join(5)

    @property
    def events(self) -> list[EngineEvent]:
        """What the engine told so far, each event once, oldest first."""
        return [event for _, event in sorted(self._told.items(), key=lambda told: told[0])]

    def starts(self, replica: str) -> int:
        """Return how often a container of that replica was started."""
        return sum(
            event["Action"] == "start"
            and event["Actor"]["Attributes"].get("gpuctl.replica") == replica
            for event in self.events
        )

    def lives(self, since: float) -> list[tuple[str, str, str]]:
        """Return (replica, `start` or `die`, container) of ours after *since* (Unix seconds)."""
        return [
            (attributes["gpuctl.replica"], event["Action"], event["Actor"]["ID"])
            for event in self.events
            if "gpuctl.replica" in (attributes := event["Actor"]["Attributes"])
            and event["Action"] in ("start", "die")
            and event["timeNano"] / 1e9 > since
        ]

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(DockerException, OSError, ValueError, AttributeError):
                self._read()
            self._ended.wait(0.05)

    def _read(self) -> None:
        with contextlib.closing(self._engine.client()) as client:
            since = cast(Any, self._since)  # a fraction of a second, which the SDK's types lack
            self._stream = client.events(since=since, filters={"type": ["container"]})
            for chunk in self._stream:
                for line in chunk.splitlines():
                    self._take(json.loads(line))

    def _take(self, event: EngineEvent) -> None:
        nanoseconds = int(event["timeNano"])
        self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
        self._told[nanoseconds, str(event["Actor"]["ID"]), str(event["Action"])] = event


def overlap(events: Iterable[Mapping[str, Any]]) -> float:
    """
    Return the longest time (s) that two containers of one replica ran at once.

    *events* are the engine's own, oldest first; a container that only dies ran from the beginning.
    """
    spans: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for event in events:
        replica = event["Actor"]["Attributes"].get("gpuctl.replica")
        if replica is None or event["Action"] not in ("start", "die"):
            continue
        at = event["timeNano"] / 1e9
        own = spans.setdefault(replica, {}).setdefault(event["Actor"]["ID"], [])
        if event["Action"] == "start":
            own.append((at, math.inf))
        else:
            own.append((own.pop()[0] if own else 0.0, at))
    pairs = (
        (one, other)
        for containers in spans.values()
        for first, second in itertools.combinations(containers.values(), 2)
        for one, other in itertools.product(first, second)
    )
    both = (min(a[1], b[1]) - max(a[0], b[0]) for a, b in pairs)
    return max((0.0, *both))
