"""What every command knows: the environment, the simulated host if any, and where files are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuctl import fast_status, paths, printable
from gpuctl.errors import DaemonDown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gpuctl.model.status import Status


#: No row is wider; what reads a pipe cuts for itself.
_PIPE_COLUMNS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of the program."""

    environment: Mapping[str, str]
    simulate: str = ""  # a host-state file or its shipped name
    debug: bool = False
    alone: bool = False  # whatever the system's gpuctl has left behind

    @property
    def own(self) -> paths.Directories:
        """Where this user's daemon keeps its files."""
        return paths.directories(self.environment, root=_root(), simulate=self.simulate)

    @property
    def seen(self) -> paths.Directories:
        """Where to look at a daemon: this user's, or the system's."""
        if self.alone:
            return self.own
        return paths.reading(self.environment, root=_root(), simulate=self.simulate)

    def status(self) -> Status:
        """Return the published Status. Raises `DaemonDown` when there is none."""
        return fast_status.read(self.seen.status)[1]

    def running(self) -> Status | None:
        """Return the Status of a daemon that lives, `None` when none does."""
        try:
            status = fast_status.read(self.own.status)[1]
        except DaemonDown:
            return None
        return status if fast_status.alive(status) else None

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def say(self, words: str) -> None:
        """Print words (not data) on stderr."""
        print(printable.text(words), file=sys.stderr, flush=True)


def show(words: str, *, flush: bool = False) -> None:
    """Print data that is text, on stdout."""
    print(printable.text(words), flush=flush)


def out() -> Console:
    """Return the console for data, on stdout."""
    from gpuctl.views.console import console

    return console()


def display(renderable: RenderableType) -> None:
    """Print data: as wide as the terminal, or in a pipe or file one whole line a row."""
    console = out()
    if console.is_terminal:
        console.print(renderable)
        return
    console.width = _PIPE_COLUMNS
    with console.capture() as captured:
        console.print(renderable)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def err() -> Console:
    """Return the console for words and progress, on stderr."""
    from gpuctl.views.console import console

    return console(stderr=True)


def _root() -> bool:
    return os.geteuid() == 0
