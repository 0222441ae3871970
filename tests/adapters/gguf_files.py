"""GGUF files of a few kilobytes, written with the reference library, for tests of the reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

LLAMA: Mapping[str, Any] = {
    "block_count": 4,
    "context_length": 2048,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
}


def write(
    path: Path,
    architecture: str = "llama",
    *,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    kind: gguf.GGMLQuantizationType | None = None,
    words: int = 0,
    **keys: Any,
) -> Path:
    """Write a file; *keys* stand above those of a small Llama, with `__` for a dot."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny 7B")
    if words:
        writer.add_token_list([f"word {index}" for index in range(words)])
    for name, value in {**LLAMA, **{k.replace("__", "."): v for k, v in keys.items()}}.items():
        _add(writer, f"{architecture}.{name}", value)
    for name, shape in (tensors or {"token_embd.weight": (32, 64)}).items():
        if kind is None:
            writer.add_tensor(name, np.zeros(shape, dtype=np.float16))
        else:
            block, size = gguf.GGML_QUANT_SIZES[kind]
            raw = np.zeros((shape[0], shape[1] // block * size), dtype=np.uint8)
            writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
