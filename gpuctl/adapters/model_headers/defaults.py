"""
What a config.json leaves out: the values that transformers takes in its place, by model type.

Those that decide over the KV cache, and the sizes of models that publish their text's config as a
difference from these. Source: transformers 5.19, src/transformers/models/*/configuration_*.py: the
fields of the class with that `model_type`, and its `__post_init__`.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A layer in so many looks at everything, the others through a window; 0: all through a window.
PATTERN = "sliding_window_pattern"

_QWEN = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_GEMMA = {"tie_word_embeddings": True, "sliding_window": 4096}

#: By `model_type`, without its "_text".
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma": {"tie_word_embeddings": True},
    "gemma2": {**_GEMMA, PATTERN: 2},
    "vaultgemma": {**_GEMMA, PATTERN: 2},
    "gemma3": {
        **_GEMMA, PATTERN: 6, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "max_position_embeddings": 131_072, "vocab_size": 262_208,
    },
    "gemma3n": {
        **_GEMMA, PATTERN: 5, "sliding_window": 512, "num_kv_shared_layers": 15,
        "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 35,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
        "max_position_embeddings": 32_768, "vocab_size": 262_400,
    },
    "gemma4": {
        **_GEMMA, PATTERN: 6, "sliding_window": 512, "global_head_dim": 512,
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131_072, "vocab_size": 262_144,
    },
    "llama4": {
        "attention_chunk_size": 8192, "no_rope_layer_interval": 4, "hidden_size": 5120,
        "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 40,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072,
        "vocab_size": 202_048, "num_local_experts": 16, "num_experts_per_tok": 1,
    },
    "cohere2": {"sliding_window": 4096, PATTERN: 4},
    "exaone4": {"sliding_window": 4096, PATTERN: 4},
    "olmo3": {"sliding_window": 4096, PATTERN: 4},
    "gpt_oss": {"sliding_window": 128, PATTERN: 2, "head_dim": 64, "num_key_value_heads": 8},
    "mistral": {"sliding_window": 4096, PATTERN: 0},
    "ministral": {"sliding_window": 4096, PATTERN: 0},
    # These have no window by themselves, and look through one everywhere where they are given it.
    "ministral3": {PATTERN: 0}, "mixtral": {PATTERN: 0}, "starcoder2": {PATTERN: 0},
    "phi3": {PATTERN: 0}, "phimoe": {PATTERN: 0}, "phi4_multimodal": {PATTERN: 0},
    "qwen2": _QWEN, "qwen3": _QWEN,
    "qwen2_vl": {**_QWEN, "max_window_layers": 80},
    "qwen2_5_vl": {**_QWEN, "max_window_layers": 80},
    "qwen3_moe": {"use_sliding_window": False, "sliding_window": 4096, PATTERN: 0},
    "falcon": {"multi_query": True},
}  # fmt: skip
