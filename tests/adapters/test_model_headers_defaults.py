"""What a config.json leaves out is what transformers takes in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.model_headers import read
from gpuctl.model import LayerCache

#: The text of google/gemma-3-27b-it as it is published, and of its sizes what 4b's leaves out too.
GEMMA_27B = {
    "model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504,
    "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16,
    "head_dim": 128, "sliding_window": 1024,
}  # fmt: skip
GEMMA_4B = {
    "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
    "num_hidden_layers": 34, "sliding_window": 1024,
}  # fmt: skip
#: Eight layers of two KV heads of eight numbers.
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 8,
}  # fmt: skip
FALCON = {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
          "num_attention_heads": 71}  # fmt: skip


def write(path: Path, **keys: Any) -> Path:
    (path / "config.json").write_text(json.dumps(keys))
    return path


def part(layers: int, window: int | None = None) -> LayerCache:
    return LayerCache(layers=layers, kv_heads=2, key_length=8, value_length=8, window=window)


def kinds(**keys: Any) -> dict[str, Any]:
    return {**SMALL, **keys}


@pytest.mark.parametrize(
    ("keys", "cache"),
    [
        pytest.param(
            kinds(model_type="gemma2"), (part(4, 4096), part(4)), id="gemma2: every second"
        ),
        pytest.param(
            kinds(model_type="gemma3_text", sliding_window=1024), (part(7, 1024), part(1)),
            id="gemma3: every sixth is full",
        ),
        pytest.param(
            kinds(model_type="gemma3_text", sliding_window_pattern=4), (part(6, 4096), part(2)),
            id="gemma3: its own pattern",
        ),
        pytest.param(
            kinds(model_type="gemma3n_text", num_hidden_layers=20), (part(4, 512), part(1)),
            id="gemma3n: the last fifteen share",
        ),
        pytest.param(
            kinds(model_type="gemma4_text", num_hidden_layers=6),
            (
                part(5, 512),
                LayerCache(layers=1, kv_heads=2, key_length=512, value_length=512),
            ),
            id="gemma4: longer heads where attention is full",
        ),
        pytest.param(
            kinds(model_type="gemma4_text", num_hidden_layers=6, attention_k_eq_v=True,
                  num_global_key_value_heads=1, global_head_dim=16),
            (
                part(5, 512),
                LayerCache(layers=1, kv_heads=1, key_length=16, value_length=16),
            ),
            id="gemma4: fewer heads where attention is full",
        ),
        pytest.param(
            kinds(model_type="cohere2"), (part(6, 4096), part(2)), id="cohere2: every fourth"
        ),
        pytest.param(
            kinds(model_type="gpt_oss"), (part(4, 128), part(4)), id="gpt_oss: every second"
        ),
        pytest.param(
            kinds(model_type="olmo3"), (part(6, 4096), part(2)), id="olmo3: every fourth"
        ),
        pytest.param(
            kinds(model_type="exaone4", sliding_window=None), (part(8),), id="exaone4: none"
        ),
        pytest.param(kinds(model_type="mistral"), (part(8, 4096),), id="mistral: all of them"),
        pytest.param(
            kinds(model_type="mistral", sliding_window=None), (part(8),), id="mistral: told none"
        ),
        pytest.param(
            kinds(model_type="mistral", sliding_window=0), (part(8),), id="mistral: told 0"
        ),
        pytest.param(kinds(model_type="mixtral"), (part(8),), id="mixtral: none by itself"),
        pytest.param(
            kinds(model_type="mixtral", sliding_window=64), (part(8, 64),), id="mixtral: told one"
        ),
        pytest.param(kinds(model_type="phi3"), (part(8),), id="phi3: none by itself"),
        pytest.param(
            kinds(model_type="phi3", sliding_window=2047), (part(8, 2047),), id="phi3: told one"
        ),
        pytest.param(
            kinds(model_type="qwen2", sliding_window=512), (part(8),), id="qwen2: not in use"
        ),
        pytest.param(
            kinds(model_type="qwen2", use_sliding_window=True, max_window_layers=3),
            (part(3), part(5, 4096)), id="qwen2: from a layer on",
        ),
        pytest.param(
            kinds(model_type="qwen3", use_sliding_window=True), (part(8),),
            id="qwen3: from a layer on that it does not have",
        ),
        pytest.param(
            kinds(model_type="qwen3", sliding_window=512,
                  layer_types=["sliding_attention", "full_attention"] * 4),
            (part(8),), id="qwen3: kinds told, and no window in use",
        ),
        pytest.param(
            kinds(model_type="qwen3_moe", use_sliding_window=True, max_window_layers=3),
            (part(8, 4096),), id="qwen3_moe: all of them",
        ),
        pytest.param(
            kinds(model_type="llama4_text"), (part(6, 8192), part(2)), id="llama4: in chunks"
        ),
        pytest.param(
            kinds(model_type="llama4_text", attention_chunk_size=1024,
                  no_rope_layers=[1, 0, 0, 0, 1, 1, 1, 1]),
            (part(5, 1024), part(3)), id="llama4: told which",
        ),
        pytest.param(
            kinds(model_type="llama4_text", no_rope_layers=[], no_rope_layer_interval=8),
            (part(7, 8192), part(1)), id="llama4: told how many",
        ),
        pytest.param(
            kinds(model_type="llama4_text",
                  layer_types=["chunked_attention"] * 6 + ["full_attention"] * 2),
            (part(6, 8192), part(2)), id="llama4: told the kinds",
        ),
        pytest.param(
            kinds(model_type="llama4_text", attention_chunk_size=None), (part(8),),
            id="llama4: told no chunks",
        ),
        pytest.param(
            kinds(model_type="other", layer_types=["attention", "indexed_attention"] * 4),
            (part(8),), id="other words for full attention",
        ),
        pytest.param(kinds(model_type="other", sliding_window=512), (part(8),), id="not known"),
    ],
)  # fmt: skip
def test_which_layers_look_through_a_window(
    tmp_path: Path, keys: dict[str, Any], cache: tuple[LayerCache, ...]
) -> None:
    """Without layer types, a model's own kind says which of its layers keep all tokens."""
    assert read(write(tmp_path, **keys)).cache == cache


