"""`models verify`: whether the files of a model are still those that were published."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gpuctl.cli import model_inspect
from gpuctl.cli.progress import Show, bar
from gpuctl.cli.session import Session, show
from gpuctl.errors import UsageError

_CHUNK_BYTES = 1 << 22
_GOOD = "as published"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB_ID = re.compile(r"[0-9a-f]{40}")


def command(session: Session, name: str, sha256: str | None) -> int:
    """Sum up every file of a model; print what each is; return 0, or 1 when one is altered."""
    expected = None if sha256 is None else sha256.lower()
    if expected is not None and not _SHA256.fullmatch(expected):
        raise UsageError(f"--sha256 {sha256!r} is no SHA-256", "it is 64 hexadecimal digits")
    files = tuple(_files(model_inspect.named(session, name)))
    if expected is not None and len(files) > 1:
        raise UsageError(f"{name} has {len(files)} files, and --sha256 is of one", "name the file")
    code = 0
    with bar(session, f"summing up {name}") as progress:
        for file in files:
            found = _judged(file, expected, progress)
            show(f"{file}: {found}")
            code = code if found == _GOOD else 1
    if code:
        session.say("remove what is altered, and pull it again")
    return code


def _judged(file: Path, expected: str | None, progress: Show) -> str:
    if not file.exists():
        return "MISSING"
    good = _good(file, expected or _recorded(file), progress)
    return _GOOD if good else "ALTERED"


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a model, by name; all parts of a split one."""
    from gpuctl.adapters.models.choice import split_parts

    if path.is_dir():
        # A link to a content that was removed is a file that is missing.
        found = (file for file in path.rglob("*") if file.is_symlink() or file.is_file())
        yield from sorted(found)
    else:
        yield from (path.with_name(part) for part in split_parts(path.name))


def _recorded(file: Path) -> str:
    """
    Return the sum that the Hugging Face cache calls the content by.

    Raises:
        UsageError: the file lies elsewhere, where nothing is recorded.
    """
    content = Path(os.path.realpath(file))
    known = _SHA256.fullmatch(content.name) or _BLOB_ID.fullmatch(content.name)
    if content.parent.name != "blobs" or not known:
        raise UsageError(
            f"{file} is not in a Hugging Face cache, which records what each file must sum up to",
            "give the published sum with --sha256",
        )
    return content.name


def _good(file: Path, expected: str, progress: Show) -> bool:
    """Tell whether a file sums up to a SHA-256, or to the id that git gives its content."""
    size = file.stat().st_size
    if _SHA256.fullmatch(expected):
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            progress(file.name, content.tell() / size)
    return digest.hexdigest() == expected
