"""
A file on its way: `NAME.incomplete` beside its target, held by one process at a time.

The next attempt goes on where this one ended, in another process too: huggingface-hub since 2
begins each interrupted file anew, under a name of its own (`_download_to_tmp_and_move`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

SUFFIX = ".incomplete"

_CHUNK_BYTES = 1 << 20


class Digest(Protocol):
    """As much of a hash of hashlib as is needed."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


#: Begins the sums of a file, by their names.
Sums = Callable[[], Mapping[str, Digest]]


class Partial:
    """
    What is there of a file so far, its sums, and the server's mark of the version it is of.

    The sums go along with what is written, so that an attempt after another reads nothing again.
    """

    def __init__(self, target: Path, file: BinaryIO, sums: Sums) -> None:
        self._target = target
        self._file = file
        self._mark = _mark(target)
        self._sums = sums
        self._digests = sums()
        self._summed = 0  # bytes that are in the sums

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
        self._digests, self._summed = self._sums(), 0
        if version:
            self._mark.write_text(version, encoding="utf-8")
        else:
            self._mark.unlink(missing_ok=True)

    def sum_up(self, progress: Callable[[int], None]) -> None:
        """Sum up what an earlier process has left; *progress* is told the bytes read so far."""
        self._file.seek(self._summed)
        while chunk := self._file.read(_CHUNK_BYTES):
            self._add(chunk)
            progress(self._summed)

    def write(self, chunk: bytes) -> None:
        """Append, at once, so that an interruption leaves only bytes that count."""
        view = memoryview(chunk)
        while view:  # a file without a buffer may take a part
            view = view[self._file.write(view) :]
        self._add(chunk)

    def sum(self, name: str) -> str:
        """Return one of the sums, of all that is there."""
        return self._digests[name].hexdigest()

    def finish(self) -> None:
        """Give it its final name: it is whole, and on the disk."""
        os.fsync(self._file.fileno())
        os.replace(incomplete(self._target), self._target)
        self._mark.unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove what is there: it is of no use."""
        incomplete(self._target).unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _add(self, chunk: bytes) -> None:
        for digest in self._digests.values():
            digest.update(chunk)
        self._summed += len(chunk)


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
def held(
    target: Path, waits: Callable[[], None], sums: Sums = dict[str, Digest]
) -> Iterator[Partial]:
    """
    Give the one partial file of a target, while no other process has it.

    *waits* is called where another one does, before it is waited for; *sums* begins the sums.
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
                yield Partial(target, file, sums)
                return


def sha256_of(path: Path) -> str:
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
