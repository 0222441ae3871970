"""
What goes on failing while the gateway runs: told once, and again once that is news.

Whoever tries a thing again and again says each time how it went; in the log is what an operator has
not read there yet.
"""

from __future__ import annotations

from collections.abc import Callable


class Outages:
    """Those that last, by their event and file."""

    __slots__ = ("_tell", "_told")

    def __init__(self, tell: Callable[..., None]) -> None:
        """*tell* is the `event` of the log."""
        self._tell = tell
        self._told: dict[tuple[str, str], dict[str, str]] = {}  # fields of the latest line

    def failed(self, event: str, **fields: str) -> None:
        """Tell *fields*, unless they were the last that was told of it; `file`: of which of all."""
        place = event, fields.get("file", "")
        if self._told.get(place) != fields:
            self._told[place] = fields
            self._tell(event, **fields)

    def worked(self, event: str, file: str = "") -> None:
        """Forget what was told of it: the next failure is another one."""
        self._told.pop((event, file), None)
