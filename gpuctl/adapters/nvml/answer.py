"""What the child says, as GPU readings in base units and as Xids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpuctl.host_state import THROTTLE_REASONS
from gpuctl.model import GpuFacts, GpuHealth, GpuPeer, GpuProcess, GpuReading, Xid

#: How a line begins that answers no question.
XID = '{"xid"'


def readings(
    document: Mapping[str, Any], known: Mapping[int, GpuReading]
) -> tuple[GpuReading, ...]:
    """
    Return every card; a lost one is named as in *known*, the readings of before by index.

    Raises:
        ValueError, KeyError, TypeError: it is no answer of the child's.
    """
    read = tuple(_gpu(answer, document) for answer in document["gpus"])
    present = {gpu.uuid for gpu in read}
    return tuple(
        _lost(gpu, known.get(gpu.index), present) if gpu.state == "lost" else gpu for gpu in read
    )


def xid(line: str, known: Mapping[int, GpuReading]) -> Xid:
    """
    Return what a line that begins with `XID` tells.

    Raises:
        ValueError, KeyError, TypeError: it is no line of the child's.
    """
    told = json.loads(line)["xid"]
    buses = {gpu.uuid: gpu.pci_bus_id for gpu in known.values()}
    return Xid(
        number=int(told["number"]),
        gpu=str(told["gpu"]),
        pci_bus_id=buses.get(told["gpu"]),
        source="nvml",
        at=float(told["at"]),
        boot_seconds=float(told["boot_seconds"]),
    )


def _gpu(answer: Mapping[str, Any], document: Mapping[str, Any]) -> GpuReading:
    """
    Return one card.

    Source: the modules of `child` cite the NVML function and the nvidia-smi field of each.
    """
    at, boot_seconds = float(document["at"]), float(document["boot_seconds"])
    index = int(answer["index"])
    if "lost" in answer:
        return GpuReading(
            index=index,
            uuid=f"unknown-{index}",
            name="unknown",
            state="lost",
            at=at,
            boot_seconds=boot_seconds,
        )
    return GpuReading(
        index=index,
        uuid=str(answer["uuid"]),
        name=str(answer["name"]),
        memory_total_bytes=answer["memory_total"],
        memory_used_bytes=answer["memory_used"],
        memory_reserved_bytes=answer["memory_reserved"],
        utilization_ratio=_over(answer["utilization"], 100),
        memory_utilization_ratio=_over(answer["memory_utilization"], 100),
        temperature_celsius=_over(answer["temperature"], 1),
        memory_temperature_celsius=_over(answer["memory_temperature"], 1),
        power_watts=_over(answer["power"], 1000),
        power_limit_watts=_over(answer["power_limit"], 1000),
        sm_clock_hertz=_megahertz(answer["sm_clock"]),
        memory_clock_hertz=_megahertz(answer["memory_clock"]),
        fan_ratio=_over(answer["fan"], 100),
        performance_state=answer["performance_state"],
        throttle_reasons=_reasons(answer["throttle_reasons"]),
        compute_capability=_pair(answer["compute_capability"]),
        pci_bus_id=_bus(answer["pci_bus_id"]),
        processes=_processes(answer["processes"]),
        facts=_facts(answer["facts"]),
        health=GpuHealth(**answer["health"]),
        at=at,
        boot_seconds=boot_seconds,
    )


def _lost(gpu: GpuReading, known: GpuReading | None, present: set[str]) -> GpuReading:
    """Return a lost card with who it was; nothing else of it is true any more."""
    # A card that is read at another index now is not the one that was lost at this one.
    if known is None or known.uuid in present:
        return gpu
    return replace(
        gpu,
        uuid=known.uuid,
        name=known.name,
        memory_total_bytes=known.memory_total_bytes,
        compute_capability=known.compute_capability,
        pci_bus_id=known.pci_bus_id,
        facts=known.facts,
    )


def _facts(told: Mapping[str, Any]) -> GpuFacts:
    peers = told["peers"]
    return GpuFacts(
        **{
            **told,
            "cuda_version": _pair(told["cuda_version"]),
            "peers": None if peers is None else tuple(GpuPeer(**peer) for peer in peers),
        }
    )


def _megahertz(value: int | None) -> float | None:
    return None if value is None else value * 1e6


def _over(value: float | None, divisor: int) -> float | None:
    return None if value is None else value / divisor


def _reasons(bits: int | None) -> tuple[str, ...] | None:
    """Return the reasons' names; a bit that has none is a newer driver's, and left out."""
    if bits is None:
        return None
    return tuple(name for place, name in enumerate(THROTTLE_REASONS) if bits >> place & 1)


def _pair(capability: list[int] | None) -> tuple[int, int] | None:
    return None if capability is None else (int(capability[0]), int(capability[1]))


def _bus(written: str | None) -> str | None:
    """Return the bus id as sysfs has it, but with the domain's eight digits: 00000000:01:00.0."""
    if not written:
        return None
    domain, _, rest = written.lower().partition(":")
    return f"{domain:0>8}:{rest}"


def _processes(listed: list[tuple[int, int | None]] | None) -> tuple[GpuProcess, ...] | None:
    if listed is None:
        return None
    return tuple(GpuProcess(pid=int(pid), used_bytes=used) for pid, used in listed)
