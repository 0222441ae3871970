"""
HTTP/1.1 to a replica: connections that are kept alive, each with at most one request on it.

A `Taker` is what uses one: it is told of the answer as it comes, and never after it has let go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

import httptools

from gpuctl.gateway.chunks import alone, between, chunk, whole
from gpuctl.gateway.heads import Given
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.same_answer import SameAnswer, learned

#: llama.cpp (cpp-httplib) and vLLM (uvicorn) both close a connection idle for 5 s.
IDLE_SECONDS: Final = 4.0
# The engines' own heads are below 1 KiB.
_HEAD_BYTES: Final = 64 * 1024
# Heads that are learned in a row, and do not come again: those of some engines never do.
_LESSONS: Final = 4
_monotonic: Final = time.monotonic


class Taker:
    """Who is told of an answer; nothing more comes after `ended` or `lost`. See `sink`."""

    __slots__ = ()

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the head; names are as they were sent."""
        raise NotImplementedError

    def body(self, data: bytes) -> None:
        """Take a piece of the body, freed of its framing."""
        raise NotImplementedError

    def ended(self) -> None:
        """Know that the answer is whole."""
        raise NotImplementedError

    def whole(self, kind: Given, body: bytes) -> None:
        """
        Take an answer at once, and nothing else of it: only who *holds* one is told so.

        Args:
            kind: the head's content type.
            body: not empty; the status is 200.
        """
        raise NotImplementedError

    def lost(self, why: str, *, empty: bool, reused: bool) -> None:
        """
        Know that nothing more comes.

        Args:
            why: refused | timeout | reset | malformed
            empty: no byte of an answer had come.
            reused: the connection had served before, so that its end may be of no meaning.
        """
        raise NotImplementedError


