"""The progress of several files: two bars on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from gpuctl import printable
from gpuctl.cli.session import Session, err
from gpuctl.quantities import format_bytes, format_ratio, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_SECONDS = 5.0


class Shown(Protocol):
    """What is told of a transfer."""

    def begin(self, name: str, size_bytes: int | None) -> None:
        """Tell that a file is the next."""
        ...

    def at(self, done_bytes: int, size_bytes: int | None) -> None:
        """Tell how much of it is here."""
        ...

    def say(self, words: str) -> None:
        """Print a line among the progress."""
        ...


@contextmanager
def progress(session: Session, total_bytes: int | None) -> Iterator[Shown]:
    """Give a way to show a transfer on stderr; *total_bytes* of all files, `None` if unknown."""
    console = err()
    if not console.is_terminal:
        yield Lines(session.say, total_bytes)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(bars, total_bytes)


class Bars:
    """One bar for the file, one for all of them."""

    def __init__(self, bars: Progress, total_bytes: int | None) -> None:
        self._bars = bars
        self._file = bars.add_task("", total=None)
        self._total = bars.add_task("in total", total=total_bytes)
        self._before = 0  # bytes of the files that are done
        self._done = 0

    def begin(self, name: str, size_bytes: int | None) -> None:
        self._before += self._done
        self._done = 0
        name = printable.line(name.rpartition("/")[2])[-40:]
        self._bars.reset(self._file, description=name, total=size_bytes)

    def at(self, done_bytes: int, size_bytes: int | None) -> None:
        self._done = done_bytes
        self._bars.update(self._file, completed=done_bytes, total=size_bytes)
        self._bars.update(self._total, completed=self._before + done_bytes)

    def say(self, words: str) -> None:
        self._bars.console.print(words)


class Lines:
    """A line when a file begins, and one every few seconds."""

    def __init__(
        self,
        say: Callable[[str], None],
        total_bytes: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._total_bytes = total_bytes
        self._clock = clock
        self._name = ""
        self._before = 0
        self._done = 0
        self._told = (clock(), 0)  # when, and the bytes of the file then

    def begin(self, name: str, size_bytes: int | None) -> None:
        self._before += self._done
        self._name, self._done = name, 0
        self._told = (self._clock(), 0)
        self._say(f"{name}: {'fetching' if size_bytes is None else format_bytes(size_bytes)}")

    def at(self, done_bytes: int, size_bytes: int | None) -> None:
        self._done = done_bytes
        (then, before), now = self._told, self._clock()
        if now - then < _LINE_SECONDS:
            return
        self._told = (now, done_bytes)
        self._say(f"{self._name}: {', '.join(self._words(size_bytes, now - then, before))}")

    def say(self, words: str) -> None:
        self._say(words)

    def _words(self, size_bytes: int | None, seconds: float, before: int) -> Iterator[str]:
        rate = max(0.0, (self._done - before) / seconds)
        if size_bytes:
            yield f"{format_ratio(self._done / size_bytes)} of {format_bytes(size_bytes)}"
        else:
            yield format_bytes(self._done)
        yield f"{format_bytes(int(rate))}/s"
        if self._total_bytes:
            done = self._before + self._done
            yield f"{format_ratio(done / self._total_bytes)} in total"
            if rate >= 1:
                yield f"{format_seconds(round((self._total_bytes - done) / rate))} left"
