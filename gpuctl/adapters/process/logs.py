"""The end of a rotated log, and its growth: for `logs` and `follow` of the process runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuctl import log_lines

BLOCK_BYTES = 64 * 1024


def tail(log: Path, lines: int) -> tuple[str, ...]:
    """Return the last *lines* lines over the log and its rotated files, oldest first."""
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
    size = _size(log)
    start = max(0, size - BLOCK_BYTES)
    text = _read(log, start, size - start)
    return start + text.rfind(b"\n") + 1 if b"\n" in text else size


def _written(log: Path, position: int) -> tuple[int, bytes]:
    """Return the new position and what was written since the old one."""
    if _size(log) >= position:
        new = _read(log, position)
        return position + len(new), new
    # Smaller than what was read: its content was moved to log.1 and it began again.
    older = _read(log.with_name(f"{log.name}.1"), position)
    new = _read(log, 0)
    return len(new), older + new


def _tail(log: Path, lines: int, end: int | None) -> tuple[str, ...]:
    """Return the last lines before byte *end* of the newest file."""
    text = b""
    for number in range(len(list(log.parent.glob(f"{log.name}.[0-9]*"))) + 1):
        path = log if number == 0 else log.with_name(f"{log.name}.{number}")
        text = _last(path, lines - text.count(b"\n"), end if number == 0 else None) + text
        if text.count(b"\n") > lines:
            break
    whole = text.removesuffix(b"\n").split(b"\n") if text else []
    return tuple(map(log_lines.line, whole[-lines:] if lines > 0 else []))


def _last(path: Path, lines: int, end: int | None) -> bytes:
    """Return the end of one file, read backwards until it holds more than *lines* lines."""
    position = _size(path) if end is None else end
    text = b""
    while position > 0 and text.count(b"\n") <= lines:
        start = max(0, position - BLOCK_BYTES)
        text = _read(path, start, position - start) + text
        position = start
    return text


def _read(path: Path, start: int, length: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
