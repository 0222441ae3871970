"""Every shipped profile plans on the host that it was written for, with that host's own figures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuctl.model import (
    GIB,
    MIB,
    GpuIdentity,
    Inventory,
    LogRotation,
    Plan,
    Profile,
    Replica,
)
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


def replica(profile: str, name: str) -> Replica:
    found = made(profile).replica(name)
    assert found is not None
    return found


def flags(replica: Replica, *names: str) -> dict[str, str | None]:
    """Return the values of these flags of its command, `None` for one that it does not have."""
    command = replica.spec.command
    following = dict(zip(command, (*command[1:], ""), strict=True))
    return {name: following.get(name) for name in names}


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_planned(path: Path) -> None:
    """It is planned without a warning, and what it logs is rotated."""
    plan = made(path.stem)
    assert plan.replicas
    assert plan.warnings == ()
    rotated = LogRotation(max_bytes=(10 if path.stem == "cpu" else 50) * MIB, files=3)
    assert {replica.spec.log for replica in plan.replicas} == {rotated}


def test_the_same_bytes_in_every_process() -> None:
    """A plan is written in the same bytes by two processes that order their sets differently."""
    program = """
import json
from gpuctl.planning import plan_document
from tests.planning.test_shipped import PROFILES, made
for path in sorted(PROFILES.glob("*.toml")):
    plan = made(path.stem)
    print(json.dumps(plan_document(plan)), plan)
