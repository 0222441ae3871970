"""
Requests with an Idempotency-Key: one exchange, and every client that waits for its answer.

The exchange writes to a `Leader`, which tells the `Entry`; each client's `Follower` writes what the
entry tells to its own connection. When the last of them has left, the exchange ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpuctl.gateway import openai_errors, sse
from gpuctl.gateway.answer import EVENTS, Answer
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.heads import Given
from gpuctl.gateway.idempotency import Entry
from gpuctl.gateway.record import Record
from gpuctl.gateway.sink import Sink

#: Of a stream that others take: by how much more than it ever did a client may lag behind them. The
#: 1,024 connections of one address hold 256 MiB of it, a third of the unit's MemoryMax.
_BEHIND_BYTES: Final = 256 * 1024


class Leader(Sink):
    """The sink of the exchange."""

    __slots__ = ("_entry", "_record")

    def __init__(self, entry: Entry, record: Record) -> None:
        self._entry, self._record = entry, record
        super().__init__()

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        self._record.status = status  # its own client may have left
        self._entry.whole(status, headers, body, self._record.error)

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        self.begun = True
        self._record.status = status
        self._entry.head(status, headers, held=headers != EVENTS)

    def piece(self, data: bytes) -> None:
        self.sent = True
        self._entry.piece(data)

    def comment(self, data: bytes) -> None:
        self._entry.comment(data)

    def finish(self) -> None:
        self._entry.finish()

    def spoil(self, data: bytes) -> None:
        self._entry.spoil(data, self._record.error)

    def cut(self) -> None:
        if self._entry.held:  # no client has seen anything of it
            failed = openai_errors.answer("upstream_failed")
            self._entry.whole(failed.status, failed.headers, failed.body, "upstream_failed")
        else:
            self._entry.fail(self._record.error)


class Follower:
    """
    One client that waits for the answer; to its connection it is what serves the request.

    A stream it gets as it comes, and the engine waits while nobody takes it: a client that lags is
    left behind only where another one goes on. Another answer it gets when that is whole; one that
    is too large to be held begins before, and comes as fast as the slowest takes it.
    """

    __slots__ = ("_answer", "_client", "_entry", "_joined", "_most_behind", "_told", "over")

    def __init__(
        self,
        entry: Entry,
        client: Client,
        answer: Answer,
        told: Callable[[str, str], None],
    ) -> None:
        """
        Wait to `join` an *entry*.

        Args:
            told: called with how it ended, and the error's code or "".
        """
        self._entry, self._client, self._answer = entry, client, answer
        self._told = told
        self._joined = False
        self._most_behind = 0  # bytes
        self.over = False

    def join(self) -> None:
        """Follow: get what there is, however much, and then what comes."""
        self._entry.subscribe(self)
        if self.over:
            return
        self._joined = True
        self._most_behind = self._client.behind_bytes + _BEHIND_BYTES
        if self._client.paused:  # by what it got just now, which was not told here
            self.pause()

    # What the entry tells.

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        self._answer.whole(status, headers, body)
        self._end("replayed", self._entry.error)

    def head(self, status: int, headers: Given) -> None:
        self._answer.head(status, headers)

    def piece(self, data: bytes) -> None:
        if self._joined and self._lags():
            failed = openai_errors.answer("stream_interrupted")
            self._entry.unsubscribe(self)
            self._answer.spoil(sse.error_event(failed.body))
            self._end("cut", "stream_interrupted")
        else:
            self._answer.piece(data)

    def comment(self, data: bytes) -> None:
        self._answer.comment(data)

    def finish(self) -> None:
        self._answer.finish()
        self._end("replayed", "")

    def spoil(self, data: bytes) -> None:
        self._answer.spoil(data)
        self._end("cut", self._entry.error)

    def fail(self) -> None:
        self._answer.cut()
        self._end("cut", self._entry.error)

    # What the connection tells.

    def gone(self) -> None:
        self._end("client_gone", "")
        self._entry.unsubscribe(self)

    def pause(self) -> None:
        self._entry.pause(self)

    def resume(self) -> None:
        self._entry.resume(self)

    def _lags(self) -> bool:
        behind = self._client.behind_bytes
        self._most_behind = min(self._most_behind, behind + _BEHIND_BYTES)
        # Where the engine waits, what is on its way is sent as well.
        return behind > self._most_behind and not (self._entry.waits or self._entry.paced)

    def _end(self, how: str, error: str) -> None:
        self.over = True
        self._told(how, error)
