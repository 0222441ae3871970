"""
Bits per weight: what a model would weigh in another quantization, and what its name makes expect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gpuctl.model import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    name: str
    bits: float  # per weight, over a whole file


#: Of GGUF files, best first. Source: llama.cpp, tools/quantize/README.md, the table of
#: Llama-3.1-8B's bits per weight; a file's own differ by a few per cent with its architecture.
_GGUF = (
    Quantization(name="Q8_0", bits=8.50),
    Quantization(name="Q6_K", bits=6.56),
    Quantization(name="Q5_K_M", bits=5.70),
    Quantization(name="Q4_K_M", bits=4.89),
    Quantization(name="IQ4_XS", bits=4.46),
    Quantization(name="Q3_K_M", bits=4.00),
    Quantization(name="Q2_K", bits=3.16),
    Quantization(name="IQ2_XS", bits=2.59),
)
#: Of what vLLM loads. AWQ: 4 bits, and a scale of 16 and a zero of 4 for every 128 weights.
_HUB = (
    Quantization(name="FP8", bits=8.0),
    Quantization(name="AWQ (4 bit)", bits=4 + 20 / 128),
)
QUANTIZATIONS = {"gguf": _GGUF, "safetensors": _HUB, "config": _HUB}

_PLAIN_BITS = 16

#: "8x7B", "70B", "1.1b", "135M", as a word of a model's name.
_SIZE = re.compile(r"(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])", re.IGNORECASE)
_UNITS = {"b": 10**9, "m": 10**6}

#: Models below this fit wherever they are put.
_LEAST_BYTES = 10**9
#: How far an estimate may be from the rule of thumb without a word about it.
_SURPRISING_RATIO = 0.05


def requantized(facts: ModelFacts, other: Quantization) -> ModelFacts | None:
    """Return the model in another quantization; `None` where the size of it cannot be told."""
    if not facts.parameters or not facts.weights_bytes:
        return None
    # What a quantization leaves alone, as embeddings, stays in 16 bits.
    plain = 1 - facts.quantized_ratio
    bits = other.bits * facts.quantized_ratio + _PLAIN_BITS * plain
    weights = int(facts.parameters * bits / 8)
    scale = weights / facts.weights_bytes
    return replace(
        facts,
        quantization=other.name,
        weights_bytes=weights,
        input_bytes=int(facts.input_bytes * scale),
        output_bytes=int(facts.output_bytes * scale),
        layer_bytes=tuple(int(each * scale) for each in facts.layer_bytes),
    )


def rule_of_thumb(facts: ModelFacts) -> int | None:
    """Return the bytes that the size in a model's name makes expect: `70B` in 4 bits are 35 GB."""
    size, bits = _named_size(facts), _named_bits(facts.quantization)
    return None if size is None or bits is None else int(size * bits / 8)


def surprise(facts: ModelFacts) -> str:
    """Return why a model weighs other than its name says, "" where it does not."""
    expected, actual = rule_of_thumb(facts), facts.weights_bytes
    size = _named_size(facts)
    if expected is None or actual is None or size is None or actual < _LEAST_BYTES:
        return ""
    if abs(actual - expected) <= _SURPRISING_RATIO * expected:
        return ""
    because = []
    if facts.parameters is not None and abs(facts.parameters - size) > _SURPRISING_RATIO * size:
        because.append(f"it has {facts.parameters / 1e9:.1f}B parameters, not {size / 1e9:g}B")
        if facts.experts:
            because.append(f"its {facts.experts} experts share everything but their feed-forward")
    if facts.parameters:
        bits = 8 * actual / facts.parameters
        because.append(f"{facts.quantization} takes {bits:.2f} bits a weight here")
    if facts.quantized_ratio < 1:
        because.append("embeddings and the output layer stay in 16 bits, and scales come on top")
    told = f"the rule of thumb ({size / 1e9:g}B) says {expected / 1e9:.1f} GB"
    return f"{told}, the weights are {actual / 1e9:.1f} GB: {'; '.join(because)}".rstrip(": ")


def _named_size(facts: ModelFacts) -> float | None:
    """Return the parameters that a name tells, of the file or directory if not of the model."""
    for name in (facts.name, facts.source.rstrip("/").rpartition("/")[2]):
        if found := _SIZE.search(name):
            return int(found[1] or 1) * float(found[2]) * _UNITS[found[3].lower()]
    return None


def _named_bits(quantization: str) -> int | None:
    """Return the bits that a quantization is called by: 4 of Q4_K_M, AWQ and int4; 16 of bf16."""
    name = quantization.lower()
    if found := re.search(r"(?:q|iq|int|fp|tq|f)(\d{1,2})(?![0-9])", name):
        return int(found[1])
    return 4 if name.startswith(("awq", "gptq")) else None
