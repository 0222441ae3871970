"""Whether there is room for what is to be fetched, asked before a byte of it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from gpuctl.errors import GpuctlError
from gpuctl.quantities import format_bytes

#: Left free: the journal, logs and images are often on the same disk, and a full one stops them.
HEADROOM_BYTES = 1024**3


def free_bytes(place: Path) -> int:
    """Return what the disk has free for this user, under the nearest directory that exists."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require(place: Path, needed_bytes: int, free: Callable[[Path], int] = free_bytes) -> None:
    """Refuse what would leave less than the headroom. Raises `GpuctlError`."""
    found = free(place)
    if needed_bytes <= 0 or needed_bytes + HEADROOM_BYTES <= found:
        return
    raise GpuctlError(
        f"{place}: {format_bytes(found)} free, {format_bytes(needed_bytes)} to fetch, and "
        f"{format_bytes(HEADROOM_BYTES)} of the disk is to stay free",
        f"make room for {format_bytes(needed_bytes + HEADROOM_BYTES - found)} more, "
        "or name another disk with --to",
    )
