"""
`gpus` and `plan` on the four hosts that ship, through the real NVML binding: right to the byte,
and refused where it must be.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import tomlkit

from gpuctl.host_state import ProcessState
from tests.cli import fake_docker
from tests.rig.nvml import FakeNvml

pytestmark = [pytest.mark.nvml, pytest.mark.program]

MIB, GIB = 1024**2, 1024**3
HOSTS = ("p106x8", "a100x8", "a6000x2", "rtx3090")
#: A model of 32 layers and 8 KV heads of 128, as Llama 3 has.
LAYERS, KV_HEADS, HEAD = 32, 8, 128
EMBEDDING, FEED_FORWARD, HEADS, VOCABULARY = 4096, 14336, 32, 256
F16 = 1


def text(words: str) -> bytes:
    return struct.pack("<Q", len(words)) + words.encode()


def write_model(path: Path, weights_bytes: int) -> int:
    """Write the head of such a model, its weights a hole in the file; return their bytes."""
    numbers = {
        "block_count": LAYERS, "context_length": 131072, "embedding_length": EMBEDDING,
        "feed_forward_length": FEED_FORWARD, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "vocab_size": VOCABULARY,
    }  # fmt: skip
    rows = weights_bytes // (EMBEDDING * 2)
    tensors = {"blk.0.ffn_up.weight": (EMBEDDING, rows)}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(numbers) + 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, number in numbers.items():
        head += text(f"llama.{key}") + struct.pack("<II", 4, number)
    for name, shape in tensors.items():
        head += text(name) + struct.pack("<I2QIQ", 2, *shape, F16, 0)
    head += bytes(-len(head) % 32)
    held = rows * EMBEDDING * 2
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + held)
    return held


class Bench:
    """One fake host, and the program on it."""

    def __init__(self, host: str, folder: Path) -> None:
        self.folder = folder
        self.fake = FakeNvml(host, folder)
        (folder / "models").mkdir()

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        places = {
            f"GPUCTL_{name}_DIR": str(self.folder / name.lower())
            for name in ("STATE", "RUNTIME", "CONFIG")
        }
        environment = {**os.environ, **self.fake.environment(), **places, "NO_COLOR": "1", **more}
        return subprocess.run(
            [sys.executable, "-m", "gpuctl", *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def profile(self, workloads: dict[str, Any], *, reserve: tuple[int, ...] = ()) -> str:
        """Write a profile of these workloads, each of the llama.cpp engine."""
        usual = {
            "engine": "llama.cpp",
            "image": "ghcr.io/ggml-org/llama.cpp:server-cuda",
            "context": 4096,
            "mounts": [f"{self.folder}/models:/models:ro"],
        }
        document = {
            "schema": 1,
            "host": {"name": "bench", "runtime": "docker", "reserve": list(reserve)},
            "workloads": {name: {**usual, **keys} for name, keys in workloads.items()},
        }
        path = self.folder / "profile.toml"
        path.write_text(tomlkit.dumps(document))
        return str(path)

    def model(self, name: str, weights_bytes: int) -> int:
        return write_model(self.folder / "models" / name, weights_bytes)


@pytest.mark.parametrize("host", HOSTS)
def test_gpus_shows_what_the_driver_says(host: str, tmp_path: Path) -> None:
    """Every card by index, each figure the driver's own in base units."""
    bench = Bench(host, tmp_path)
    ran = bench.run("gpus", "--json")
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)["gpus"]
    names = (
        "index", "uuid", "name", "memory_total_bytes", "memory_used_bytes", "utilization_ratio",
        "temperature_celsius", "power_watts", "power_limit_watts", "sm_clock_hertz",
    )  # fmt: skip
    expected = [{name: getattr(gpu, name) for name in names} for gpu in bench.fake.host.gpus]
    assert [{name: row[name] for name in names} for row in shown] == expected
    assert [row["throttle_reasons"] for row in shown] == [
        list(gpu.throttle_reasons or ()) for gpu in bench.fake.host.gpus
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_the_plan_adds_up_to_the_byte(host: str, tmp_path: Path) -> None:
    """Weights and KV cache by hand, the lines to the total, what is left of each card."""
    bench = Bench(host, tmp_path)
    weights = bench.model("model.gguf", 3 * GIB)
    ran = bench.run(
        "plan",
        "--json",
        bench.profile({"chat": {"port": 8081, "model": "model.gguf", "parallel": 2}}),
    )
    assert ran.returncode == 0, ran.stderr
    plan = json.loads(ran.stdout)
    kv = LAYERS * KV_HEADS * (HEAD + HEAD) * 2 * 4096 * 2
    assert len(plan["replicas"]) == len(bench.fake.host.gpus)
    for replica in plan["replicas"]:
        vram = replica["vram"]
        assert (vram["weights_bytes"], vram["kv_bytes"], vram["source"]) == (weights, kv, "headers")
        assert sum(line["amount_bytes"] for line in vram["lines"]) == vram["total_bytes"]
        assert vram["total_bytes"] == weights + kv + vram["overhead_bytes"]
        assert 250 * MIB <= vram["overhead_bytes"] <= 1024 * MIB
    total = plan["replicas"][0]["vram"]["total_bytes"]
    held = {gpu.uuid: gpu.memory_used_bytes for gpu in bench.fake.host.gpus}
    size = {gpu.uuid: gpu.memory_total_bytes for gpu in bench.fake.host.gpus}
    kept = {gpu.uuid: gpu.memory_reserved_bytes for gpu in bench.fake.host.gpus}
    for gpu in plan["gpus"]:
        assert gpu["planned_bytes"] == total
        assert gpu["foreign_bytes"] == held[gpu["uuid"]]
        assert gpu["reserved_bytes"] == kept[gpu["uuid"]]
        usable = (size[gpu["uuid"]] or 0) - (kept[gpu["uuid"]] or 0)
        budget = usable - 256 * MIB - held[gpu["uuid"]]
        assert (gpu["budget_bytes"], gpu["free_bytes"]) == (budget, budget - total)


@pytest.mark.parametrize("type_", ["C", "G"], ids=["computes", "draws"])
def test_a_stranger_is_named_and_its_vram_not_planned_with(
    type_: Literal["C", "G"], tmp_path: Path
) -> None:
    """A process in no container of ours holds 4 GiB of a P106: the model does not go beside it."""
    bench = Bench("p106x8", tmp_path)
    bench.model("model.gguf", 3 * GIB)
    held = ProcessState(pid=os.getpid(), used_bytes=4 * GIB, type=type_)
    bench.fake.set(0, processes=(held,))
    profile = bench.profile({"chat": {"port": 8081, "model": "model.gguf"}})
    socket = tmp_path / "docker"
    with fake_docker.answering(socket):
        ran = bench.run("plan", profile, DOCKER_HOST=f"unix://{socket}")
    assert ran.returncode == 2
    name = Path("/proc/self/comm").read_text().rstrip()
    assert f"4.0 GiB held by {name} (pid {os.getpid()})" in ran.stderr
    assert "GPU 1" not in ran.stderr


def test_a_model_of_13_gb_does_not_go_on_a_p106(tmp_path: Path) -> None:
    """Refused before anything starts, with what would fit instead."""
    bench = Bench("p106x8", tmp_path)
    bench.model("big.gguf", 13_000_000_000)
    ran = bench.run(
        "plan", bench.profile({"chat": {"port": 8081, "model": "big.gguf", "gpus": [0]}})
    )
    assert ran.returncode == 2
    assert "GPU 0: 12.9 GiB of VRAM planned (chat-0" in ran.stderr
    assert "hint: chat: the model in Q5_K_M would fit" in ran.stderr


def test_a_group_takes_no_gpu_of_the_reserve(tmp_path: Path) -> None:
    """Tensor parallel over GPUs 2 and 5, and 5 is in reserve: refused by name."""
    bench = Bench("a100x8", tmp_path)
    bench.model("model.gguf", 3 * GIB)
    tables = {"port": 8003, "model": "model.gguf", "gpus": [[2, 5]]}
    ran = bench.run("plan", bench.profile({"llm": tables}, reserve=(5, 6, 7)))
    assert ran.returncode == 2
    assert "GPU 5 is in reserve" in ran.stderr


def test_three_models_are_too_many_for_24_gb(tmp_path: Path) -> None:
    """Two fit beside each other, the third makes the sum too large: refused with the sum."""
    bench = Bench("rtx3090", tmp_path)
    bench.model("model.gguf", 8 * GIB)
    ports = {"one": 8080, "two": 8081, "three": 8084}
    tables = {name: {"port": port, "model": "model.gguf"} for name, port in ports.items()}
    two = {name: table for name, table in tables.items() if name != "three"}
    assert bench.run("plan", bench.profile(two)).returncode == 0
    ran = bench.run("plan", bench.profile(tables))
    assert ran.returncode == 2
    assert all(name in ran.stderr for name in ports)
    assert "hint:" in ran.stderr
