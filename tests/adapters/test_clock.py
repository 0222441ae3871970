"""The real clock against what the kernel says."""

from __future__ import annotations

import time
from pathlib import Path

from gpuctl.adapters.clock import SystemClock


def test_the_boot_id_is_the_kernels() -> None:
    """The boot is named as every other program names it, without a line end."""
    told = Path("/proc/sys/kernel/random/boot_id").read_text()
    assert SystemClock().boot_id == told.strip()


def test_boot_seconds_are_since_boot_and_never_go_back() -> None:
    """Two readings enclose the kernel's own."""
    clock = SystemClock()
    before, kernel, after = (
        clock.boot_seconds(),
        time.clock_gettime(time.CLOCK_BOOTTIME),
        clock.boot_seconds(),
    )
    assert before <= kernel <= after


def test_now_is_unix_time() -> None:
    """Wall time is seconds since 1970, as `time` has it."""
    clock = SystemClock()
    assert time.time() <= clock.now() <= time.time()
