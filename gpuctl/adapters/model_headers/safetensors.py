"""
safetensors: the bytes of a model's tensors, from the head of each file or from their index.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuctl.adapters.model_headers.head import Head
from gpuctl.errors import GpuctlError, NotFound

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

#: What the format itself allows for a head.
_MOST_HEAD_BYTES = 100_000_000
_MOST_JSON_BYTES = 64 * 1024**2
_MOST_PARTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    bytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what the index says and the files do not


def of_directory(directory: Path) -> Weights | None:
    """
    Return what the tensors of a directory weigh, `None` where there are none.

    Raises:
        GpuctlError: a part is missing or damaged.
    """
    if (directory / INDEX).exists():
        return _indexed(directory)
    if (directory / SINGLE).exists():
        return of_file(directory / SINGLE)
    return None


def of_file(path: Path) -> Weights:
    """Return what the tensors of one file weigh. Raises `GpuctlError`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = Head(file, path)
            total = max(_ends(head), default=0)
    except OSError as error:
        raise GpuctlError(f"{path}: {error.strerror}", "see who may read it") from error
    if head.at + total > size:
        raise GpuctlError(
            f"{path}: it ends at byte {size}, and its tensors go on up to {head.at + total}",
            "the download was cut off: fetch it again",
        )
    return Weights(bytes=total, files=(str(path),))


def parsed(path: Path) -> dict[str, Any]:
    """Return a JSON file's object. Raises `GpuctlError` where it is none, or too long."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_JSON_BYTES + 1)
    except OSError as error:
        raise GpuctlError(f"{path}: {error.strerror}", "see who may read it") from error
    if len(data) > _MOST_JSON_BYTES:
        raise GpuctlError(f"{path}: longer than {_MOST_JSON_BYTES} bytes", "look at the file")
    return _object(data, path)


def _ends(head: Head) -> Iterator[int]:
    length = head.count("Q", "bytes of a head", _MOST_HEAD_BYTES)
    for name, tensor in _object(head.take(length), head.path).items():
        if name == "__metadata__":
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not isinstance(offsets, list) or not all(isinstance(o, int) for o in offsets[:2]):
            raise head.broken(f"{name} has no data_offsets")
        if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1]:
            raise head.broken(f"{name} goes from {offsets}")
        yield offsets[1]


def _object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GpuctlError(f"{path}: {error}", "download the file again") from error
    if not isinstance(found, dict):
        raise GpuctlError(f"{path}: not a JSON object", "download the file again")
    return found


def _indexed(directory: Path) -> Weights:
    index = directory / INDEX
    document = parsed(index)
    named = document.get("weight_map")
    if not isinstance(named, dict):
        raise GpuctlError(f"{index}: it has no weight_map", "download the file again")
    if strange := [name for name, part in named.items() if not isinstance(part, str)]:
        raise GpuctlError(f"{index}: weight_map has no file for {strange[0]}", "download it again")
    names = sorted(set(named.values()))
    if len(names) > _MOST_PARTS:
        raise GpuctlError(f"{index}: {len(names)} parts", "look at the file")
    here = _names(directory)
    if missing := [name for name in names if name not in here]:
        raise NotFound(
            f"{directory}: {len(missing)} of its {len(names)} parts are missing: {missing[0]}",
            "download all of them",
        )
    parts = [of_file(directory / name) for name in names]
    total = sum(part.bytes for part in parts)
    metadata = document.get("metadata")
    told = metadata.get("total_size") if isinstance(metadata, dict) else None
    notes: tuple[str, ...] = ()
    if isinstance(told, int | float) and told != total:
        notes = (f"{index}: metadata.total_size is {told}, and its parts hold {total} bytes",)
    return Weights(bytes=total, files=tuple(f for part in parts for f in part.files), notes=notes)


def _names(directory: Path) -> frozenset[str]:
    """Return what is in a directory: a name that is looked up there does not lead out of it."""
    try:
        return frozenset(os.listdir(directory))
    except OSError as error:
        raise GpuctlError(f"{directory}: {error.strerror}", "see who may read it") from error
