"""The consoles of every view that rich draws: what is drawn cannot drive the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from gpuctl import printable


class SafeConsole(Console):
    """
    A console that writes out the control characters of texts.

    rich takes five of them away and lets ESC through. Source: rich.control.strip_control_codes.
    """

    def render_str(self, text: str, *args: Any, **options: Any) -> Text:
        """Return a text for a cell, before its width is measured."""
        return super().render_str(printable.text(text), *args, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what is drawn; rich's own commands to the terminal are segments of their own."""
        for segment in super().render(renderable, options):
            safe = printable.text(segment.text)
            if segment.control or safe == segment.text:
                yield segment
            else:
                yield Segment(safe, segment.style)


def console(*, stderr: bool = False) -> SafeConsole:
    """Return the console for data, on stdout, or that for words and progress, on stderr."""
    return SafeConsole(stderr=stderr, highlight=False, markup=False)
