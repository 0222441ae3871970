"""Every shipped profile plans on the host that it was written for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuctl.model import GIB, GpuIdentity, Inventory, Plan, Profile
from gpuctl.planning import plan, plan_document
from gpuctl.profile import load

from .make import ENGINES

PROFILES = Path(__file__).parents[2] / "profiles"

#: VRAM as the driver reports it, a little below what is on the box.
VRAM_BYTES = {
    "P106-100": 6080 * 2**20,
    "A100": 81920 * 2**20,
    "A6000": 49140 * 2**20,
    "RTX 3090": 24576 * 2**20,
}


def shipped(name: str) -> Profile:
    return load(PROFILES / f"{name}.toml", engines=ENGINES)


def its_host(profile: Profile, *, memory_total_bytes: int = 512 * GIB) -> Inventory:
    names = [entry.name for entry in profile.host.gpus for _ in range(entry.count)]
    gpus = tuple(
        GpuIdentity(
            index=index,
            uuid=f"GPU-{index}",
            name=f"NVIDIA {name}",
            memory_total_bytes=next(size for part, size in VRAM_BYTES.items() if part in name),
        )
        for index, name in enumerate(names)
    )
    return Inventory(gpus=gpus, memory_total_bytes=memory_total_bytes, cpus=16)


def made(name: str) -> Plan:
    profile = shipped(name)
    return plan(profile, its_host(profile), ENGINES)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_planned(path: Path) -> None:
    """It is planned without a warning, and the same way twice."""
    first, second = made(path.stem), made(path.stem)
    assert first.replicas
    assert first.warnings == ()
    assert plan_document(first) == plan_document(second)


def test_p106x8() -> None:
    """Eight cards carry a chat and an embedding server each, 1536 and 512 MiB of host RAM."""
    plan = made("p106x8")
    assert [r.name for r in plan.replicas] == [
        *(f"chat-{i}" for i in range(8)),
        *(f"embed-{i}" for i in range(8)),
    ]
    assert {len([r for r in plan.replicas if gpu in r.gpus]) for gpu in plan.gpus} == {2}
    assert sum(r.spec.memory_bytes or 0 for r in plan.replicas) == 16 * GIB


def test_p106x8_on_its_own_ram() -> None:
    """Its limits are all of 16 GB of RAM, and a host of 16 GB has a little less: that is told."""
    profile = shipped("p106x8")
    host = its_host(profile, memory_total_bytes=16 * 10**9)
    assert plan(profile, host, ENGINES).warnings == (
        "host RAM: the limits of 16 replicas add up to 16.0 GiB, the host has 14.9 GiB",
    )


def test_a100x8() -> None:
    """Whisper, embedding, an LLM over two GPUs with 32 GiB of shared memory, OCR; three spare."""
    plan = made("a100x8")
    placed = {r.workload: [gpu.index for gpu in r.gpus] for r in plan.replicas}
    assert placed == {"whisper": [0], "embedding": [1], "llm": [2, 3], "ocr": [4]}
    assert [gpu.index for gpu in plan.reserve] == [5, 6, 7]
    assert {r.spec.shm_bytes for r in plan.replicas if r.workload == "llm"} == {32 * GIB}


def test_rtx3090() -> None:
    """Three models share one card, and 3 GB of it stay free."""
    plan = made("rtx3090")
    assert len(plan.replicas) == 3
    assert plan.vram_headroom_bytes == 3 * GIB
    assert plan_document(plan)["gpus"][0]["free_bytes"] > 0
