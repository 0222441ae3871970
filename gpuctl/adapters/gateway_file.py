"""
What the gateway last wrote about itself: `gateway.json`, read by the sampler of that name.

    {"at": Unix seconds, "instance": …, "seq": …,
     "replicas": {"chat-0": {"in_flight": 2, "last_byte_boot_seconds": 812.4,
                             "began_boot_seconds": 810.2}}}

`instance` and `seq` name the last status.json the gateway saw; what else docs/contracts.md has of
it is for others.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from gpuctl.model import GatewayReading, GatewayReplica
from gpuctl.ports import Clock

# The gateway writes every second; five of its turns missed is a gateway that is not there.
FRESH_SECONDS = 5.0
# Of 512 replicas it has some 40 KiB.
_MOST_BYTES = 1024 * 1024
# The gateway is another user's program: whatever it writes, its reader goes on. 1e999 is a number
# that no int holds, and a thousand brackets are more than the parser's recursion.
_OF_ANOTHER_KIND = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class GatewayFile:
    """Implements `ports.Gateway` on one file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def read(self) -> GatewayReading | None:
        """Return gateway.json; `None` when it is absent, unreadable or older than 5 s."""
        try:
            with open(self._path, "rb", opener=_without_waiting) as file:
                modified_at = os.fstat(file.fileno()).st_mtime
                document = json.loads(file.read(_MOST_BYTES))
            written_at = float(document["at"])
            reading = _reading(document)
        except _OF_ANOTHER_KIND:
            return None
        # Both must be fresh: a copy has a new mtime, and a clock step leaves an old `at` behind.
        # A time in the future is no better than one in the past.
        now = self._clock.now()
        fresh = all(abs(now - at) <= FRESH_SECONDS for at in (written_at, modified_at))
        return reading if fresh else None


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, or at once find nothing in a pipe that nobody writes to (fifo(7))."""
    return os.open(path, flags | os.O_NONBLOCK)


def _reading(document: dict[str, Any]) -> GatewayReading:
    replicas = document.get("replicas", {})
    return GatewayReading(
        instance=str(document.get("instance", "")),
        seq=int(document.get("seq", 0)),
        replicas={name: _replica(entry) for name, entry in replicas.items()},
    )


def _replica(entry: dict[str, Any]) -> GatewayReplica:
    return GatewayReplica(
        in_flight=int(entry.get("in_flight", 0)),
        last_byte_boot_seconds=_seconds(entry.get("last_byte_boot_seconds")),
        began_boot_seconds=_seconds(entry.get("began_boot_seconds")),
        state=str(entry.get("state", "")),
    )


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if not math.isfinite(seconds := float(value)):
        raise ValueError(f"{value} is no time")
    return seconds
