"""Model directories as a hub has them: a config, and safetensors of a few bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def config(path: Path, **keys: Any) -> Path:
    """Write the config of a Llama 3 70B, with these keys above its own."""
    path.mkdir(parents=True, exist_ok=True)
    found = {
        "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(found | keys))
    return path


def tensors(path: Path, sizes: dict[str, int]) -> Path:
    """Write a safetensors file whose tensors have these bytes."""
    described, at = {}, 0
    for name, size in sizes.items():
        described[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [at, at + size]}
        at += size
    document = json.dumps({"__metadata__": {"format": "pt"}, **described}).encode()
    path.write_bytes(struct.pack("<Q", len(document)) + document + bytes(at))
    return path
