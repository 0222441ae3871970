"""The smallest GGUF file that is one: a few metadata and tensors of zeros."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

_F32, _Q8_0 = 0, 8
#: Numbers and bytes of a block. Source: ggml-common.h.
_BLOCK = {_F32: (1, 4), _Q8_0: (32, 34)}

LLAMA: Mapping[str, str | int | list[str]] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.license": "mit",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.ggml.tokens": ["a", "b"],
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}
#: name → shape and type
TENSORS: Mapping[str, tuple[tuple[int, int], int]] = {
    "token_embd.weight": ((64, 2), _F32),
    "blk.0.ffn_up.weight": ((64, 128), _Q8_0),
    "blk.1.ffn_up.weight": ((64, 128), _Q8_0),
    "output.weight": ((64, 2), _F32),
}


def write(path: Path, metadata: Mapping[str, str | int | list[str]] = LLAMA) -> Path:
    """Write a model; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(TENSORS), len(metadata))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    data = b""
    for name, (shape, kind) in TENSORS.items():
        head += _text(name) + struct.pack("<I2QIQ", 2, *shape, kind, len(data))
        numbers, size = _BLOCK[kind]
        data += bytes(shape[0] * shape[1] // numbers * size)
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value: str | int | list[str]) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
