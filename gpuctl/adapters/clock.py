"""The real clock: wall time for people, CLOCK_BOOTTIME for arithmetic. Composed by `cli`."""

from __future__ import annotations

import functools
import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Implements `ports.Clock` on Linux."""

    @functools.cached_property
    def boot_id(self) -> str:
        """
        Return what tells this boot from every other.

        Source: `/proc/sys/kernel/random/boot_id` (random(4)).
        """
        return _BOOT_ID.read_text(encoding="ascii").strip()

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def boot_seconds(self) -> float:
        """
        Return seconds since boot, those of a suspend included; never stepped.

        Source: CLOCK_BOOTTIME (clock_gettime(2)).
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
