"""The model files of a directory: GGUF files, directories of weights, and what is half fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuctl.adapters.models.choice import split_parts
from gpuctl.adapters.models.partial import SUFFIX

#: ORG/NAME/FILE, and a level for the quantization.
_DEPTH = 4
#: A mount that is no models directory may hold millions of files; a look is not to take minutes.
_MOST_ENTRIES = 20_000
_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model on a disk: the file an engine is given, or the directory."""

    path: Path
    size_bytes: int  # of all its parts that are there
    incomplete: bool = False  # an interrupted download: there is no more of it than this


def models_in(place: Path) -> Iterator[Found]:
    """Yield the models below a directory, by path; none where it cannot be read."""
    seen = 0
    for folder, folders, names in os.walk(place, followlinks=False):
        here = Path(folder)
        seen += len(names) + len(folders)
        if seen > _MOST_ENTRIES:
            return
        # The cache of a hub has its own shape, and is looked at as what it is.
        hidden = (".", "models--")
        depth = len(here.relative_to(place).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(hidden) and depth < _DEPTH - 1)
        yield from of_folder(here, sorted(names))


def of_folder(folder: Path, names: list[str]) -> Iterator[Found]:
    """Yield the models among the files of one directory."""
    weights = [name for name in names if name.endswith(_WEIGHTS)]
    if _CONFIG in names:
        if weights:
            yield Found(path=folder, size_bytes=_size(folder, weights))
    else:
        for name in weights:
            yield Found(path=folder / name, size_bytes=_size(folder, [name]))
    told: set[str] = set()
    for name in names:
        parts = split_parts(name)
        if name.lower().endswith(".gguf") and parts[0] not in told:
            told.add(parts[0])
            there = [part for part in parts if part in names]
            yield Found(path=folder / name, size_bytes=_size(folder, there))
        elif name.endswith(SUFFIX):
            yield Found(path=folder / name, size_bytes=_size(folder, [name]), incomplete=True)


def _size(folder: Path, names: list[str]) -> int:
    total = 0
    for name in names:
        with suppress(OSError):  # removed meanwhile, or a link to what is gone
            total += (folder / name).stat().st_size
    return total
