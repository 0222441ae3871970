"""
Requests with an Idempotency-Key: one exchange, and every client that waits for its answer.

The exchange writes to a `Leader`, which tells the `Entry`; each client's `Follower` writes what the
entry tells to its own connection. When the last of them has left, the exchange ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpuctl.gateway import openai_errors
from gpuctl.gateway.answer import EVENTS, Answer
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.heads import Given
from gpuctl.gateway.idempotency import ENTRY_BYTES, Entry
from gpuctl.gateway.record import Record
from gpuctl.gateway.sink import Sink

#: Of a stream: a client that lags behind by more does not get the rest, as others may follow it.
_BEHIND_BYTES: Final = 1024 * 1024


class Leader(Sink):
    """The sink of the exchange."""

    __slots__ = ("_entry", "_record")

    def __init__(self, entry: Entry, record: Record) -> None:
        self._entry, self._record = entry, record
        super().__init__()

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        self._record.status = status  # its own client may have left
        self._entry.head(status, headers)
        self._entry.piece(body)
        self._entry.finish()

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        self.begun = True
        self._record.status = status
        self._entry.head(status, headers)

    def piece(self, data: bytes) -> None:
        self.sent = True
        self._entry.piece(data)

    def comment(self, data: bytes) -> None:
        self._entry.comment(data)

    def finish(self) -> None:
        self._entry.finish()

    def spoil(self, data: bytes) -> None:
        self._entry.piece(data)
        self._entry.finish(keep=False)

    def cut(self) -> None:
        self._entry.fail()


class Follower:
    """
    One client that waits for the answer; to its connection it is what serves the request.

    A stream it gets as it comes, another answer when that is whole. One that is too large to be
    kept begins before that, and then comes as fast as the slowest that follow it take it.
    """

    __slots__ = (
        *("_answer", "_client", "_entry", "_head", "_held_bytes", "_paced", "_parts", "_told"),
        "over",
    )

    def __init__(
        self,
        entry: Entry,
        client: Client,
        answer: Answer,
        told: Callable[[str], None],
    ) -> None:
        """
        Follow an *entry*.

        Args:
            told: called with how it ended.
        """
        self._entry, self._client, self._answer = entry, client, answer
        self._told = told
        self._head: tuple[int, Given] = (0, ())
        self._parts: list[bytes] = []
        self._held_bytes = 0  # of these
        self._paced = False  # the engine waits for it
        self.over = False

    # What the entry tells.

    def head(self, status: int, headers: Given) -> None:
        self._head = status, headers
        if headers == EVENTS:
            self._answer.head(status, headers)

    def piece(self, data: bytes) -> None:
        if not self._answer.begun:
            self._parts.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > ENTRY_BYTES:
                self._begin()
        elif not self._paced and self._client.behind_bytes > _BEHIND_BYTES:
            self._entry.unsubscribe(self)
            self._answer.cut()
            self._end("cut")
        else:
            self._answer.piece(data)

    def comment(self, data: bytes) -> None:
        if self._answer.begun:
            self._answer.comment(data)

    def finish(self) -> None:
        if self._answer.begun:
            self._answer.finish()
        else:
            status, headers = self._head
            self._answer.whole(status, headers, b"".join(self._parts))
        self._end("replayed")

    def fail(self) -> None:
        if self._answer.begun:
            self._answer.cut()
            self._end("cut")
        else:
            failed = openai_errors.answer("upstream_failed")
            self._answer.whole(failed.status, failed.headers, failed.body)
            self._end("refused")

    # What the connection tells.

    def gone(self) -> None:
        self._end("client_gone")
        self._entry.unsubscribe(self)

    def pause(self) -> None:
        """Let a stream go on: others may follow, or come; `piece` sees to one that lags behind."""
        if self._paced:
            self._entry.pause(self)

    def resume(self) -> None:
        """Go on, where it waits."""
        self._entry.resume(self)

    def _begin(self) -> None:
        """Send what is held: nobody can join any more, and it is not whole yet."""
        self._paced = True
        status, headers = self._head
        self._answer.head(status, headers)
        self._answer.piece(b"".join(self._parts))
        self._parts.clear()

    def _end(self, how: str) -> None:
        self.over = True
        self._told(how)