def test_gemma_3_27b(tmp_path: Path) -> None:
    """Ten of its layers keep all of a context: 49,152 tokens are 7.4 GiB, not 23."""
    found = read(write(tmp_path, model_type="gemma3", text_config=GEMMA_27B))
    one = {"kv_heads": 16, "key_length": 128, "value_length": 128}
    assert found.cache == (LayerCache(layers=52, window=1024, **one), LayerCache(layers=10, **one))
    assert (found.context_max, found.vocabulary) == (131_072, 262_208)


def test_gemma_3_4b(tmp_path: Path) -> None:
    """Heads that its config leaves out are those of transformers, not one as wide as the model."""
    found = read(write(tmp_path, model_type="gemma3", text_config=GEMMA_4B))
    one = {"kv_heads": 4, "key_length": 256, "value_length": 256}
    assert found.cache == (LayerCache(layers=29, window=1024, **one), LayerCache(layers=5, **one))
    assert found.heads == 8


@pytest.mark.parametrize(
    ("keys", "heads"),
    [
        pytest.param({}, 1, id="7B, nothing told"),
        pytest.param({"multi_query": True, "num_kv_heads": 71}, 1, id="7B"),
        pytest.param({"multi_query": False}, 71, id="1B: a pair for each"),
        pytest.param({"new_decoder_architecture": True, "num_kv_heads": 8}, 8, id="40B"),
        pytest.param({"new_decoder_architecture": True}, 71, id="40B, not told"),
    ],
)
def test_falcon(tmp_path: Path, keys: dict[str, Any], heads: int) -> None:
    """One KV head serves all, unless the decoder is the new one or it is switched off."""
    assert read(write(tmp_path, **FALCON, **keys)).cache == (
        LayerCache(layers=32, kv_heads=heads, key_length=64, value_length=64),
    )


def test_a_table_that_is_the_output_layer_too(tmp_path: Path) -> None:
    """Gemma 2 9B has 9.24 billion parameters: its embeddings are counted once."""
    sizes = {
        "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
    }  # fmt: skip
    found = read(write(tmp_path, model_type="gemma2", rms_norm_eps=1e-6, **sizes))
    assert found.parameters == pytest.approx(9_241_705_984, rel=1e-4)
