"""A bar for one long thing: a download, an image; lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpuctl.cli.session import Session, err

#: Told what is done now, and how much of it (0-1, `None` where unknown).
Show = Callable[[str, float | None], None]


@contextmanager
def bar(session: Session, title: str) -> Iterator[Show]:
    """Give a way to show progress on stderr, taken away again at the end."""
    console = err()
    if not console.is_terminal:
        session.say(title)
        yield lambda _line, _ratio: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def show(line: str, ratio: float | None) -> None:
            total = None if ratio is None else 1.0
            progress.update(
                task, description=f"{title}: {line[:40]}", total=total, completed=ratio or 0
            )

        yield show
