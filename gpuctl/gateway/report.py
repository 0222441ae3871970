"""
gateway.json: what the daemon is told by the gateway, once a second and whenever it waits for that.

The daemon drains by it: a replica is empty when the gateway has seen the Status that drains it and
has nothing in flight there. It judges a stall by it: since when a request has been there, and when
the last byte of an answer came.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

import gpuctl
from gpuctl.gateway.replica import Replica


def document(
    replicas: Mapping[str, Replica],
    *,
    instance: str,
    seq: int,
    listen: str,
    queued: int,
    in_flight: int,
    offset_seconds: float,
) -> dict[str, Any]:
    """Return the document; *offset_seconds* leads from the loop's clock to CLOCK_BOOTTIME."""

    def boot(at: float | None) -> float | None:
        return None if at is None else round(at + offset_seconds, 3)

    return {
        "schema": 1,
        "at": time.time(),
        "pid": os.getpid(),
        "version": gpuctl.__version__,
        "listen": listen,
        "instance": instance,
        "seq": seq,
        "queued": queued,
        "in_flight": in_flight,
        "replicas": {
            replica.name: {
                "state": replica.state,
                "in_flight": len(replica.open),
                "last_byte_boot_seconds": boot(replica.last_byte),
                "began_boot_seconds": boot(min(replica.open.values(), default=None)),
                "last_use_boot_seconds": boot(replica.last_use),
                "errors": replica.failures,
            }
            for replica in replicas.values()
        },
    }


class Report:
    """The file, replaced as a whole."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, content: Mapping[str, Any]) -> None:
        """
        Replace it.

        Raises:
            OSError: it could not be written; the one before is still there.
        """
        fresh = f"{self._path}.new"
        with open(fresh, "wb") as file:  # buffered: where there is no room, a raw one writes a part
            file.write(msgspec.json.encode(content))
        os.replace(fresh, self._path)


def offset_seconds(monotonic: float) -> float:
    """Return what leads from the loop's clock, CLOCK_MONOTONIC, to CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - monotonic
