"""
A Hugging Face model directory: its config.json, and what its safetensors weigh.

Source: https://huggingface.co/docs/transformers/main_classes/configuration; the quantizations:
https://huggingface.co/docs/transformers/main_classes/quantization
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuctl.adapters.model_headers import safetensors
from gpuctl.adapters.model_headers.defaults import DEFAULTS, PATTERN
from gpuctl.adapters.model_headers.head import MOST_LAYERS, MOST_NUMBER, believable
from gpuctl.model import LayerCache, ModelFacts

CONFIG = "config.json"

_DTYPE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
_DTYPE_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
#: layer_types of a config; whatever else it names keeps a state of its own.
_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
#: Other words for a layer that keeps every token. Source: vLLM 0.32, vllm/config/model.py, and for
#: "attention" the configs of hybrids in transformers 5.19.
_KEEPS_ALL = frozenset(
    {"attention", "indexed_attention", "deepseek_sparse_attention", "qwen_sparse_attention"}
)


def facts(directory: Path, *, name: str = "") -> ModelFacts:
    """
    Return what a model directory says; of *name*, where the directory is called otherwise.

    Raises:
        GpuctlError: its config is missing or no config, or a part of it is not there.
    """
    config = Config(found=safetensors.parsed(directory / CONFIG), path=directory / CONFIG)
    weights = safetensors.of_directory(directory)
    blocks = config.number("num_hidden_layers")
    counted = _parameters(config)
    bits, quantization = _quantization(config)
    estimated = None
    if counted is not None and bits is not None:
        estimated = int((counted.linear * bits + counted.plain * config.dtype_bits) / 8)
    parameters = counted.total if counted is not None else None
    if parameters is None and weights is not None and not config.quantized:
        parameters = weights.bytes * 8 // config.dtype_bits
    ratio = counted.linear / counted.total if counted is not None and counted.total else 1.0
    return ModelFacts(
        source=str(directory),
        format="safetensors" if weights is not None else "config",
        architecture=config.text("model_type"),
        name=name or config.text("_name_or_path"),
        quantization=quantization,
        parameters=parameters,
        weights_bytes=weights.bytes if weights is not None else estimated,
        blocks=blocks,
        embedding_length=config.number("hidden_size"),
        feed_forward_length=config.number("intermediate_size"),
        heads=config.number("num_attention_heads"),
        vocabulary=config.number("vocab_size"),
        context_max=config.number("max_position_embeddings"),
        cache=tuple(_cache(config)),
        experts=config.experts,
        experts_used=config.number("num_experts_per_tok"),
        expert_length=config.number("moe_intermediate_size") or config.number("intermediate_size"),
        parts=len(weights.files) if weights is not None else 1,
        files=weights.files if weights is not None else (),
        notes=weights.notes if weights is not None else (),
        quantized_ratio=ratio,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config.json; what a model for pictures and text says of its text stands one level down."""

    found: Mapping[str, Any]
    path: Path

    def value(self, key: str) -> Any:
        """Return what is told, or the model type's own where nothing is: `null` is told too."""
        told = self._told(key)
        if told:
            return next((value for value in told if value is not None), None)
        return self.defaults.get(key)

    def text(self, key: str) -> str:
        """Return a name that is told, "" where none is."""
        return next((value for value in self._told(key) if value and isinstance(value, str)), "")

    def number(self, key: str) -> int | None:
        found = self.value(key)
        if isinstance(found, bool) or not isinstance(found, int):
            return None
        most = MOST_LAYERS if key == "num_hidden_layers" else MOST_NUMBER
        return believable(found, key, self.path, most)

    @property
    def defaults(self) -> Mapping[str, int]:
        return DEFAULTS.get(self.text("model_type").removesuffix("_text"), {})

    def _told(self, key: str) -> list[Any]:
        inner = self.found.get("text_config")
        levels = (inner, self.found) if isinstance(inner, dict) else (self.found,)
        return [level[key] for level in levels if key in level]

    @property
    def quantized(self) -> Mapping[str, Any]:
        found = self.value("quantization_config")
        return found if isinstance(found, dict) else {}

    @property
    def dtype_bits(self) -> int:
        return _DTYPE_BITS.get(self.dtype, 16)

    @property
    def dtype(self) -> str:
        return self.text("dtype") or self.text("torch_dtype") or "bfloat16"

    @property
    def experts(self) -> int | None:
        keys = ("num_local_experts", "num_experts", "n_routed_experts")
        return next((n for n in map(self.number, keys) if n), None)

    @property
    def head_dim(self) -> int:
        own = (self.number("hidden_size") or 0) // max(1, self.number("num_attention_heads") or 1)
        return self.number("head_dim") or own

    @property
    def kv_heads(self) -> int:
        # Of Falcon's. Source: transformers 5.19, modeling_falcon.py, FalconAttention.
        if self.value("multi_query") is True and not self.value("new_decoder_architecture"):
            return 1
        keys = ("num_key_value_heads", "num_kv_heads", "num_attention_heads")
        return next((n for n in map(self.number, keys) if n), 0)

    @property
    def window(self) -> int | None:
        """The tokens that a layer with a window looks back; `None`: no window is in use."""
        if self.value("use_sliding_window") is False:
            return None
        return self.number("sliding_window") or None


