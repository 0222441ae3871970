"""
What a model takes of memory, whoever runs it: ModelFacts in, bytes and their reasons out. PURE.

Engines ask it for their `memory`, planning for what would fit instead, and the header readers for
the bytes of a tensor.
"""

from gpuctl.sizing.llama import LlamaRun, llama_cpp
from gpuctl.sizing.quantization import (
    QUANTIZATIONS,
    Quantization,
    requantized,
    rule_of_thumb,
    surprise,
)
from gpuctl.sizing.tensors import TENSOR_TYPES, TensorType

__all__ = [
    "QUANTIZATIONS",
    "TENSOR_TYPES",
    "LlamaRun",
    "Quantization",
    "TensorType",
    "llama_cpp",
    "requantized",
    "rule_of_thumb",
    "surprise",
]
