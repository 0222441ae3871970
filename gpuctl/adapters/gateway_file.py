"""gateway.json: what the gateway has seen and has in flight. The Gateway port."""

from __future__ import annotations

import json
import time
from pathlib import Path

from gpuctl.model import GatewayReading, GatewayReplica

#: An older file says nothing about now: the gateway writes once a second.
FRESH_SECONDS = 5.0


class GatewayFile:
    """Reads `gateway.json` in *directory*; a file that did not change is not read again."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gateway.json"
        self._seen: tuple[int, int] = (0, 0)  # inode, mtime in ns
        self._reading: GatewayReading | None = None

    def read(self) -> GatewayReading | None:
        """Return the gateway's word; `None` when there is none, or none that is fresh."""
        try:
            stat = self._path.stat()
            if time.time() - stat.st_mtime > FRESH_SECONDS:
                return None
            if (stat.st_ino, stat.st_mtime_ns) != self._seen:
                self._reading = _parsed(self._path.read_bytes())
                self._seen = (stat.st_ino, stat.st_mtime_ns)
        except OSError:
            return None
        return self._reading


def _parsed(text: bytes) -> GatewayReading | None:
    try:
        told = json.loads(text)
        return GatewayReading(
            instance=str(told["instance"]),
            seq=int(told["seq"]),
            replicas={
                str(name): GatewayReplica(
                    in_flight=int(row["in_flight"]),
                    last_byte_boot_seconds=row.get("last_byte_boot_seconds"),
                )
                for name, row in told["replicas"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # half-written or of another kind: as good as absent
