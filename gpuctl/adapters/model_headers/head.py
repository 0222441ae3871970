"""
A file's head, read in order and within bounds: what a hostile file claims is never believed.

Every mistake is a GpuctlError that says which file, at which byte, and what is wrong there.
"""

from __future__ import annotations

import struct
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from gpuctl.errors import GpuctlError

#: The largest heads known are tokenizers of 262,144 words: some 15 MiB.
MOST_BYTES = 256 * 1024**2
#: Of a whole head: names, texts and arrays that are kept in memory. The chat templates, names and
#: lists of the models known take some 200 KiB.
MOST_KEPT_BYTES = 16 * 1024**2
#: Of a whole head: words and merges of a tokenizer. The largest known has some 780,000.
MOST_STRINGS = 1 << 21
#: A model's number is no larger, or its file means harm.
MOST_NUMBER = 1 << 32
#: Thirty times the layers of the deepest models known.
MOST_LAYERS = 4096
_HINT = "download the file again, or look at it with another tool"


class Head:
    """The bytes at the beginning of an open file, taken one after the other."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self.path = file, path
        self.at = 0
        self.order = "<"  # little-endian
        self._kept = self._strings = 0

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

    def keep(self, count: int) -> None:
        """Count bytes that are kept in memory. Raises `GpuctlError` where they would fill it."""
        self._kept += count
        if self._kept > MOST_KEPT_BYTES:
            raise self.broken(f"more than {MOST_KEPT_BYTES} bytes of names and values")

    def skip_strings(self, count: int, most: int) -> None:
        """Pass over the next strings, each of *most* bytes at most."""
        self._strings += count
        if self._strings > MOST_STRINGS:
            raise self.broken(f"more than {MOST_STRINGS} strings")
        length = struct.Struct(self.order + "Q")
        # A tokenizer has hundreds of thousands: nothing is called for each of them but the file.
        read, seek = self._file.read, self._file.seek
        for _ in repeat(None, count):
            found = read(length.size)
            if len(found) != length.size:
                raise self.broken("the file ends within its strings")
            (size,) = length.unpack(found)
            if size > most:
                raise self.broken(f"{size} bytes of a string, and {most} is the most there can be")
            self._within(length.size + size)
            seek(size, 1)
            self.at += length.size + size

    def broken(self, what: str) -> GpuctlError:
        return GpuctlError(f"{self.path}: byte {self.at}: {what}", _HINT)

    def _within(self, count: int) -> None:
        if self.at + count > MOST_BYTES:
            raise self.broken(f"its head is longer than {MOST_BYTES} bytes")


def believable(found: int, key: str, path: Path | str, most: int = MOST_NUMBER) -> int:
    """Return a number that a file tells of its model. Raises `GpuctlError` if no model has it."""
    if not 0 <= found <= most:
        raise GpuctlError(f"{path}: {key} is {found}, and it can be 0 to {most}", _HINT)
    return found
