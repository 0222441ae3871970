"""
What the metadata of a GGUF file means for memory: which layers cache what, and what lies where.

Source: llama.cpp, src/llama-model.cpp (load_hparams) and src/llama-hparams.cpp; the names of the
keys: gguf-py/gguf/constants.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from gpuctl.adapters.model_headers.gguf import Gguf, PassedOver, Tensor, Value
from gpuctl.adapters.model_headers.head import MOST_LAYERS, MOST_NUMBER, believable
from gpuctl.errors import GpuctlError
from gpuctl.model import LayerCache, ModelFacts
from gpuctl.sizing import TENSOR_TYPES

#: Of so many layers, one looks at everything, and the others through a window, where the file does
#: not say so itself. Other architectures have a window in their files and no use for it.
_WINDOW_PATTERN = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "olmo2": 4,
    "exaone4": 4, "llama4": 4, "smallthinker": 4, "afmoe": 4, "plamo3": 8,
}  # fmt: skip
#: The one that looks at everything comes first, not last.
_DENSE_FIRST = frozenset({"smallthinker"})
#: llama4 attends in chunks of this length, whatever its file says.
_CHUNKS = {"llama4": 8192}
#: Every layer is recurrent; of these, every layer attends as well.
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_BOTH = frozenset({"falcon-h1"})
#: Layers without KV heads are recurrent.
_BY_HEADS = frozenset(
    {"jamba", "granitehybrid", "nemotron_h", "nemotron_h_moe", "plamo2", "lfm2", "lfm2moe",
     "kimi-linear"}
)  # fmt: skip
#: Every fourth layer attends, the others are recurrent, where the file does not say how many.
_INTERVAL = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
#: The last layers use the cache of an earlier one, where the file does not say how many.
_SHARED = {"gemma3n": 15}
#: They keep nothing of a token: each text is read at once.
_ENCODERS = ("bert", "nomic-bert", "jina-bert", "neo-bert", "modern-bert", "gemma-embedding")

#: Sizes by name, as `general.file_type` has it. Source: llama.h, enum llama_ftype.
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip

#: Looked up a row at a time, on the host. Source: llama-arch.cpp, LLM_TENSOR_LAYER_INPUT.
_INPUTS = frozenset({"token_embd", "per_layer_token_embd", "token_types", "position_embd"})
_OUTPUTS = frozenset({"output", "output_norm"})
#: Every key begins with it. Source: llama-arch.cpp, LLM_ARCH_NAMES: the longest has 16.
_MOST_LETTERS = 256


def facts(file: Gguf, source: str) -> ModelFacts:
    """
    Return what a GGUF file says of its model.

    Raises:
        GpuctlError: it says what no model has.
    """
    keys = Keys(metadata=file.metadata, source=source)
    if len(keys.architecture) > _MOST_LETTERS:
        raise GpuctlError(
            f"{source}: general.architecture has {len(keys.architecture)} letters",
            "download the file again, or look at it with another tool",
        )
    tied = not any(tensor.name == "output.weight" for tensor in file.tensors)
    inputs = [t for t in file.tensors if t.name.partition(".")[0] in _INPUTS]
    # Where it is the output layer as well, a second copy of it goes to the GPU.
    twice = [t for t in inputs if tied and t.name == "token_embd.weight"]
    output = [t for t in file.tensors if t.name.partition(".")[0] in _OUTPUTS]
    return ModelFacts(
        source=source,
        format="gguf",
        architecture=keys.architecture,
        name=keys.text("general.name"),
        quantization=_quantization(file),
        parameters=sum(tensor.elements for tensor in file.tensors),
        weights_bytes=_bytes(file.tensors),
        input_bytes=_bytes(inputs) - _bytes(twice),
        output_bytes=_bytes(output) + _bytes(twice),
        layer_bytes=_layer_bytes(file, keys.number("block_count") or 0),
        blocks=keys.number("block_count"),
        embedding_length=keys.number("embedding_length"),
        feed_forward_length=max(keys.each("feed_forward_length"), default=None),
        heads=max(keys.each("attention.head_count"), default=None),
        vocabulary=_vocabulary(file, keys),
        context_max=keys.number("context_length"),
        cache=tuple(_merged(_layers(keys))),
        experts=keys.number("expert_count"),
        experts_used=keys.number("expert_used_count"),
        expert_length=keys.number("expert_feed_forward_length")
        or keys.number("feed_forward_length"),
        parts=len(file.files),
        files=file.files,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The metadata under the architecture's own prefix."""

    metadata: Mapping[str, Value]
    source: str = ""  # the file, for what is wrong in it

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def value(self, key: str) -> Value | None:
        return self.metadata.get(f"{self.architecture}.{key}")

    def text(self, key: str) -> str:
        found = self.metadata.get(key)
        return found if isinstance(found, str) else ""

    def number(self, key: str) -> int | None:
        found = self.value(key)
        if isinstance(found, bool) or not isinstance(found, int):
            return None
        return self._believable(key, found)

    def each(self, key: str) -> tuple[int, ...]:
        """Return one number a layer: a list's own, or the same one for all."""
        found = self.value(key)
        if isinstance(found, tuple):
            return tuple(self._believable(key, int(e)) for e in found if isinstance(e, int))
        told = self.number(key)
        return () if told is None else (told,) * (self.number("block_count") or 1)

    def _believable(self, key: str, found: int) -> int:
        most = MOST_LAYERS if key == "block_count" else MOST_NUMBER
        return believable(found, f"{self.architecture}.{key}", self.source, most)


