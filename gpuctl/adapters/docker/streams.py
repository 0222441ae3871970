"""Answers without an end (events, followed logs), and how another thread ends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from docker import APIClient
    from docker.types.daemon import CancellableStream

T = TypeVar("T")


class Streams:
    """The streams that are open now."""

    def __init__(self) -> None:
        self._open: set[CancellableStream[object]] = set()
        self._closed = False

    def read(self, client: APIClient, stream: CancellableStream[T]) -> Iterator[T]:
        """Yield from *stream* until it ends or `close()` is called, then close its client."""
        from docker.errors import StreamParseError

        self._open.add(stream)
        try:
            # Looked at after it was added: a `close()` in between has missed it.
            if not self._closed:
                # An engine that dies in the middle of a message leaves half of one.
                with suppress(StreamParseError):
                    yield from stream
        finally:
            self._open.discard(stream)
            _shut(stream)
            client.close()

    def close(self) -> None:
        """Shut every stream's socket down, which wakes the thread that reads it."""
        self._closed = True
        for stream in tuple(self._open):
            _shut(stream)


def _shut(stream: CancellableStream[T]) -> None:
    # One that has ended has no socket any more, or one that is not connected.
    with suppress(OSError, AttributeError):
        stream.close()
