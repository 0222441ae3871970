"""
A file on its way: `NAME.incomplete` beside its target, held by one process at a time.

The next attempt goes on where this one ended, in another process too: huggingface-hub since 2
begins each interrupted file anew, under a name of its own (`_download_to_tmp_and_move`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

SUFFIX = ".incomplete"

_CHUNK_BYTES = 1 << 20


class Digest(Protocol):
    """As much of a hash of hashlib as is needed."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Partial:
    """What is there of a file so far, and the server's mark of the version it is of."""

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self._target = target
        self._file = file
        self._mark = _mark(target)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def version(self) -> str:
        """The ETag or date that the server gave with it, "" where it gave none."""
        try:
            return self._mark.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    def begin_anew(self, version: str) -> None:
        """Forget what is there; what comes is of this version."""
        self._file.truncate(0)
        if version:
            self._mark.write_text(version, encoding="utf-8")
        else:
            self._mark.unlink(missing_ok=True)

    def feed(self, digest: Digest, progress: Callable[[int], None]) -> None:
        """Give a digest what is there; *progress* is told the bytes read so far."""
        self._file.seek(0)
        read = 0
        while chunk := self._file.read(_CHUNK_BYTES):
            digest.update(chunk)
            read += len(chunk)
            progress(read)

    def write(self, chunk: bytes) -> None:
        """Append, whole, so that an interruption leaves only bytes that count."""
        self._file.write(chunk)  # opened to append, and without a buffer

    def finish(self) -> None:
        """Give it its final name: it is whole, and on the disk."""
        os.fsync(self._file.fileno())
        os.replace(incomplete(self._target), self._target)
        self._mark.unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove what is there: it is of no use."""
        incomplete(self._target).unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)


def incomplete(target: Path) -> Path:
    """Return where a file is while it is fetched."""
    return target.with_name(target.name + SUFFIX)


def fetched_bytes(target: Path) -> int:
    """Return how much of a file is there from an earlier attempt."""
    try:
        return incomplete(target).stat().st_size
    except OSError:
        return 0


@contextmanager
def held(target: Path, waits: Callable[[], None]) -> Iterator[Partial]:
    """
    Give the one partial file of a target, while no other process has it.

    *waits* is called where another one does, before it is waited for.
    """
    path = incomplete(target)
    while True:
        with path.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waits()
                fcntl.flock(file, fcntl.LOCK_EX)
            # The other one may have given it its final name meanwhile, or removed it.
            if _same(path, file):
                yield Partial(target, file)
                return


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _mark(target: Path) -> Path:
    return target.with_name(f"{target.name}{SUFFIX}.etag")
