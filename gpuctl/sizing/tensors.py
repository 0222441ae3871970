"""How ggml stores numbers: the types of a GGUF file's tensors, and of llama.cpp's caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """How ggml stores numbers: so many in a block of so many bytes."""

    name: str
    elements: int
    block_bytes: int

    def bytes_of(self, elements: int) -> int:
        """Return the bytes of a row; a block that is begun counts whole."""
        return -(-elements // self.elements) * self.block_bytes


def _types(table: str) -> Mapping[int, TensorType]:
    rows = (line.split() for line in table.strip().splitlines())
    return {
        int(number): TensorType(name=name, elements=int(elements), block_bytes=int(size))
        for number, name, elements, size in rows
    }


#: By their number in a GGUF file: numbers in a block, bytes of a block.
#: Source: llama.cpp, ggml/include/ggml.h (enum ggml_type) and ggml/src/ggml-common.h (the blocks).
TENSOR_TYPES = _types("""
    0 f32 1 4
    1 f16 1 2
    2 q4_0 32 18
    3 q4_1 32 20
    6 q5_0 32 22
    7 q5_1 32 24
    8 q8_0 32 34
    9 q8_1 32 40
    10 q2_K 256 84
    11 q3_K 256 110
    12 q4_K 256 144
    13 q5_K 256 176
    14 q6_K 256 210
    15 q8_K 256 292
    16 iq2_xxs 256 66
    17 iq2_xs 256 74
    18 iq3_xxs 256 98
    19 iq1_s 256 50
    20 iq4_nl 32 18
    21 iq3_s 256 110
    22 iq2_s 256 82
    23 iq4_xs 256 136
    24 i8 1 1
    25 i16 1 2
    26 i32 1 4
    27 i64 1 8
    28 f64 1 8
    29 iq1_m 256 56
    30 bf16 1 2
    34 tq1_0 256 54
    35 tq2_0 256 66
    39 mxfp4 32 17
    40 nvfp4 64 36
    41 q1_0 128 18
""")
BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}
