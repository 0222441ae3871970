"""The progress of several files, on a terminal and without one."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.progress import BarColumn, Progress, TextColumn

from gpuctl.cli import transfer_progress
from gpuctl.cli.session import Session
from gpuctl.cli.transfer_progress import Bars, Lines
from gpuctl.views.console import SafeConsole

MIB = 1024**2


def clock(*seconds: float) -> Iterator[float]:
    return iter(seconds)


def test_a_line_every_few_seconds() -> None:
    """How much, how fast, how much of all files, and how long it takes."""
    said: list[str] = []
    times = clock(0, 0, 4, 5, 9, 10)
    lines = Lines(said.append, 300 * MIB, clock=lambda: next(times))
    lines.begin("a.gguf", 100 * MIB)
    lines.at(40 * MIB, 100 * MIB)  # 4 s: too early
    lines.at(50 * MIB, 100 * MIB)
    lines.at(90 * MIB, 100 * MIB)
    lines.at(100 * MIB, 100 * MIB)
    lines.say("a.gguf: verified")
    assert said == [
        "a.gguf: 100 MiB",
        "a.gguf: 50 % of 100 MiB, 10 MiB/s, 16.7 % in total, 25 s left",
        "a.gguf: 100 % of 100 MiB, 10 MiB/s, 33.3 % in total, 20 s left",
        "a.gguf: verified",
    ]


def test_the_files_before_count_in_the_total() -> None:
    said: list[str] = []
    times = clock(0, 0, 0, 0, 10)
    lines = Lines(said.append, 4 * MIB, clock=lambda: next(times))
    lines.begin("a", 2 * MIB)
    lines.at(2 * MIB, 2 * MIB)
    lines.begin("b", 2 * MIB)
    lines.at(MIB, 2 * MIB)
    assert said[-1] == "b: 50 % of 2 MiB, 102.4 KiB/s, 75 % in total, 10 s left"


def test_what_is_not_known_is_left_out() -> None:
    """A server that tells no size, and a line that stands still."""
    said: list[str] = []
    times = clock(0, 0, 6, 12)
    lines = Lines(said.append, None, clock=lambda: next(times))
    lines.begin("a", None)
    lines.at(6 * MIB, None)
    lines.at(MIB, None)  # begun anew
    assert said == ["a: fetching", "a: 6 MiB, 1 MiB/s", "a: 1 MiB, 0 B/s"]


def test_two_bars_on_a_terminal() -> None:
    """One for the file and one for all; a name cannot drive the terminal."""
    screen = io.StringIO()
    console = SafeConsole(
        file=screen, force_terminal=True, width=100, markup=False, highlight=False
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        bars = Bars(progress, 30)
        bars.begin("q/a\x1b[31m.gguf", 10)
        bars.at(10, 10)
        bars.begin("b.gguf", 20)
        bars.at(5, 20)
        bars.say("a.gguf: [verified]")
        tasks = [(task.description, task.completed, task.total) for task in progress.tasks]
    assert tasks == [("b.gguf", 5, 20), ("in total", 15, 30)]
    assert "a.gguf: [verified]" in screen.getvalue()
    assert "\x1b[31m.gguf" not in screen.getvalue()


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bars), (False, Lines)])
def test_a_terminal_gets_bars(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type[object]
) -> None:
    screen = SafeConsole(file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr(transfer_progress, "err", lambda: screen)
    with transfer_progress.progress(Session(environment={}), 10) as shown:
        assert isinstance(shown, kind)
