"""
A file's head, read in order and within bounds: what a hostile file claims is never believed.

Every mistake is a GpuctlError that says which file, at which byte, and what is wrong there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from gpuctl.errors import GpuctlError

#: The largest heads known are tokenizers of 262,144 words: some 15 MiB.
MOST_BYTES = 256 * 1024**2
_HINT = "download the file again, or look at it with another tool"


class Head:
    """The bytes at the beginning of an open file, taken one after the other."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self.path = file, path
        self.at = 0
        self.order = "<"  # little-endian

    def take(self, count: int) -> bytes:
        """Return the next bytes. Raises `GpuctlError` where there are not that many."""
        self._within(count)
        data = self._file.read(count)
        if len(data) != count:
            raise self.broken(f"the file ends {count - len(data)} bytes too early")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        """Pass over the next bytes."""
        self._within(count)
        self._file.seek(count, 1)
        self.at += count

    def number(self, code: str) -> int | float | bool:
        """Return the next number, of a `struct` code."""
        value = struct.unpack(self.order + code, self.take(struct.calcsize(self.order + code)))[0]
        assert isinstance(value, int | float | bool)
        return value

    def count(self, code: str, what: str, most: int) -> int:
        """Return the next number, which says how many of *what* follow."""
        found = int(self.number(code))
        if found > most:
            raise self.broken(f"{found} {what}, and {most} is the most there can be")
        return found

    def broken(self, what: str) -> GpuctlError:
        return GpuctlError(f"{self.path}: byte {self.at}: {what}", _HINT)

    def _within(self, count: int) -> None:
        if self.at + count > MOST_BYTES:
            raise self.broken(f"its head is longer than {MOST_BYTES} bytes")