def _layers(keys: Keys) -> list[LayerCache]:
    """Return what each layer keeps, one after the other."""
    if keys.architecture.startswith(_ENCODERS) or keys.value("attention.causal") is False:
        return []
    count = (keys.number("block_count") or 0) - (keys.number("nextn_predict_layers") or 0)
    heads = keys.each("attention.head_count")
    kv_heads = keys.each("attention.head_count_kv") or heads
    windowed, recurrent = _windowed(keys, count), _recurrent(keys, kv_heads, count)
    first_shared, recurrent_bytes = count - _shared(keys), _state_bytes(keys)
    found = []
    for index in range(max(0, count)):
        state = recurrent_bytes if recurrent[index] else 0
        attends = not recurrent[index] or keys.architecture in _BOTH
        if not attends or index >= first_shared or not any(kv_heads[index : index + 1]):
            found.append(LayerCache(layers=1, state_bytes=state))
            continue
        asking = heads[min(index, len(heads) - 1)] if heads else 0
        key, value = _lengths(keys, asking, kv_heads[index], swa=windowed[index])
        found.append(
            LayerCache(
                layers=1,
                kv_heads=kv_heads[index],
                key_length=key,
                value_length=value,
                window=_window(keys) if windowed[index] else None,
                state_bytes=state,
            )
        )
    return found


def _lengths(keys: Keys, heads: int, kv_heads: int, *, swa: bool) -> tuple[int, int]:
    """Return the length of a key and of a value, of one head."""
    key, value = keys.number("attention.key_length"), keys.number("attention.value_length")
    if not heads and not (key and value):
        name = f"{keys.source}: {keys.architecture}.attention.head_count"
        raise GpuctlError(f"{name} is 0 for {kv_heads} KV heads", "download the file again")
    own = (keys.number("embedding_length") or 0) // max(1, heads)
    key, value = key or own, value or own
    if keys.number("attention.key_length_mla"):
        # Of latent attention the values are a view of the keys. Source: llama_kv_cache, `has_v`.
        return key, 0
    if swa:
        key = keys.number("attention.key_length_swa") or key
        value = keys.number("attention.value_length_swa") or value
    return key, value


def _window(keys: Keys) -> int | None:
    return _CHUNKS.get(keys.architecture) or keys.number("attention.sliding_window")


