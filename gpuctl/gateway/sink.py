"""
Where an answer goes: to a client (`answer`), or to all that wait for it (`shared`).

A class to inherit from and no Protocol, as calls through that are many times slower compiled.
"""

from __future__ import annotations

from gpuctl.gateway.heads import Given


class Sink:
    """Takes an answer: `whole`; or `head`, pieces, and one of `finish`, `spoil` and `cut`."""

    __slots__ = ("begun", "sent")

    def __init__(self) -> None:
        self.begun = False  # the head was sent
        self.sent = False  # ... and something of the body

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        """Send all of it."""
        raise NotImplementedError

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        """Begin one that comes in pieces; *length* is that of its body, where it is known."""
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        """Send what comes next."""
        raise NotImplementedError

    def comment(self, data: bytes) -> None:
        """Send what is nothing of the answer, and keeps its connection open."""
        raise NotImplementedError

    def finish(self) -> None:
        """End one that was begun."""
        raise NotImplementedError

    def spoil(self, data: bytes) -> None:
        """End what was begun with a last piece that says it has failed."""
        raise NotImplementedError

    def cut(self) -> None:
        """Break off one that was begun, so that it is seen that it is not whole."""
        raise NotImplementedError
