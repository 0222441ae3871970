"""The child's answer, in NVML's units, as GPU readings in base units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpuctl.host_state import THROTTLE_REASONS
from gpuctl.model import GpuProcess, GpuReading


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


def _gpu(answer: Mapping[str, Any], document: Mapping[str, Any]) -> GpuReading:
    """
    Return one card.

    Source: `child` cites the NVML function and the nvidia-smi field of each.
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
        temperature_celsius=_over(answer["temperature"], 1),
        power_watts=_over(answer["power"], 1000),
        power_limit_watts=_over(answer["power_limit"], 1000),
        sm_clock_hertz=None if answer["sm_clock"] is None else answer["sm_clock"] * 1e6,
        throttle_reasons=_reasons(answer["throttle_reasons"]),
        compute_capability=_pair(answer["compute_capability"]),
        pci_bus_id=_bus(answer["pci_bus_id"]),
        processes=_processes(answer["processes"]),
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
    )


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