def _windowed(keys: Keys, count: int) -> list[bool]:
    """Return for each layer whether it looks through a window."""
    pattern = keys.value("attention.sliding_window_pattern")
    if not _window(keys):
        return [False] * count
    if isinstance(pattern, tuple):
        return [bool(entry) for entry in pattern[:count]] + [False] * (count - len(pattern))
    period = keys.number("attention.sliding_window_pattern")
    if period is None:
        period = _WINDOW_PATTERN.get(keys.architecture)
    if period is None:
        return [False] * count
    if period == 0:
        return [True] * count
    dense = 0 if keys.architecture in _DENSE_FIRST else period - 1
    return [index % period != dense for index in range(count)]


def _recurrent(keys: Keys, kv_heads: tuple[int, ...], count: int) -> list[bool]:
    name = keys.architecture
    if name in _RECURRENT | _BOTH:
        return [True] * count
    if name in _BY_HEADS:
        return [not heads for heads in kv_heads[:count]] + [True] * (count - len(kv_heads))
    interval = keys.number("full_attention_interval") or _INTERVAL.get(name)
    if interval is None:
        return [False] * count
    return [(index + 1) % interval != 0 for index in range(count)]


def _state_bytes(keys: Keys) -> int:
    """Return the f32 state of one recurrent layer. Source: n_embd_r and n_embd_s."""
    embedding = keys.number("embedding_length") or 0
    convolved = (keys.number("ssm.conv_kernel") or 1) - 1
    if wkv := keys.number("wkv.head_size"):
        shifts = keys.number("token_shift_count") or 2
        return 4 * (shifts * embedding + embedding * wkv)
    if short := keys.number("shortconv.l_cache"):
        return 4 * embedding * (short - 1)
    if delta := keys.number("kda.head_dim"):
        heads = max(keys.each("attention.head_count"), default=0)
        return 4 * heads * (3 * (convolved or 3) * delta + delta * delta)
    state, inner = keys.number("ssm.state_size") or 0, keys.number("ssm.inner_size") or 0
    groups = keys.number("ssm.group_count") or 0
    return 4 * (convolved * (inner + 2 * groups * state) + state * inner)


def _shared(keys: Keys) -> int:
    told = keys.number("attention.shared_kv_layers")
    return _SHARED.get(keys.architecture, 0) if told is None else told


def _merged(layers: Iterable[LayerCache]) -> Iterable[LayerCache]:
    """Yield the layers that cache alike as one, in the order in which the first of each comes."""
    order: dict[LayerCache, int] = {}
    for layer in layers:
        if layer.kv_heads or layer.state_bytes:
            order[layer] = order.get(layer, 0) + 1
    for layer, count in order.items():
        yield LayerCache(
            layers=count,
            kv_heads=layer.kv_heads,
            key_length=layer.key_length,
            value_length=layer.value_length,
            window=layer.window,
            state_bytes=layer.state_bytes,
        )


def _vocabulary(file: Gguf, keys: Keys) -> int | None:
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, PassedOver):
        return tokens.count
    if isinstance(tokens, tuple):
        return len(tokens)
    return keys.number("vocab_size")


def _quantization(file: Gguf) -> str:
    """Return what the file calls its quantization, or the type that most of its bytes have."""
    told = file.metadata.get("general.file_type")
    if isinstance(told, int) and told in _FILE_TYPES:
        return _FILE_TYPES[told]
    ordered = sorted(file.tensors, key=lambda tensor: tensor.type)
    sums = {
        kind: sum(tensor.size_bytes for tensor in same)
        for kind, same in groupby(ordered, key=lambda tensor: tensor.type)
    }
    most = max(sums, key=lambda kind: sums[kind], default=None)
    if most is None:
        return ""
    return TENSOR_TYPES[most].name.upper() if most in TENSOR_TYPES else f"type {most}"


def _layer_bytes(file: Gguf, count: int) -> tuple[int, ...]:
    """Return the bytes of each layer, none where one has no tensor of the usual name."""
    found: Counter[str] = Counter()
    for tensor in file.tensors:
        first, _, rest = tensor.name.partition(".")
        if first == "blk":
            found[rest.partition(".")[0]] += tensor.size_bytes
    each = tuple(found[str(index)] for index in range(count))
    return each if all(each) else ()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size_bytes for tensor in tensors)