def _cache(config: Config) -> Iterator[LayerCache]:
    """Yield the layers that cache alike as one, in the order in which the first of each comes."""
    alike: Counter[LayerCache] = Counter()
    for kind, count in Counter(_kinds(config)).items():
        if (layer := _layer(config, kind)) is not None:
            alike[layer] += count
    for layer, count in alike.items():
        yield replace(layer, layers=count)


def _layer(config: Config, kind: str) -> LayerCache | None:
    """Return what one layer of a kind keeps; `None` where nothing tells."""
    if latent := config.number("kv_lora_rank"):
        # One latent of all heads, and the part of the keys that carries the position.
        rope = config.number("qk_rope_head_dim") or 0
        return LayerCache(layers=1, kv_heads=1, key_length=latent + rope)
    heads, length, window = config.kv_heads, config.head_dim, None
    if kind == _SLIDING:
        window = config.window
    elif kind == _CHUNKED:
        window = config.number("attention_chunk_size") or None
    elif kind == _FULL or kind in _KEEPS_ALL:
        # Of Gemma 4's. Source: transformers 5.19, configuration_gemma4.py.
        length = config.number("global_head_dim") or length
        if config.value("attention_k_eq_v") is True:
            heads = config.number("num_global_key_value_heads") or heads
    else:
        state = _state_bytes(config)
        return LayerCache(layers=1, state_bytes=state) if state else None
    return LayerCache(
        layers=1, kv_heads=heads, key_length=length, value_length=length, window=window
    )


def _kinds(config: Config) -> Sequence[str]:
    """Return what each layer is that has a cache of its own, in order."""
    count = config.number("num_hidden_layers") or 0
    told = config.value("layer_types")
    if isinstance(told, list) and len(told) == count:
        kinds = [kind if isinstance(kind, str) else "" for kind in told]
    else:
        kinds = _untold(config, count)
    # The last ones use the cache of an earlier one.
    return kinds[: max(0, count - (config.number("num_kv_shared_layers") or 0))]


def _untold(config: Config, count: int) -> list[str]:
    """Return what the layers are where only their model's type and a window or a pattern tell."""
    if interval := config.number("no_rope_layer_interval"):
        told = config.value("no_rope_layers")
        if isinstance(told, list) and len(told) == count:
            return [_CHUNKED if entry else _FULL for entry in told]
        return [_FULL if (i + 1) % interval == 0 else _CHUNKED for i in range(count)]
    if config.window is None:
        return [_FULL] * count
    if "max_window_layers" in config.defaults:
        first = config.number("max_window_layers") or 0
        return [_SLIDING if i >= first else _FULL for i in range(count)]
    period = config.number(PATTERN)
    if period is None:
        return [_FULL] * count
    return [_FULL if period and (i + 1) % period == 0 else _SLIDING for i in range(count)]


