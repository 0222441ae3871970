"""
The end of a trimmed log, and its growth: for `logs` and `follow` of the process runtime.

What was trimmed is a hole at the beginning of the file, see `shim.trim`; the first line after it
may be a part of one, and is passed over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpuctl import log_lines

BLOCK_BYTES = 64 * 1024

#: Told in the place of lines that were trimmed before they could be read.
GIVEN_UP = "gpuctl: lines were given up here: more was written than the log may keep"


def tail(log: Path, lines: int) -> tuple[str, ...]:
    """Return the last *lines* lines of the log, oldest first."""
    return _tail(log, lines, end=None)


def follow(
    log: Path, lines: int, running: Callable[[], bool], pause: Callable[[], bool]
) -> Iterator[str]:
    """
    Yield the last *lines* lines, then every line as it is written.

    Ends when *running* says that the writer has gone and all is read, or when *pause*, which
    waits a moment, says to stop.
    """
    position = _whole_lines_end(log)
    yield from _tail(log, lines, end=position)
    yield from log_lines.lines(_chunks(log, position, running, pause))


def _chunks(
    log: Path, position: int, running: Callable[[], bool], pause: Callable[[], bool]
) -> Iterator[bytes]:
    while True:
        last = not running()  # asked before reading: what was written until then is read
        position, written = _written(log, position)
        yield written
        if last or pause():
            return


def _whole_lines_end(log: Path) -> int:
    """Return where the last complete line ends: one half written is yielded when it is whole."""
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            text = _read(file, start := max(0, size - BLOCK_BYTES), size)
    except FileNotFoundError:
        return 0
    return start + text.rfind(b"\n") + 1 if b"\n" in text else size


def _written(log: Path, position: int) -> tuple[int, bytes]:
    """Return the new position and what was written since the old one."""
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Smaller than what was read: it was cut to nothing and began again.
            position = position if position <= size else 0
            start = max(position, min(_kept_from(file), size))
            text = _read(file, start, size)
            kept_from = _kept_from(file)
    except FileNotFoundError:
        return position, b""
    after = start + len(text)
    if kept_from <= position:
        return after, text
    return after, b"\n%s\n%s" % (GIVEN_UP.encode(), _whole_lines(text, start, kept_from))


def _tail(log: Path, lines: int, end: int | None) -> tuple[str, ...]:
    """Return the last lines before byte *end*, read backwards until there are enough."""
    try:
        with log.open("rb") as file:
            position = os.fstat(file.fileno()).st_size if end is None else end
            first, text = _kept_from(file), b""
            while position > first and text.count(b"\n") <= lines:
                start = max(first, position - BLOCK_BYTES)
                text = _read(file, start, position) + text
                position = start
            # Asked again after reading: what was trimmed meanwhile was read as zeros.
            kept_from = _kept_from(file)
    except FileNotFoundError:
        return ()
    if kept_from and kept_from >= position:
        text = _whole_lines(text, position, kept_from)
    whole = text.removesuffix(b"\n").split(b"\n") if text else []
    return tuple(map(log_lines.line, whole[-lines:] if lines > 0 else []))


def _whole_lines(text: bytes, start: int, kept_from: int) -> bytes:
    """Return *text*, read from *start*, without the hole and the line that was cut by it."""
    return text[max(0, kept_from - start) :].partition(b"\n")[2]


def _kept_from(file: BinaryIO) -> int:
    """Return where the hole ends, 0 where there is none. Source: lseek(2), SEEK_DATA."""
    try:
        return os.lseek(file.fileno(), 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return 0  # an empty file: nothing but a hole is never left


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    return os.pread(file.fileno(), end - start, start)
