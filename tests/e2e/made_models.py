"""GGUF files with random weights, of several architectures: small, and large enough to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

#: Whose words the made models speak: every key of its tokenizer is copied.
TOKENIZER = "tokenizer."


class Maker:
    """A GGUF file in the making: a tokenizer that is another's, and weights that mean nothing."""

    def __init__(self, path: Path, architecture: str, tokenizer: gguf.GGUFReader) -> None:
        self._writer = gguf.GGUFWriter(path, architecture)
        self._architecture = architecture
        self._random = np.random.default_rng(7)
        for name, field in tokenizer.fields.items():
            if name.startswith(TOKENIZER) and name != "tokenizer.chat_template":
                inner = field.types[1] if len(field.types) > 1 else None
                self._writer.add_key_value(name, field.contents(), field.types[0], inner)
        self.words = len(tokenizer.fields["tokenizer.ggml.tokens"].data)

    def keys(self, numbers: Mapping[str, int | float | list[bool]]) -> None:
        for name, value in numbers.items():
            key = f"{self._architecture}.{name}"
            if isinstance(value, list):
                self._writer.add_array(key, value)
            elif isinstance(value, float):
                self._writer.add_float32(key, value)
            else:
                self._writer.add_uint32(key, value)

    def tensor(self, name: str, *shape: int, kind: Any = None) -> None:
        """Add a tensor, its longest-running dimension last: 16 bits, and a vector in 32."""
        kind = kind or (np.float16 if len(shape) > 1 else np.float32)
        self._writer.add_tensor(name, (self._random.random(shape) * 0.02 - 0.01).astype(kind))

    def close(self) -> None:
        self._writer.write_header_to_file()
        self._writer.write_kv_data_to_file()
        self._writer.write_tensors_to_file()
        self._writer.close()


def qwen2(path: Path, tokenizer: gguf.GGUFReader) -> None:
    """A KV head for two queries, with biases, and an output layer of its own."""
    made = Maker(path, "qwen2", tokenizer)
    width, ahead, layers, heads, kv_heads, head = 512, 1024, 16, 8, 4, 64
    made.keys(_sizes(width, ahead, layers, heads, kv_heads))
    made.keys({"attention.key_length": head, "attention.value_length": head})
    made.tensor("token_embd.weight", made.words, width)
    made.tensor("output.weight", made.words, width)
    made.tensor("output_norm.weight", width)
    for index in range(layers):
        at, wide, narrow = f"blk.{index}.", head * heads, head * kv_heads
        _attention(made, at, width, wide, narrow)
        for name, size in (("q", wide), ("k", narrow), ("v", narrow)):
            made.tensor(f"{at}attn_{name}.bias", size)
        _forward(made, at, width, ahead)
    made.close()


def gemma3(path: Path, tokenizer: gguf.GGUFReader) -> None:
    """Five layers of six look back 512 tokens; the embeddings are the output layer as well."""
    made = Maker(path, "gemma3", tokenizer)
    width, ahead, layers, heads, kv_heads, head = 640, 1024, 12, 8, 8, 256
    made.keys(_sizes(width, ahead, layers, heads, kv_heads))
    made.keys(
        {
            "attention.key_length": head,
            "attention.value_length": head,
            "attention.sliding_window": 512,
        }
    )
    made.tensor("token_embd.weight", made.words, width)
    made.tensor("output_norm.weight", width)
    for index in range(layers):
        at = f"blk.{index}."
        _attention(made, at, width, heads * head, kv_heads * head)
        for name, size in (("attn_q_norm", head), ("attn_k_norm", head)):
            made.tensor(f"{at}{name}.weight", size)
        for name in ("post_attention_norm", "post_ffw_norm"):
            made.tensor(f"{at}{name}.weight", width)
        _forward(made, at, width, ahead)
    made.close()


def falcon_h1(path: Path, tokenizer: gguf.GGUFReader) -> None:
    """Every layer attends, and keeps a state of fixed size beside it."""
    made = Maker(path, "falcon-h1", tokenizer)
    width, ahead, layers, heads, kv_heads, head = 512, 1024, 8, 8, 8, 64
    inner, state, groups, ssm_heads, kernel = 1024, 128, 1, 16, 4
    made.keys(_sizes(width, ahead, layers, heads, kv_heads))
    made.keys(
        {
            "attention.key_length": head,
            "attention.value_length": head,
            "ssm.conv_kernel": kernel,
            "ssm.inner_size": inner,
            "ssm.state_size": state,
            "ssm.time_step_rank": ssm_heads,
            "ssm.group_count": groups,
        }
    )
    made.tensor("token_embd.weight", made.words, width)
    made.tensor("output_norm.weight", width)
    convolved = inner + 2 * groups * state
    for index in range(layers):
        at = f"blk.{index}."
        _attention(made, at, width, heads * head, kv_heads * head)
        made.tensor(f"{at}ssm_in.weight", 2 * inner + 2 * groups * state + ssm_heads, width)
        made.tensor(f"{at}ssm_conv1d.weight", convolved, kernel, kind=np.float32)
        made.tensor(f"{at}ssm_conv1d.bias", convolved)
        made.tensor(f"{at}ssm_dt.bias", ssm_heads)
        made.tensor(f"{at}ssm_a", ssm_heads, 1, kind=np.float32)
        made.tensor(f"{at}ssm_d", ssm_heads, 1, kind=np.float32)
        made.tensor(f"{at}ssm_norm.weight", groups, inner // groups, kind=np.float32)
        made.tensor(f"{at}ssm_out.weight", width, inner)
        # Its loader asks for this one without the ending that all others have.
        _forward(made, at, width, ahead, norm="ffn_norm")
    made.close()


def least(path: Path, tokenizer: gguf.GGUFReader) -> None:
    """One layer of next to nothing: what the server takes with it, it takes for itself."""
    made = Maker(path, "qwen2", tokenizer)
    width, heads = 32, 1
    made.keys(_sizes(width, width, 1, heads, heads))
    made.tensor("token_embd.weight", made.words, width)
    made.tensor("output_norm.weight", width)
    _attention(made, "blk.0.", width, width, width)
    for name in ("q", "k", "v"):
        made.tensor(f"blk.0.attn_{name}.bias", width)
    _forward(made, "blk.0.", width, width)
    made.close()


MAKERS: Mapping[str, Callable[[Path, gguf.GGUFReader], None]] = {
    "qwen2": qwen2,
    "gemma3": gemma3,
    "falcon-h1": falcon_h1,
}


def _sizes(
    width: int, ahead: int, layers: int, heads: int, kv_heads: int
) -> Mapping[str, int | float]:
    return {
        "context_length": 32768,
        "embedding_length": width,
        "feed_forward_length": ahead,
        "block_count": layers,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 10000.0,
    }


def _attention(made: Maker, at: str, width: int, queries: int, keys: int) -> None:
    made.tensor(f"{at}attn_norm.weight", width)
    made.tensor(f"{at}attn_q.weight", queries, width)
    made.tensor(f"{at}attn_k.weight", keys, width)
    made.tensor(f"{at}attn_v.weight", keys, width)
    made.tensor(f"{at}attn_output.weight", width, queries)


def _forward(made: Maker, at: str, width: int, ahead: int, norm: str = "ffn_norm.weight") -> None:
    made.tensor(f"{at}{norm}", width)
    made.tensor(f"{at}ffn_gate.weight", ahead, width)
    made.tensor(f"{at}ffn_up.weight", ahead, width)
    made.tensor(f"{at}ffn_down.weight", width, ahead)
