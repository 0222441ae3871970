"""
Does it fit: replicas in, mistakes and warnings about host RAM, VRAM and ports out.

A replica of whose VRAM nothing is known is not counted, and said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuctl.model import GIB, GpuIdentity, Profile, Replica, VramPlan
from gpuctl.planning.advice import Other, overfull, smaller
from gpuctl.planning.memory import Sized
from gpuctl.planning.mistakes import Mistakes
from gpuctl.planning.placement import label


def check_host_memory(
    replicas: tuple[Replica, ...], total_bytes: int | None, mistakes: Mistakes
) -> None:
    """
    Sum the limits of host RAM.

    A sum above the RAM is a warning, because limits are seldom all reached at once; a single limit
    above it can never be reached, and is refused. So is what a replica keeps from its start, where
    its own limit or the host does not hold it.
    """
    _check_pinned(replicas, total_bytes, mistakes)
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
    summed = [amount for r in replicas if (amount := host_memory(r)) is not None]
    if sum(summed) > total_bytes:
        mistakes.warn(
            f"host RAM: the limits of {len(summed)} replicas add up to {gib(sum(summed))}, "
            f"the host has {gib(total_bytes)}"
        )


def host_memory(replica: Replica) -> int | None:
    """Return the host RAM that a replica may take, as far as anything says; else `None`."""
    return replica.spec.memory_bytes or replica.pinned_bytes or None


def _check_pinned(
    replicas: tuple[Replica, ...], total_bytes: int | None, mistakes: Mistakes
) -> None:
    """Find RAM that is taken at a start, and that a limit or the host has not."""
    pinning = [replica for replica in replicas if replica.pinned_bytes]
    for replica in pinning:
        limit, kept = replica.spec.memory_bytes, gib(replica.pinned_bytes)
        if limit is not None and limit <= replica.pinned_bytes:
            mistakes.host(
                f"workloads.{replica.workload}.{replica.pinned_key}: {kept} of host RAM are taken"
                f" at the start, and its memory is limited to {gib(limit)}",
                "write a smaller one, or a `memory` that holds it and the engine itself",
            )
    summed = sum(replica.pinned_bytes for replica in pinning)
    if total_bytes is not None and summed >= total_bytes:
        parts = ", ".join(f"{replica.name} {gib(replica.pinned_bytes)}" for replica in pinning)
        first = pinning[0]
        mistakes.host(
            f"workloads.{first.workload}.{first.pinned_key}: {gib(summed)} of host RAM would be"
            f" taken at the start and kept ({parts}), and this host has {gib(total_bytes)}",
            "write a smaller one, or leave it out: KV blocks then stay on the GPU",
        )


def check_vram(
    replicas: tuple[Replica, ...],
    sized: Mapping[str, Sized],
    gpus: Iterable[GpuIdentity],
    headroom_bytes: int,
    mistakes: Mistakes,
) -> None:
    """Sum what is planned on each GPU against what the GPU has to give; *sized* by replica."""
    rooms = [Room.of(gpu, replicas, headroom_bytes) for gpu in gpus]
    for room in rooms:
        if room.free_bytes is None or room.free_bytes >= 0:
            continue
        parts = ", ".join(f"{name} {gib(share)}" for name, share in room.planned.items())
        on_it = [sized[name] for name in room.planned if name in sized]
        others = [
            Other(label=label(other.gpu), free_bytes=other.free_bytes)
            for other in rooms
            if other is not room and other.free_bytes is not None and not other.unknown
        ]
        hints = overfull(on_it, room.budget_bytes or 0, others)
        mistakes.host(
            f"{label(room.gpu)}: {gib(room.planned_bytes)} of VRAM planned ({parts}), "
            f"{gib(room.budget_bytes or 0)} to give ({_kept(room, headroom_bytes)})",
            "\n".join(hints),
        )


def check_claims(sized: Iterable[Sized], mistakes: Mistakes) -> None:
    """Find engines whose share of a GPU does not hold the weights and one request."""
    for one in sized:
        vram = one.vram
        if vram is None or vram.least_bytes is None or vram.least_bytes <= vram.total_bytes:
            continue
        # All but the claim itself: the sum of what must fit into it.
        inside = (line for line in vram.lines if line.label != "KV cache")
        parts = ", ".join(f"{line.label} {gib(line.amount_bytes)}" for line in inside)
        request = vram.least_bytes - (vram.weights_bytes or 0) - (vram.overhead_bytes or 0)
        hints = list(smaller(one, _holds)) or ["choose a smaller model, or more GPUs for it"]
        mistakes.host(
            f"workloads.{one.workload.name}: {one.replica} needs {gib(vram.least_bytes)} ({parts}, "
            f"the KV cache of one request {gib(request)}), and claims {gib(vram.total_bytes)}",
            "\n".join(hints),
        )


def _holds(found: VramPlan) -> bool:
    return found.least_bytes is None or found.least_bytes <= found.total_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One GPU: what it has to give, and what is planned on it."""

    gpu: GpuIdentity
    budget_bytes: int | None  # without headroom and strangers; None: its size is not known
    planned: Mapping[str, int]  # by replica, of this GPU alone
    unknown: tuple[str, ...] = ()  # replicas on it of which nothing is known

    @classmethod
    def of(cls, gpu: GpuIdentity, replicas: Iterable[Replica], headroom_bytes: int) -> Room:
        shares = {r.name: r.share_bytes for r in replicas if gpu in r.gpus}
        return cls(
            gpu=gpu,
            budget_bytes=vram_budget(gpu, headroom_bytes),
            planned={name: share for name, share in shares.items() if share is not None},
            unknown=tuple(name for name, share in shares.items() if share is None),
        )

    @property
    def planned_bytes(self) -> int:
        return sum(self.planned.values())

    @property
    def free_bytes(self) -> int | None:
        """What is left after what is known of; below zero where that does not fit."""
        return None if self.budget_bytes is None else self.budget_bytes - self.planned_bytes


def _kept(room: Room, headroom_bytes: int) -> str:
    """Return what of a GPU is nobody's to plan with, and whose it is."""
    kept = [f"{gib(headroom_bytes)} of headroom kept"]
    if room.gpu.reserved_bytes:
        kept.append(f"{gib(room.gpu.reserved_bytes)} kept by the driver")
    if room.gpu.foreign_bytes:
        by = ", ".join(room.gpu.foreign) or "others"
        kept.append(f"{gib(room.gpu.foreign_bytes)} held by {by}")
    return ", ".join(kept)


def vram_budget(gpu: GpuIdentity, headroom_bytes: int) -> int | None:
    """
    Return the bytes of a GPU that replicas may take, `None` when its size is unknown.

    Neither the headroom is theirs, nor what the driver keeps, nor what strangers held when the
    host was looked at.
    """
    if gpu.usable_bytes is None:
        return None
    return max(0, gpu.usable_bytes - headroom_bytes - (gpu.foreign_bytes or 0))


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
