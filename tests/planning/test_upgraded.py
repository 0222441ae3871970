"""What an older gpuctl took, under a daemon of this one: it goes on, and says what is not."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl import applied
from gpuctl.errors import PlanRefused
from gpuctl.model import (
    GIB,
    Inventory,
    Known,
    LayerCache,
    ModelFacts,
    Plan,
    Profile,
    Variant,
    Workload,
)
from gpuctl.planning import plan

from .make import ENGINES, gpu, host, profile, workload

A6000 = {"name": "RTX A6000", "memory_total_bytes": 48 * GIB, "compute_capability": (8, 6)}
AMPERE = host((gpu(0, **A6000), gpu(1, **A6000)), memory_total_bytes=64 * GIB)
GEFORCE = host(
    tuple(gpu(i, name="NVIDIA GeForce RTX 3090", memory_total_bytes=24 * GIB) for i in (0, 1)),
    driver_version="550.54.14",
    cuda_version=(12, 4),
)
FACTS = ModelFacts(
    source="chat.gguf",
    format="gguf",
    architecture="llama",
    quantization="q4_k_m",
    parameters=7 * 10**9,
    weights_bytes=10 * GIB,
    output_bytes=3 * GIB,
    blocks=7,
    embedding_length=4096,
    feed_forward_length=11008,
    vocabulary=32000,
    context_max=4096,
    cache=(LayerCache(layers=7, kv_heads=8, key_length=128, value_length=128),),
)


def vllm(**changes: Any) -> Workload:
    values = {"engine": "vllm", "image": "example/vllm:1", "model": "org/m", "gpus": ((0,),)}
    return workload(**(values | changes))


def container(**changes: Any) -> Workload:
    return workload(engine="container", gpus=((0,),), **changes)


def stored(written: Profile, on: Inventory, known: Known) -> tuple[Profile, Inventory, Known]:
    """Return what a daemon begins with: all of it read back from the applied profile."""
    text = applied.dump(written, source="", overrides={}, at=0.0, gpus=on.gpus, known=known)
    assert applied.load_gpus(text) == on.gpus
    return applied.load(text), on, applied.load_known(text)


def begun(written: Profile, on: Inventory, known: Known, *, strict: bool) -> Plan:
    found, inventory, facts = stored(written, on, known)
    return plan(found, inventory, ENGINES, strict=strict, known=facts)


EARLIER = [
    pytest.param(vllm(args=("--api-key", "k")), AMPERE, "has a secret", id="a key in args"),
    pytest.param(
        container(command=("serve", "--hf-token=k")), AMPERE, "has a secret", id="in a command"
    ),
    pytest.param(
        container(on_cpu=Variant(args=("--api-key", "k"))), AMPERE, "on_cpu.args", id="elsewhere"
    ),
    pytest.param(vllm(args=("--uds", "/s")), AMPERE, "--uds is set by", id="another socket"),
    pytest.param(vllm(args=("-pp", "1")), AMPERE, "-pp is set by", id="one more kind of group"),
    pytest.param(vllm(args=("--gpu-mem", "0.5")), AMPERE, "--gpu-mem is set", id="short for one"),
    pytest.param(
        vllm(options={"gpu_memory_utilization": 1.0}),
        AMPERE,
        "options.gpu_memory_utilization: 1.0 is the whole of a card",
        id="the whole of a card",
    ),
    pytest.param(
        vllm(args=("--dtype", "half"), options={"dtype": "half"}),
        AMPERE,
        "--dtype stands beside options.dtype",
        id="said twice",
    ),
    pytest.param(
        vllm(image="vllm/vllm-openai:v0.8.0", options={"speculative_config": "{}"}),
        AMPERE,
        "vLLM 0.8.0 has no --speculative-config",
        id="a flag that the image has not",
    ),
    pytest.param(
        vllm(image="vllm/vllm-openai:v0.19.0"), GEFORCE, "asks for CUDA 12.9", id="GeForce"
    ),
    pytest.param(
        vllm(options={"kv_offloading_gib": 4}, shm_bytes=GIB), AMPERE, "shm: ", id="shared memory"
    ),
    pytest.param(
        vllm(options={"kv_offloading_gib": 64}), AMPERE, "of host RAM would be", id="host RAM"
    ),
    pytest.param(
        vllm(options={"kv_offloading_gib": 4}, memory_bytes=GIB),
        AMPERE,
        "are taken at the start",
        id="a limit of host RAM",
    ),
    pytest.param(
        workload(options={"cache_type_v": "q8_0", "flash_attention": "off"}),
        AMPERE,
        "needs flash attention",
        id="a quantized V cache",
    ),
    pytest.param(
        workload(engine="llama-cpp-python", options={"cache_type_v": "q8_0"}, parallel=1),
        AMPERE,
        "needs flash attention",
        id="of llama-cpp-python",
    ),
]


@pytest.mark.parametrize(("one", "on", "refused"), EARLIER)
def test_what_an_older_gpuctl_let_through(one: Workload, on: Inventory, refused: str) -> None:
    """`up` refuses it; a daemon, which may have it applied and running, plans all and says so."""
    with pytest.raises(PlanRefused) as refusal:
        begun(profile(one), on, Known(), strict=True)
    lines = refusal.value.message.splitlines()
    assert any(refused in line for line in lines)
    found = begun(profile(one), on, Known(), strict=False)
    assert [replica.workload for replica in found.replicas] == ["chat"] * len(found.replicas)
    assert found.replicas
    assert set(lines) <= set(found.warnings)


def test_the_share_of_a_replica_that_scale_adds() -> None:
    """One more with the whole of a card is counted as it is told, and ends no daemon."""
    one = vllm(scaled=Variant(options={"gpu_memory_utilization": 1.0}))
    found = begun(profile(one), AMPERE, Known(), strict=False)
    assert [w.scaled_need_bytes for w in found.workloads] == [48 * GIB]


@pytest.mark.parametrize(
    ("on", "vram_bytes"),
    [
        pytest.param(
            host((gpu(0, reserved_bytes=GIB), gpu(1, reserved_bytes=GIB))),
            11 * GIB,
            id="what the driver keeps",
        ),
        pytest.param(host(2), None, id="whole layers"),
    ],
)
def test_a_sum_that_grew(on: Inventory, vram_bytes: int | None) -> None:
    """A sum of VRAM that is counted more closely today is a warning of a daemon's."""
    one = workload(gpus=((0, 1),), context=1024, vram_bytes=vram_bytes)
    known = Known(facts={"chat": FACTS})
    with pytest.raises(PlanRefused, match="of VRAM planned"):
        begun(profile(one), on, known, strict=True)
    found = begun(profile(one), on, known, strict=False)
    assert [replica.name for replica in found.replicas] == ["chat-0"]
    assert any("of VRAM planned" in warning for warning in found.warnings)