def _state_bytes(config: Config) -> int:
    """Return the state of a layer of linear attention, in the cache's 16 bits and in 32."""
    heads, key = config.number("linear_num_value_heads"), config.number("linear_key_head_dim")
    value = config.number("linear_value_head_dim")
    if not heads or not key or not value:
        return 0
    width = 2 * (config.number("linear_num_key_heads") or 0) * key + heads * value
    return 4 * heads * key * value + 2 * width * (config.number("linear_conv_kernel_dim") or 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    linear: int  # parameters that a quantization is for
    plain: int  # embeddings, output layer, norms, routers

    @property
    def total(self) -> int:
        return self.linear + self.plain


def _parameters(config: Config) -> _Counted | None:
    """
    Count the parameters of a decoder with gated feed-forwards, as Llama's and its many kin.

    `None` for another kind: its config has no RMS norm, or lacks a size.
    """
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, layers, heads, vocabulary = map(config.number, names)
    ahead = config.number("intermediate_size")
    if config.value("rms_norm_eps") is None:
        return None
    if not (hidden and layers and heads and vocabulary and ahead):
        return None
    experts = config.experts or 0
    dense = min(config.number("first_k_dense_replace") or 0, layers) if experts else layers
    mixture = (config.number("moe_intermediate_size") or ahead) * experts
    shared = (config.number("n_shared_experts") or 0) * (
        config.number("moe_intermediate_size") or 0
    )
    attention = _attention(config, hidden, heads)
    linear = layers * attention + 3 * hidden * (
        dense * ahead + (layers - dense) * (mixture + shared)
    )
    tables = 1 if config.value("tie_word_embeddings") else 2
    norms = hidden * (2 * layers + 1) + hidden * experts * (layers - dense)
    return _Counted(linear=linear, plain=tables * vocabulary * hidden + norms)


def _attention(config: Config, hidden: int, heads: int) -> int:
    latent = config.number("kv_lora_rank")
    if not latent:
        return 2 * hidden * config.head_dim * (heads + config.kv_heads)
    rope, plain = config.number("qk_rope_head_dim") or 0, config.number("qk_nope_head_dim") or 0
    value, rank = config.number("v_head_dim") or 0, config.number("q_lora_rank")
    query = heads * (plain + rope)
    asked = rank * (hidden + query) if rank else hidden * query
    return (
        asked + hidden * (latent + rope) + latent * heads * (plain + value) + heads * value * hidden
    )


def _quantization(config: Config) -> tuple[float | None, str]:
    """Return the bits of a quantized weight with its share of the scales, and what it is called."""
    told = config.quantized
    method = str(told.get("quant_method") or "")
    if not told:
        return config.dtype_bits, _DTYPE_NAMES.get(config.dtype, config.dtype)
    bits, group = told.get("bits"), told.get("group_size")
    if method in ("awq", "gptq") and isinstance(bits, int) and 0 < bits <= 16:
        size = group if isinstance(group, int) and group > 0 else hidden_or(config)
        return bits + (16 + bits) / size, f"{method} int{bits}"
    if method == "bitsandbytes":
        four = bool(told.get("load_in_4bit"))
        # A scale of 32 bits for each 64 weights of 4.
        return (4.5, "bitsandbytes int4") if four else (8.0, "bitsandbytes int8")
    if method in ("fp8", "fbgemm_fp8", "modelopt"):
        return 8.0, "fp8"
    if method == "mxfp4":
        return 4.25, "mxfp4"
    return None, method


def hidden_or(config: Config) -> int:
    """Return the weights that share a scale where there is one a row."""
    return max(1, config.number("hidden_size") or 1)