class Connection:
    """One connection to one container of a replica."""

    __slots__ = (
        *("_answered", "_attempt", "_between", "_bodiless", "_container", "_done", "_head_bytes"),
        *("_headers", "_holds", "_keep", "_lessons", "_parser", "_reading", "_replica", "_reused"),
        *("_same", "_status", "_transport", "_until_close", "idle_since"),
    )

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._container = replica.container
        self._transport: asyncio.Transport | None = None
        self._attempt: Taker | None = None
        self._done: Taker | None = None  # its answer is whole, and it was not told yet
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._reused = self._answered = self._keep = self._until_close = False
        self._bodiless = self._holds = False
        self._between = False  # what comes next begins a chunk of the answer
        self._same: SameAnswer | None = None  # of the latest answer that came in one piece
        self._lessons = _LESSONS
        self._reading = True
        self._head_bytes = self._status = 0  # of the head that is not whole yet; of HTTP, 0: none
        self.idle_since = 0.0

    # What an attempt does with it.

    def send(self, attempt: Taker, data: bytes, *, holds: bool = False) -> None:
        """Send a request; the answer goes to the *attempt*, which *holds* it until it is whole."""
        self._attempt = attempt
        self._holds = holds
        self._answered = self._until_close = self._between = False
        self._bodiless = data.startswith(b"HEAD ")
        self._head_bytes = 0
        assert self._transport is not None
        self._transport.write(data)

    def pause(self) -> None:
        """Read no more for now: the client is slower than the replica."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close it at once: a replica that sees that stops working on the request."""
        self._attempt = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Return whether a request can be sent on it."""
        # One that the other side has closed is not among the idle.
        return self._transport is not None and self._container == self._replica.container

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # of uvloop: no subclass of it

    def data_received(self, data: bytes) -> None:
        attempt, same = self._attempt, self._same
        if attempt is None:  # nobody asked: whatever it is, it belongs to no request
            self._close()
            return
        if self._between and self._told(attempt, data):
            return
        first = not self._answered
        if first and same is not None and self._holds:
            body = same.body(data)
            if body is not None:
                self._attempt, self._lessons = None, _LESSONS
                self._rest()
                attempt.whole(same.kind, body)
                return
        self._answered = True
        self._parse(data)
        if self._done is not None:
            if first and self._keep and self._holds and self._lessons:
                self._same = learned(data, self._headers)
                self._lessons -= 1
            self._finish()
        else:
            self._between = first and self._status > 0 and between(data, self._headers)

    def _told(self, attempt: Taker, data: bytes) -> bool:
        """Return whether *data* is whole chunks, which the *attempt* was told of then."""
        begins, ends = alone(data), -2
        if not begins:
            begins, ends = chunk(data, 0)
            if not ends or not whole(data, ends + 2):
                return False
        try:
            attempt.body(data[begins:ends])
            while ends > 0 and self._attempt is not None:
                begins, ends = chunk(data, ends + 2)
                if ends:
                    attempt.body(data[begins:ends])
        except BaseException:
            self._lose("malformed")
            raise  # as in `_parse`
        return True

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._lose("malformed")
            raise  # not the replica's doing: one of ours, which the event loop tells of
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._done is None:
                self._lose("malformed")
                return
            self._keep = False
        if self._done is None and not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self._lose("malformed")

    def pause_writing(self) -> None:
        """Know that a request leaves slowly; it is held until it is answered in any case."""

    def resume_writing(self) -> None:
        """Know that it has left."""

    def eof_received(self) -> None:
        """Let the transport close itself: an engine that sends no more answers no more."""
        self._forsake()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._forsake()
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        if self._until_close and self._status and error is None:
            attempt.ended()
        else:
            attempt.lost("reset", empty=not self._answered, reused=self._reused)

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._done is not None:
            self._keep = False  # nobody asked for what follows the answer, nor may get it
        self._status = 0
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._attempt is None:  # 100 Continue: the answer is still to come
            return
        self._status = status
        self._keep = self._parser.should_keep_alive()
        if not self._keep:
            framed = {b"content-length", b"transfer-encoding"}
            self._until_close = not any(name.lower() in framed for name, _ in self._headers)
        self._attempt.headed(status, self._headers)
        if self._bodiless:
            self._keep = False  # the parser waits for the body that the head tells of
            self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        if self._attempt is not None and self._status:  # a status of less than 100 can have one
            self._attempt.body(data)

    def on_message_complete(self) -> None:
        if not self._status:
            return
        self._status = 0
        self._done, self._attempt = self._attempt, None

    def _finish(self) -> None:
        """Tell that the answer is whole, when the parser has seen whether more has come with it."""
        attempt, self._done = self._done, None
        if self._keep:
            self._rest()
        else:
            self._close()
        if attempt is not None:
            attempt.ended()

    def _rest(self) -> None:
        """Be there for the next request, unless another container runs there by now, or none."""
        replica = self._replica
        if self._reading and self._container == replica.container and replica.state != "down":
            self._reused = True
            replica.idle.append(self)
            self.idle_since = _monotonic()
        else:
            self._close()

    def _lose(self, why: str) -> None:
        attempt, self._attempt = self._attempt, None
        self._close()
        if attempt is not None:
            attempt.lost(why, empty=False, reused=self._reused)

    def _close(self) -> None:
        self._forsake()
        if self._transport is not None:
            self._transport.abort()

    def _forsake(self) -> None:
        if self in self._replica.idle:
            self._replica.idle.remove(self)


def idle(replica: Replica) -> Connection | None:
    """Take a connection that is open and unused; the latest used is the likeliest to be alive."""
    while replica.idle:
        connection = replica.idle.pop()
        if connection.usable:
            return connection
        connection.drop()
    return None


def close(replica: Replica) -> None:
    """Close all that is unused: nobody will ask this replica again."""
    while replica.idle:
        replica.idle.pop().drop()


def expire(replica: Replica, now: float) -> None:
    """Close what was idle for as long as engines wait, and what belongs to a container of old."""
    while replica.idle and (
        now - replica.idle[0].idle_since >= IDLE_SECONDS or not replica.idle[0].usable
    ):
        replica.idle.pop(0).drop()


async def connect(
    replica: Replica,
    seconds: float,
    opened: Callable[[Connection], None],
    failed: Callable[[str], None],
) -> None:
    """Open a connection and hand it over, or say why not: refused | timeout."""
    loop = asyncio.get_running_loop()

    made = Connection(replica)

    def protocol() -> asyncio.Protocol:
        return cast(asyncio.Protocol, made)  # of no base class, so that it can be compiled

    try:
        async with asyncio.timeout(seconds):
            if replica.uds:
                await loop.create_unix_connection(protocol, replica.uds)
            else:
                await loop.create_connection(protocol, replica.host, replica.port)
    except TimeoutError:
        failed("timeout")
    except OSError:
        failed("refused")
    else:
        opened(made)
