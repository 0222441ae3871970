"""
One request at one replica: a connection for it, and what comes back through a reader.

It ends in one of three ways, told to its `Exchange` once: answered, an engine's error, or failed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gpuctl.gateway import upstream
from gpuctl.gateway.asked import Asked
from gpuctl.gateway.collect import MALFORMED, Failed
from gpuctl.gateway.heads import Given
from gpuctl.gateway.readers import Collected, Passed, Reader, Streamed, Whole, give
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.sink import Sink

if TYPE_CHECKING:
    from gpuctl.gateway.gateway import Gateway

#: Of an engine's error, more is not read.
_ERROR_BYTES: Final = 64 * 1024
_COLON: Final = ord(":")  # what comments of a stream begin with

Headers = list[tuple[bytes, bytes]]


class Owner:
    """Who is told how it ended; by then it has let go of its connection. See `sink`."""

    __slots__ = ()

    def answered(self, now: float) -> None:
        """Know that the whole answer went to the sink."""
        raise NotImplementedError

    def erred(self, status: int, headers: Headers, body: bytes, now: float) -> None:
        """Take the error that the engine answered with."""
        raise NotImplementedError

    def failed(self, why: str, *, refused: bool) -> None:
        """
        Know that no answer will come, or no more of it.

        Args:
            why: refused, where it was sent nowhere | timeout | reset | malformed
            refused: nobody listens there, or not any more.
        """
        raise NotImplementedError


class Attempt(upstream.Taker):
    """Made for each replica that a request is sent to."""

    __slots__ = (
        *("_asked", "_collects", "_connection", "_error", "_fresh", "_gateway", "_headers"),
        *("_owner",),
        *("_reader", "_record", "_sink", "_status", "_task", "first_byte", "moved_at"),
        *("replica", "sent", "sent_at", "token"),
    )

    def __init__(
        self, gateway: Gateway, replica: Replica, asked: Asked, sink: Sink, record: Record
    ) -> None:
        self._gateway = gateway
        self.replica = replica
        self._asked = asked
        self._sink = sink
        self._record = record
        self.sent = False  # there was a connection for it
        self.sent_at = 0.0  # when it began
        self.moved_at = 0.0  # when the replica last sent a byte
        self.first_byte = False
        self.token = 0  # of the replica's gate
        self._owner: Owner | None = None
        self._connection: upstream.Connection | None = None
        self._task: asyncio.Task[None] | None = None  # opens one
        self._collects = False  # the replica was asked to stream, the client has not
        self._reader: Reader | None = None  # of an answer that is no error, from its head on
        self._status = 0
        self._headers: Headers | None = None
        self._error: bytearray | None = None  # the body of an engine's error
        self._fresh = False  # a kept connection has ended under it

    def begin(self, owner: Owner, now: float) -> None:
        """Send the request; the *owner* may be told before this returns."""
        self._owner = owner
        replica, record = self.replica, self._record
        self.sent_at = self.moved_at = now
        # Of the attempt before, which nobody gets.
        record.completion_tokens = record.first_byte_seconds = None
        record.replica, record.container = replica.name, replica.container
        record.signature = replica.signature
        record.timeline.append((replica.sent, now - record.began))
        replica.requests += 1
        replica.last_use = now
        replica.open[self] = now
        self.token = replica.gate.begin(now)
        self._connect()

    @property
    def complete(self) -> bool:
        """Return whether the client has all of a stream: what is to come is its framing."""
        return self._reader is not None and self._reader.done

    def drop(self) -> None:
        """Give up: the replica's connection is closed, and the owner is not told."""
        self.leave()
        self._owner = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def leave(self) -> None:
        """Count no longer as in flight there."""
        self.replica.open.pop(self, None)

    def pause(self) -> None:
        """Let the replica wait: the client is slower."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self, now: float) -> None:
        """Let it go on."""
        self.moved_at = now
        if self._connection is not None:
            self._connection.resume()

    # A connection.

    def _connect(self) -> None:
        connection = None if self._fresh else upstream.idle(self.replica)
        if connection is not None:
            self._send(connection)
        else:
            self._task = self._gateway.open(self.replica, self._send, self._unopened)

    def _unopened(self, why: str) -> None:
        self._task = None
        refused = why == "refused"
        # After a kept connection that ended under it: the engine may have died of it.
        self._tell_failed("reset" if refused and self._fresh else why, refused=refused)

    def _send(self, connection: upstream.Connection) -> None:
        self._task = None
        self._connection = connection
        asked, replica = self._asked, self.replica
        if not self.sent:
            self.sent = True
            self._record.attempts += bool(replica.name)  # the operator's endpoints are no replica
        collects = self._collects = replica.collect_streams and bool(asked.collect)
        id = self._record.id.encode()
        data = asked.to(replica.authority, replica.authorization, id, collect=collects)
        connection.send(self, data, holds=asked.way == "whole" and not collects)

    # What `upstream` tells.

    def headed(self, status: int, headers: Headers) -> None:
        now = self._gateway.now()
        self.moved_at = self.replica.last_byte = now
        self._status, self._headers = status, headers
        if self._asked.way == "pass":
            self._first(now)
        elif status >= 300:  # a redirect would lead the client past the gateway
            self._error = bytearray()
            return
        reader = self._reader = self._made_reader()
        reader.headed(status, headers)

    def _made_reader(self) -> Reader:
        asked, sink, record = self._asked, self._sink, self._record
        if asked.way == "stream":
            return Streamed(sink, record, strip=asked.strip)
        if asked.way == "pass":
            return Passed(sink)
        if self._collects:
            return Collected(sink, record, asked.collect)
        return Whole(sink, record)

    def body(self, data: bytes) -> None:
        reader = self._reader
        if reader is not None and data[0] == _COLON and reader.silent(data):
            return
        now = self._gateway.now()
        self.moved_at = self.replica.last_byte = now
        if reader is None:
            assert self._error is not None
            if len(self._error) < _ERROR_BYTES:
                self._error += data
            return
        first = not self.first_byte
        if first:
            self._record.seconds = now - self._record.began
        try:
            reader.body(data)
        except Failed as failed:
            self._give_up(failed)
        except ValueError:  # an event without an end
            self._give_up(None)
        else:
            if first:  # only now: an error within the answer is none
                self._first(now)

    def ended(self) -> None:
        now = self._gateway.now()
        self._connection = None
        owner = self._owner
        assert owner is not None
        if self._error is not None:
            owner.erred(self._status, self._headers or [], bytes(self._error), now)
            return
        self._record.seconds = now - self._record.began
        assert self._reader is not None
        try:
            self._reader.ended()
        except Failed as failed:
            self._tell_error(failed, now)
        else:
            if not self.first_byte:
                self._first(now)
            owner.answered(now)

    def whole(self, kind: Given, body: bytes) -> None:
        now = self._gateway.now()
        self.moved_at = self.replica.last_byte = now
        self._connection = None
        owner = self._owner
        assert owner is not None
        self._first(now)
        give(self._sink, self._record, 200, kind, body)
        owner.answered(now)

    def lost(self, why: str, *, empty: bool, reused: bool) -> None:
        self._connection = None
        if empty and reused and self.replica.state != "down":
            # It was closed while it was idle, as engines do after some seconds: nothing is wrong.
            self._fresh = True
            self._connect()
        else:
            # A new one that ends without a word is docker-proxy in front of no container.
            self._tell_failed(why, refused=empty)

    def _first(self, now: float) -> None:
        self.first_byte = True
        gate = self.replica.gate
        # A trial that answers need not be over.
        if gate.retry_at is not None and gate.succeeded(self.token):
            self._gateway.gate_closed(self.replica, "answered")
        record = self._record
        record.seconds = record.first_byte_seconds = now - record.began
        record.timeline.append(("first_byte", record.seconds))

    def _give_up(self, failed: Failed | None) -> None:
        """End it before its answer ends: with the error that is in it, or as one that cannot be."""
        owner = self._owner
        self.drop()
        self._owner = owner
        if failed is not None:
            self._tell_error(failed, self._gateway.now())
        else:
            self._tell_failed("malformed", refused=False)

    def _tell_error(self, failed: Failed, now: float) -> None:
        if self._owner is not None and failed.status != MALFORMED:
            self._owner.erred(failed.status, self._headers or [], failed.body, now)
        else:
            self._tell_failed("malformed", refused=False)

    def _tell_failed(self, why: str, *, refused: bool) -> None:
        if self._owner is not None:
            self._owner.failed(why, refused=refused)
