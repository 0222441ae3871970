"""What a model's own files say of it: `adapters.model_headers` reads it, `planning` uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """A run of layers that cache alike: what each keeps of every token it has seen."""

    layers: int
    kv_heads: int = 0
    key_length: int = 0  # of one head
    value_length: int = 0
    window: int | None = None  # tokens it looks back, and so keeps; None: all of them
    state_bytes: int = 0  # recurrent layers: kept once a sequence, whatever its length


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The headers of a GGUF file, or `config.json` and the index of a safetensors directory."""

    source: str  # the file or directory
    format: Literal["gguf", "safetensors", "config"]
    architecture: str  # llama, qwen2, gemma3 …
    name: str = ""
    quantization: str = ""  # Q4_K_M, bf16, awq int4 …
    parameters: int | None = None
    weights_bytes: int | None = None  # of all tensors, as they lie in the file
    input_bytes: int = 0  # of these, the token embeddings: llama.cpp keeps them in host RAM
    output_bytes: int = 0  # of these, the output layer, where it has tensors of its own
    layer_bytes: tuple[int, ...] = ()  # of these, each repeating layer's, in order; () is not known
    blocks: int | None = None  # repeating layers, whether they cache or not
    embedding_length: int | None = None
    feed_forward_length: int | None = None
    heads: int | None = None
    vocabulary: int | None = None
    context_max: int | None = None  # tokens it was made for
    cache: tuple[LayerCache, ...] = ()
    experts: int | None = None  # in all, of a mixture
    experts_used: int | None = None  # for one token
    expert_length: int | None = None  # the feed-forward length of one
    quantized_ratio: float = 1.0  # of the parameters, those that the quantization holds for
    #: A file in several parts: how many, this one included, and whether all of them are there.
    parts: int = 1
    files: tuple[str, ...] = ()  # all of them, in order
    notes: tuple[str, ...] = ()  # what its files say and do not hold
