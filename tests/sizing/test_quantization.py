"""Bits per weight, and a table of rules of thumb: what two cards of 48 GB hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.model_headers import read
from gpuctl.model import GIB, GpuIdentity, Known, LayerCache, ModelFacts
from gpuctl.planning import plan
from gpuctl.sizing import QUANTIZATIONS, requantized, rule_of_thumb, surprise
from tests.adapters.hub_files import config
from tests.planning.make import ENGINES, host, profile, workload

GB = 10**9
LLAMA2 = {"num_key_value_heads": None, "vocab_size": 32000, "max_position_embeddings": 4096}
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
    "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}

#: Name, what its config says, the rule of thumb's GB, what its weights really are in GB.
ROWS = [
    pytest.param(
        "Llama-2-7b",
        {**LLAMA2, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32},
        14, 13.5, "", id="7B bf16",
    ),
    pytest.param(
        "Llama-2-13b",
        {**LLAMA2, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40},
        26, 26.0, "", id="13B bf16",
    ),
    pytest.param("Llama-3-70B", {"quantization_config": INT8}, 70, 72.7, "", id="70B int8"),
    pytest.param(
        "Llama-3-70B-AWQ", {"quantization_config": AWQ}, 35, 39.8,
        "embeddings and the output layer stay in 16 bits", id="70B AWQ",
    ),
    pytest.param(
        "Mixtral-8x7B", {**MIXTRAL, "quantization_config": INT8}, 56, 47.0,
        "it has 46.7B parameters, not 56B; its 8 experts share", id="Mixtral 8x7B int8",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "thumb", "real", "because"), ROWS)
def test_the_memory_budget(
    tmp_path: Path, name: str, keys: dict[str, Any], thumb: int, real: float, because: str
) -> None:
    """The rule of thumb is met within 5 %, and where the model itself differs more, it says why."""
    facts = read(config(tmp_path, **keys), name=name)
    rule = rule_of_thumb(facts)
    assert rule is not None
    assert rule == pytest.approx(thumb * GB, rel=0.05)
    assert facts.weights_bytes == pytest.approx(real * GB, rel=0.005)
    differs = abs(real - thumb) > 0.05 * thumb
    assert differs == bool(because) == bool(surprise(facts))
    assert because in surprise(facts)


def test_the_plan_says_why(tmp_path: Path) -> None:
    """What differs from the rule of thumb is a note of the plan."""
    facts = read(config(tmp_path, quantization_config=AWQ), name="Llama-3-70B-AWQ")
    cards = tuple(
        GpuIdentity(
            index=i, uuid=f"GPU-{i}", name="RTX A6000", memory_total_bytes=48 * GIB,
            compute_capability=(8, 6),
        )
        for i in range(2)
    )  # fmt: skip
    asked = workload(engine="vllm", gpus=((0, 1),), context=8192, mounts=())
    found = plan(profile(asked), host(cards), ENGINES, known=Known(facts={"chat": facts}))
    vram = found.replicas[0].vram
    assert vram is not None
    assert any("the rule of thumb (70B) says 35.0 GB" in note for note in vram.notes)


def test_the_cache_of_llama_3_70b(tmp_path: Path) -> None:
    """A token of Llama 3 70B takes 320 KB, and 26 GB hold some 83,000 of them."""
    cache = read(config(tmp_path)).cache
    token = sum(c.layers * c.kv_heads * (c.key_length + c.value_length) * 2 for c in cache)
    assert token == 320 * 1024
    assert 26 * GB // token == pytest.approx(83_000, rel=0.05)


def facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "source": "/m/a.gguf",
        "format": "gguf",
        "architecture": "llama",
        "name": "Some 8B",
        "quantization": "Q8_0",
        "parameters": 8 * GB,
        "weights_bytes": int(8.5 * GB),
        "input_bytes": 850,
        "output_bytes": 85,
        "layer_bytes": (17, 34),
        "cache": (LayerCache(layers=1),),
    }
    return ModelFacts(**{**values, **changes})


def test_another_quantization() -> None:
    """A model weighs its bits a weight; its tables shrink with it."""
    best = QUANTIZATIONS["gguf"][0]
    assert requantized(facts(), best) == facts(quantization="Q8_0")
    half = requantized(facts(quantized_ratio=0.5), QUANTIZATIONS["config"][0])
    assert half is not None
    assert half.layer_bytes == (24, 48)
    assert half.weights_bytes == 12 * GB  # half of it stays in 16 bits
    assert requantized(facts(parameters=None), best) is None
    assert requantized(facts(weights_bytes=None), best) is None
    # A vocabulary alone is a GGUF file too.
    assert requantized(facts(weights_bytes=0, parameters=0), best) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, "", id="as expected"),
        pytest.param({"name": "chat", "source": "/m/chat.gguf"}, "", id="no size in its name"),
        pytest.param({"name": "", "source": "/m/X-8B.gguf"}, "", id="the size of the file's name"),
        pytest.param({"quantization": "new"}, "", id="a quantization without bits"),
        pytest.param({"weights_bytes": None}, "", id="no weights"),
        pytest.param({"weights_bytes": 5000}, "", id="a small one"),
        pytest.param(
            {"quantization": "Q4_K_M", "weights_bytes": int(4.9 * GB)},
            "the rule of thumb (8B) says 4.0 GB, the weights are 4.9 GB: "
            "Q4_K_M takes 4.90 bits a weight here",
            id="more bits than its name",
        ),
        pytest.param(
            {"quantization": "GPTQ", "weights_bytes": 5 * GB, "parameters": None},
            "the rule of thumb (8B) says 4.0 GB, the weights are 5.0 GB",
            id="nothing to explain it",
        ),
        pytest.param(
            {"parameters": 9 * GB, "weights_bytes": int(9.5 * GB)},
            "the rule of thumb (8B) says 8.0 GB, the weights are 9.5 GB: "
            "it has 9.0B parameters, not 8B; Q8_0 takes 8.44 bits a weight here",
            id="another size than its name",
        ),
    ],
)
def test_surprise(changes: dict[str, Any], told: str) -> None:
    """What a model's name makes expect and it does not weigh is explained."""
    assert surprise(facts(**{"weights_bytes": 8 * GB, **changes})) == told
