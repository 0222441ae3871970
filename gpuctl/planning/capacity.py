"""
Does it fit: replicas in, mistakes and warnings about host RAM, VRAM and ports out.

Only VRAM that the profile states is counted; a replica that states none is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import GIB, GpuIdentity, Profile, Replica
from gpuctl.planning.mistakes import Mistakes
from gpuctl.planning.placement import label


def check_host_memory(
    replicas: tuple[Replica, ...], total_bytes: int | None, mistakes: Mistakes
) -> None:
    """
    Sum the limits of host RAM.

    A sum above the RAM is a warning, because limits are seldom all reached at once; a single limit
    above it can never be reached, and is refused.
    """
    if total_bytes is None:
        return
    limits = {r.name: r.spec.memory_bytes for r in replicas if r.spec.memory_bytes is not None}
    for name, limit in limits.items():
        if limit > total_bytes:
            mistakes.host(
                f"workloads.{name.rpartition('-')[0]}.memory: {gib(limit)} is more than this "
                f"host's {gib(total_bytes)} of RAM",
                "lower the limit: the host cannot give that much",
            )
    summed = sum(limits.values())
    if summed > total_bytes:
        mistakes.warn(
            f"host RAM: the limits of {len(limits)} replicas add up to {gib(summed)}, "
            f"the host has {gib(total_bytes)}"
        )


def check_vram(
    replicas: tuple[Replica, ...],
    gpus: Iterable[GpuIdentity],
    headroom_bytes: int,
    mistakes: Mistakes,
) -> None:
    """Sum the VRAM that the profile states on each GPU against what the GPU has to give."""
    for gpu in gpus:
        shares = {r.name: vram_share(r) for r in replicas if gpu in r.gpus}
        stated = {name: share for name, share in shares.items() if share is not None}
        budget = vram_budget(gpu, headroom_bytes)
        if budget is None or sum(stated.values()) <= budget:
            continue
        parts = ", ".join(f"{name} {gib(share)}" for name, share in stated.items())
        mistakes.host(
            f"{label(gpu)}: {gib(sum(stated.values()))} of VRAM planned ({parts}), "
            f"{gib(budget)} to give ({gib(headroom_bytes)} of headroom kept)",
            "move a workload to another GPU, or choose a smaller model or context",
        )


def vram_budget(gpu: GpuIdentity, headroom_bytes: int) -> int | None:
    """Return the bytes of a GPU that replicas may take, `None` when its size is unknown."""
    if gpu.memory_total_bytes is None:
        return None
    return max(0, gpu.memory_total_bytes - headroom_bytes)


def vram_share(replica: Replica) -> int | None:
    """Return the bytes it is planned to take of each of its GPUs, `None` when not stated."""
    if replica.vram_bytes is None or not replica.gpus:
        return None
    return -(-replica.vram_bytes // len(replica.gpus))


def check_ports(profile: Profile, replicas: tuple[Replica, ...], mistakes: Mistakes) -> None:
    """Find two that would listen on one port of the host's loopback."""
    owners: dict[int, str] = {}
    if profile.gateway is not None:
        owners[int(profile.gateway.listen.rpartition(":")[2])] = "the gateway"
    for replica in replicas:
        port = replica.spec.host_port
        where = f"workloads.{replica.workload}.port: {replica.name} would listen on {port}"
        if port > 65535:
            mistakes.profile(f"{where}, and the last port is 65535", "choose a lower port")
        elif port in owners:
            mistakes.profile(
                f"{where}, which {owners[port]} has already",
                "replica i listens on port + i: leave room for all replicas of a workload",
            )
        owners.setdefault(port, replica.name)


def gib(amount_bytes: int) -> str:
    """Return an amount of memory for people."""
    return f"{amount_bytes / GIB:.1f} GiB"
