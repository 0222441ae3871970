"""The machine's clocks."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """
    Wall time for people, CLOCK_BOOTTIME for arithmetic.

    Source: clock_gettime(2); `/proc/sys/kernel/random/boot_id`, random(4).
    """

    def __init__(self) -> None:
        self._boot_id = _BOOT_ID.read_text().strip()

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def now(self) -> float:
        return time.time()

    def boot_seconds(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
