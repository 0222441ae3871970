"""
GGUF, versions 2 and 3: metadata and tensor infos of one file, or of all parts of a split one.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from gpuctl.adapters.model_headers.head import Head
from gpuctl.errors import GpuctlError, NotFound
from gpuctl.sizing import TENSOR_TYPES

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")

#: More than any file has: what claims more is damaged, or means harm.
_MOST_PAIRS = 1 << 16
_MOST_TENSORS = 1 << 16
_MOST_ENTRIES = 1 << 24  # of an array
_MOST_TEXT = 1 << 24  # bytes of one string
_MOST_NAME = 1 << 12
_MOST_DIMENSIONS = 4  # Source: ggml.h, GGML_MAX_DIMS
_MOST_ELEMENTS = 1 << 48  # of a tensor
_MOST_DEPTH = 2  # of arrays within arrays
_MOST_PARTS = 1024
_MOST_ALIGNMENT = 1 << 20
#: Longer arrays are vocabularies; those with an entry a layer are kept.
_KEPT_ENTRIES = 4096
_ENTRY_BYTES = 64  # what one takes in memory
#: Longer texts are tokenizers, of which nothing but their presence is told.
_KEPT_TEXT = 1 << 16

#: Value types by number. Source: enum gguf_metadata_value_type.
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """An array or a long text of which only the length was taken."""

    count: int


Value = int | float | str | PassedOver | tuple["Value", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    type: int
    offset: int  # in the data that follows the head
    size_bytes: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    files: tuple[str, ...]


def read(path: Path) -> Gguf:
    """
    Return what a file says of itself, and of the parts that belong to it.

    Raises:
        GpuctlError: it is no GGUF, is damaged, or is not all there.
    """
    files = parts(path)
    missing = [file for file in files if not file.exists()] if len(files) > 1 else []
    if missing:
        raise NotFound(
            f"{path}: {len(missing)} of its {len(files)} parts are missing: {missing[0].name}",
            "download all parts of it into one directory",
        )
    found = [_one(file) for file in files]
    return Gguf(
        metadata=found[0].metadata,
        tensors=tuple(tensor for one in found for tensor in one.tensors),
        files=tuple(map(str, files)),
    )


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files that a model is split into, in order; most are of one."""
    split = _SPLIT.fullmatch(path.name)
    if split is None:
        return (path,)
    count = int(split[3])
    if not 1 <= count <= _MOST_PARTS:
        raise GpuctlError(f"{path}: {count} parts are not a split model", "look at its name")
    names = (f"{split[1]}-{index:05d}-of-{split[3]}.gguf" for index in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def _one(path: Path) -> Gguf:
    try:
        with path.open("rb") as file:
            head = Head(file, path)
            metadata, infos = _head(head)
            size = path.stat().st_size
    except OSError as error:
        raise GpuctlError(
            f"{path}: {error.strerror}", "see who may read it with `ls -l`"
        ) from error
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MOST_ALIGNMENT:
        raise head.broken(f"its alignment is {alignment}")
    data = size - -(-head.at // alignment) * alignment
    return Gguf(metadata=metadata, tensors=_sized(head, infos, data), files=(str(path),))


def _head(head: Head) -> tuple[dict[str, Value], list[Tensor]]:
    if head.take(4) != _MAGIC:
        raise head.broken("it does not begin as a GGUF file does")
    version = head.take(4)
    if struct.unpack(">I", version)[0] in _VERSIONS:
        head.order = ">"
    elif struct.unpack("<I", version)[0] not in _VERSIONS:
        number = struct.unpack("<I", version)[0]
        raise head.broken(f"version {number} of GGUF is not known, only {_VERSIONS}")
    tensors = head.count("Q", "tensors", _MOST_TENSORS)
    pairs = head.count("Q", "metadata pairs", _MOST_PAIRS)
    metadata: dict[str, Value] = {}
    for _ in range(pairs):
        name = _name(head)
        metadata[name] = _value(head, int(head.number("I")), depth=0)
    return metadata, [_tensor(head) for _ in range(tensors)]


def _value(head: Head, kind: int, depth: int) -> Value:
    if kind in _NUMBERS:
        return head.number(_NUMBERS[kind])
    if kind == _TEXT:
        size = head.count("Q", "bytes of a string", _MOST_TEXT)
        if size <= _KEPT_TEXT:
            return _kept(head, size)
        head.skip(size)
        return PassedOver(count=size)
    if kind != _ARRAY:
        raise head.broken(f"value type {kind} is not known")
    if depth >= _MOST_DEPTH:
        raise head.broken("arrays within arrays within arrays")
    inner = int(head.number("I"))
    count = head.count("Q", "entries of an array", _MOST_ENTRIES)
    if count <= _KEPT_ENTRIES:
        head.keep(count * _ENTRY_BYTES)
        return tuple(_value(head, inner, depth + 1) for _ in range(count))
    if inner in _NUMBERS:
        head.skip(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
    elif inner == _TEXT:
        head.skip_strings(count, _MOST_TEXT)
    else:
        raise head.broken(f"{count} entries of type {inner}")
    return PassedOver(count=count)


def _name(head: Head) -> str:
    return _kept(head, head.count("Q", "bytes of a string", _MOST_NAME))


def _kept(head: Head, size: int) -> str:
    head.keep(size)
    return head.take(size).decode("utf-8", "replace")


def _tensor(head: Head) -> Tensor:
    name = _name(head)
    dimensions = head.count("I", f"dimensions of {name}", _MOST_DIMENSIONS)
    shape = tuple(head.count("Q", f"rows of {name}", _MOST_ELEMENTS) for _ in range(dimensions))
    if math.prod(shape) > _MOST_ELEMENTS:
        raise head.broken(f"{name} has {math.prod(shape)} numbers")
    kind, offset = int(head.number("I")), int(head.number("Q"))
    return Tensor(name=name, shape=shape, type=kind, offset=offset)


def _sized(head: Head, infos: list[Tensor], data_bytes: int) -> tuple[Tensor, ...]:
    """
    Return the tensors with their bytes.

    Those of a type that is not known here are as long as the way to the next one.
    """
    starts = sorted({info.offset for info in infos} | {max(0, data_bytes)})
    following = dict(pairwise(starts))
    sized = []
    for info in infos:
        kind = TENSOR_TYPES.get(info.type)
        if kind is None:
            size = following.get(info.offset, 0) - info.offset
        else:
            row = info.shape[0] if info.shape else 1
            size = kind.bytes_of(row) * (info.elements // max(1, row))
        if size < 0 or info.offset + size > data_bytes:
            raise GpuctlError(
                f"{head.path}: it ends within {info.name}: {data_bytes} bytes of tensors are there,"
                f" and this one goes up to {info.offset + size}",
                "the download was cut off: fetch it again",
            )
        sized.append(replace(info, size_bytes=size))
    return tuple(sized)
