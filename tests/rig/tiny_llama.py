"""
A Llama of two layers with random weights, as a directory that vLLM loads: 0.6 MB, no download.

Source: https://huggingface.co/docs/safetensors for the file, transformers' LlamaConfig for the
names, and the byte-level alphabet of GPT-2's tokenizer.
"""

from __future__ import annotations

import array
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

HIDDEN, FEED_FORWARD, LAYERS, HEADS, VOCABULARY = 64, 128, 2, 2, 512
BEGIN, END = 256, 257  # tokens beyond the 256 bytes

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HIDDEN // HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "torch_dtype": "float32",
    "tie_word_embeddings": False,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
}


def write(folder: Path) -> Path:
    """Write the model into *folder*, which is made; return it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<s>",
                "eos_token": "</s>",
            }
        )
    )
    _write_weights(folder / "model.safetensors")
    return folder


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        inside = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{inside}.self_attn.{name}.weight", (HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            yield f"{inside}.mlp.{name}.weight", (FEED_FORWARD, HIDDEN)
        yield f"{inside}.mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{inside}.{name}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _write_weights(path: Path) -> None:
    chance = random.Random(0)
    header: dict[str, object] = {}
    data = array.array("f")
    for name, shape in _shapes():
        begin = 4 * len(data)
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        data.extend(chance.gauss(0.0, 0.1) for _ in range(size))
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": (begin, 4 * len(data)),
        }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data.tobytes())


def _tokenizer() -> dict[str, object]:
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    pieces = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": BEGIN, "content": "<s>", "special": True, **special},
            {"id": END, "content": "</s>", "special": True, **special},
        ],
        "pre_tokenizer": pieces | {"add_prefix_space": False},
        "decoder": pieces | {"add_prefix_space": True},
        "model": {"type": "BPE", "vocab": _vocabulary(), "merges": []},
    }


def _vocabulary() -> dict[str, int]:
    """Return each byte's own character, or one beyond Latin-1 for those that cannot be seen."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    unseen = iter(range(256, 512))
    characters = (chr(byte if byte in seen else next(unseen)) for byte in range(256))
    return {character: byte for byte, character in enumerate(characters)} | {
        "<s>": BEGIN,
        "</s>": END,
    }
