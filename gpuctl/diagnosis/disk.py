"""Is there room where gpuctl, Docker and the engines write?"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.diagnosis.facts import DiskFacts, Facts
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn
from gpuctl.quantities import format_bytes, format_ratio

#: Below it state.db may fail within a day, and `gpuctl up` refuses to start.
_LEAST_BYTES = 256 * 1024**2
#: An image of an inference server with CUDA unpacks to 10 GiB and more.
_SCARCE_BYTES = 20 * 1024**3
_SCARCE_RATIO = 0.1
_SCARCE_INODES_RATIO = 0.05
_FIX = "docker system df; docker image prune; du -xh --max-depth=2 {path} | sort -h | tail"


def space(disks: tuple[DiskFacts, ...], facts: Facts) -> Iterator[Finding]:
    """Judge each file system once; one that is only read may be as full as it likes."""
    for disk in disks:
        name = f"{disk.path} ({', '.join(disk.uses)})"
        ratio = disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0
        free = f"{format_bytes(disk.free_bytes)} free, {format_ratio(round(ratio, 2))}"
        fix = _FIX.format(path=disk.path)
        if not disk.written:
            yield ok("space", f"{name}: only read, {free}")
        elif disk.free_bytes < _LEAST_BYTES:
            yield fail("space", "disk_full", f"{name}: {free}", fix)
        elif ratio < _SCARCE_RATIO and disk.free_bytes < _SCARCE_BYTES:
            yield warn("space", "disk_scarce", f"{name}: {free}", fix)
        else:
            yield ok("space", f"{name}: {free}")


def inodes(disks: tuple[DiskFacts, ...], facts: Facts) -> Iterator[Finding]:
    """Judge the number of files that still fit: images are made of hundreds of thousands."""
    counted = [disk for disk in disks if disk.inodes_total and disk.written]
    for disk in counted:
        ratio = disk.inodes_free / disk.inodes_total
        if ratio < _SCARCE_INODES_RATIO:
            message = f"{disk.path} ({', '.join(disk.uses)}): {disk.inodes_free} inodes free"
            level = warn if disk.inodes_free else fail
            yield level("inodes", "inodes_scarce", message, "docker image prune")
            return
    if counted:
        yield ok("inodes", "enough everywhere")
    else:
        yield skip("inodes", "these file systems do not count them")


GROUP = Group(
    name="disk",
    checks=(needing("disks", "space", space), needing("disks", "inodes", inodes)),
)