"""
    processes = [
        subprocess.Popen(
            (sys.executable, "-c", program),
            cwd=PROFILES.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate(timeout=30)[0] for process in processes)
    assert first.count(b"\n") == len([*PROFILES.glob("*.toml")])
    assert first == second


def test_p106x8() -> None:
    """Eight cards carry a chat and an embedding server each, 1536 and 512 MiB of host RAM."""
    plan = made("p106x8")
    assert [r.name for r in plan.replicas] == [
        *(f"chat-{i}" for i in range(8)),
        *(f"embed-{i}" for i in range(8)),
    ]
    assert {len([r for r in plan.replicas if gpu in r.gpus]) for gpu in plan.gpus} == {2}
    assert sum(r.spec.memory_bytes or 0 for r in plan.replicas) == 16 * GIB


@pytest.mark.parametrize(
    ("name", "limits", "port", "cache"),
    [
        pytest.param("chat-0", (1536 * MIB, 2048 * MIB), 8081, "384", id="chat"),
        pytest.param("chat-7", (1536 * MIB, 2048 * MIB), 8088, "384", id="the last chat"),
        pytest.param("embed-0", (512 * MIB, 768 * MIB), 8091, "0", id="embed"),
        pytest.param("embed-7", (512 * MIB, 768 * MIB), 8098, "0", id="the last embed"),
    ],
)
def test_p106x8_to_the_letter(name: str, limits: tuple[int, int], port: int, cache: str) -> None:
    """1536m and 2048m, 512m and 768m; one request a GPU; asked every 5 s, for 3 s."""
    found = replica("p106x8", name)
    spec = found.spec
    assert (spec.memory_bytes, spec.memory_swap_bytes) == limits
    assert (spec.host_port, spec.container_port, found.slots) == (port, 8080, 1)
    assert (found.probe.interval_seconds, found.probe.timeout_seconds) == (5, 3)
    # A prompt cache of the server's own default, 8 GiB, would be killed by these limits.
    assert flags(found, "-np", "--cache-ram") == {"-np": "1", "--cache-ram": cache}


def test_p106x8_on_its_own_ram() -> None:
    """Its limits are all of 16 GB of RAM, and a host of 16 GB has a little less: that is told."""
    profile = shipped("p106x8")
    host = its_host(profile, memory_total_bytes=16 * 10**9)
    assert plan(profile, host, ENGINES).warnings == (
        "host RAM: the limits of 16 replicas add up to 16.0 GiB, the host has 14.9 GiB",
    )


def test_a100x8() -> None:
    """Whisper, embedding, an LLM over two GPUs, OCR, on GPUs of their own; three in reserve."""
    plan = made("a100x8")
    placed = {r.workload: [gpu.index for gpu in r.gpus] for r in plan.replicas}
    assert placed == {"whisper": [0], "embedding": [1], "llm": [2, 3], "ocr": [4]}
    assert [gpu.index for gpu in plan.reserve] == [5, 6, 7]


#: What every service of that server is told: load at the start, and from this machine only.
PRELOADED = {
    "PRELOAD_MODELS": "true",
    "LOCAL_FILES_ONLY": "true",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}


@pytest.mark.parametrize(
    ("name", "image", "port", "vram", "own"),
    [
        pytest.param(
            "whisper-0",
            "rag-whisper:latest",
            8004,
            15 * GIB,
            {"MODEL_NAME": "ivrit-ai/whisper-large-v3-ct2"},
            id="whisper",
        ),
        pytest.param(
            "embedding-0",
            "rag-embedding-server:latest",
            8001,
            20 * GIB,
            {"MODEL_NAME": "sentence-transformers/all-MiniLM-L6-v2"},
            id="embedding",
        ),
        pytest.param(
            "llm-0",
            "vllm/vllm-openai:v0.33.0",
            8003,
            144 * GIB,
            {
                "VLLM_DO_NOT_TRACK": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_ENGINE_READY_TIMEOUT_S": "1800",
                "TORCH_NCCL_BLOCKING_WAIT": "1",
            },
            id="llm",
        ),
        pytest.param(
            "ocr-0",
            "rag-dots-ocr:latest",
            8002,
            25 * GIB,
            {"MODEL_NAME": "rednote-hilab/dots.ocr"},
            id="ocr",
        ),
    ],
)
def test_a100x8_services(
    name: str, image: str, port: int, vram: int, own: Mapping[str, str]
) -> None:
    """Each has its image, port and VRAM, preloads offline, and is asked every 30 s."""
    found = replica("a100x8", name)
    spec, probe = found.spec, found.probe
    assert (spec.image, spec.host_port, spec.container_port) == (image, port, 8000)
    assert found.vram_bytes == vram
    assert spec.environment == {**PRELOADED, **own}
    assert (probe.health_path, probe.interval_seconds, probe.timeout_seconds) == ("/health", 30, 10)
    assert found.watchdog.hard_failures == 3


def test_a100x8_llm() -> None:
    """Tensor parallel 2, 32g of shared memory, 0.9 of VRAM, 256 sequences, 2048 tokens, fp16."""
    llm = replica("a100x8", "llm-0")
    wanted = {
        "--tensor-parallel-size": "2",
        "--gpu-memory-utilization": "0.9",
        "--max-num-seqs": "256",
        "--max-num-batched-tokens": "2048",
        "--dtype": "half",
        # n_positions in the config.json of microsoft/DialoGPT-medium: 2,048 would not start.
        "--max-model-len": "1024",
        "--enforce-eager": None,  # CUDA graphs are on
    }
    assert flags(llm, *wanted) == wanted
    assert llm.spec.command[0] == "microsoft/DialoGPT-medium"
    assert {"--enable-prefix-caching", "--enable-chunked-prefill"} <= {*llm.spec.command}
    assert (llm.spec.shm_bytes, llm.slots) == (32 * GIB, 256)


def test_a6000x2() -> None:
    """A 70B model in AWQ over both cards: TP 2, 0.92 of VRAM, 8192 tokens, NCCL failing aloud."""
    plan = made("a6000x2")
    assert [(r.name, [gpu.index for gpu in r.gpus]) for r in plan.replicas] == [("llm-0", [0, 1])]
    llm = plan.replicas[0]
    wanted = {
        "--tensor-parallel-size": "2",
        "--gpu-memory-utilization": "0.92",
        "--max-model-len": "8192",
        # vLLM reads AWQ from the model, and takes its faster kernel only when it is not named.
        "--quantization": None,
    }
    assert flags(llm, *wanted) == wanted
    assert llm.spec.command[0] == "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"
    assert "llama-70b" in llm.aliases
    assert (llm.spec.host_port, llm.spec.container_port) == (8000, 8000)
    assert llm.spec.environment["TORCH_NCCL_BLOCKING_WAIT"] == "1"
    assert "/root/.triton" in [mount.target for mount in llm.spec.mounts]


def test_a6000x2_tp1() -> None:
    """A model of 8B on each card: no tensor parallelism, 0.90 of VRAM, 8192 tokens, bf16."""
    plan = made("a6000x2-tp1")
    placed = [(r.name, [gpu.index for gpu in r.gpus], r.spec.host_port) for r in plan.replicas]
    assert placed == [("llm-0", [0], 8000), ("llm-1", [1], 8001)]
    wanted = {
        "--tensor-parallel-size": None,
        "--gpu-memory-utilization": "0.9",
        "--max-model-len": "8192",
        "--dtype": "bfloat16",
        "--quantization": None,
    }
    for llm in plan.replicas:
        assert flags(llm, *wanted) == wanted
        assert llm.spec.command[0] == "meta-llama/Llama-3.1-8B-Instruct"
        assert "llama-7b" in llm.aliases
        assert "/root/.triton" in [mount.target for mount in llm.spec.mounts]


@pytest.mark.parametrize("name", ["a6000x2", "a6000x2-tp1"])
def test_the_a6000_hosts_gateway(name: str) -> None:
    """Clients are answered on 8080, before vLLM on 8000."""
    gateway = shipped(name).gateway
    assert gateway is not None
    assert gateway.listen == "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("name", "port", "gigabytes"),
    [
        pytest.param("tiny-llama-1b-0", 8080, 2.3, id="tiny"),
        pytest.param("bi-medix2-0", 8081, 6.5, id="medical"),
        pytest.param("openins-llama3-8b-0", 8084, 7.8, id="insurance"),
    ],
)
def test_rtx3090_models(name: str, port: int, gigabytes: float) -> None:
    """The three models keep their ports, and the VRAM they are known to take, up to a MiB."""
    found = replica("rtx3090", name)
    assert (found.engine, found.spec.host_port) == ("llama.cpp", port)
    assert found.vram_bytes is not None
    assert 0 <= found.vram_bytes - gigabytes * GIB < MIB


def test_rtx3090() -> None:
    """Three models share one card, and 3 GB of it stay free."""
    plan = made("rtx3090")
    assert [[gpu.index for gpu in r.gpus] for r in plan.replicas] == [[0], [0], [0]]
    assert plan.vram_headroom_bytes == 3 * GIB
    free = plan_document(plan)["gpus"][0]["free_bytes"]
    assert free == 21 * GIB - (2356 + 6656 + 7988) * MIB
