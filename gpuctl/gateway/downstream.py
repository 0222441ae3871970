"""
HTTP/1.1 from a client: bytes in, one `Request` at a time out, and the answer's bytes back.

Everything that a hostile client can do to a parser ends here: each limit has its status, each wait
its deadline, and after a refusal the rest is read for a moment, so that the refusal arrives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httptools

from gpuctl.gateway import openai_errors
from gpuctl.gateway.access import Shown
from gpuctl.gateway.request import Exchanging, Head, Request, last, too_large
from gpuctl.gateway.same_head import SameHead, learned

if TYPE_CHECKING:
    from gpuctl.gateway.gateway import Gateway

#: Requests sent ahead on one connection before the first was answered.
_PIPELINED: Final = 16
_IGNORED_BYTES: Final = 1024 * 1024  # after what is no request, while one is being answered
#: How long what still comes after a refusal is thrown away.
_LINGER_SECONDS: Final = 2.0
_NONE: Final = Request(Head())
_OVER: Final = frozenset(("broken", "lingering", "last"))


class Client:
    """One connection of a client."""

    __slots__ = (
        *("_ahead", "_body_count", "_closing", "_deadline", "_exchange"),
        *("_head_bytes", "_length", "_offered", "_parser", "_paused_at", "_request"),
        *("_same", "_served_bytes", "_state", "_transport", "gateway", "ip", "paused", "shown"),
    )

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._request = _NONE
        self._same: SameHead | None = None  # of the latest request that came in one piece
        self._offered = False  # the head wants another protocol: what follows is read without that
        self._ahead: list[Request] = []
        self._exchange: Exchanging | None = None
        #: head | body; then broken: it sent what is no request, while one is being answered;
        #: lingering; last: the answer is slow to leave
        self._state = "head"
        self._deadline = 0.0  # of what is awaited from the client while it awaits nothing
        self._head_bytes = 0  # received while there is no whole head, or after the body
        self._length = 0  # of the head's names and values
        self._body_count = 0  # of all that are held, against the gateway's budget
        self._served_bytes = 0  # ... of them, of the request that is being answered
        self._closing = False
        self.ip = ""
        self.shown = Shown()
        self.paused = False
        self._paused_at = 0.0

    # What an exchange does with it.

    def write(self, data: bytes) -> None:
        """Send a piece of an answer."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def behind_bytes(self) -> int:
        """What was written and has not left yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def finish(self, *, keep_alive: bool) -> None:
        """Know that the answer is complete: the next request is served, or the connection ends."""
        self._exchange = None
        self._release(self._served_bytes)
        if not keep_alive or (self._closing and not self._ahead):
            self._linger()
        elif self._ahead:
            self._await()
            self.gateway.soon(self._next)  # whoever ends this one is not done with it yet
        elif self.gateway.draining:
            self._linger()
        else:
            self._await()

    def abort(self) -> None:
        """End the connection in the middle of an answer, so that the client sees it as broken."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def close_if_idle(self) -> None:
        """End a connection without a request, or let it end with the one that it has."""
        if self._exchange is None and self._transport is not None and self._state == "head":
            self._transport.close()
        else:
            self._closing = True

    def sweep(self, now: float) -> None:
        """Refuse or end what took too long to come, and who takes nothing of an answer."""
        idle_seconds = self.gateway.terms.idle_seconds
        if self._exchange is not None and self._transport is not None:
            if self.paused and now >= self._paused_at + idle_seconds:
                self._transport.abort()
            return
        if self._transport is None or now < self._deadline:
            return
        begun = self._state == "body" or self._head_bytes
        if self._state == "lingering" and self._transport.get_write_buffer_size():
            # The answer has not left yet: as long as a stream may be silent, and no longer.
            self._deadline = now + idle_seconds
            self._state = "last"
        elif self._state not in _OVER and begun:
            self._refuse("request_timeout")
        else:
            self._transport.abort()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of uvloop: no subclass of it
        peer = transport.get_extra_info("peername")
        self.ip = peer[0] if isinstance(peer, tuple) else ""
        if not self.gateway.admit(self):
            transport.abort()  # type: ignore[attr-defined]
            return
        self._deadline = self.gateway.now() + self.gateway.terms.head_seconds

    def data_received(self, data: bytes) -> None:
        rests = self._state == "head" and not self._head_bytes and self._exchange is None
        if rests and self._again(data):
            return
        if self._state in _OVER:
            self._head_bytes += len(data)
            broken = self._state == "broken" and self._head_bytes > _IGNORED_BYTES
            if broken and self._transport is not None:
                self._transport.abort()
            return
        before = (self._request, self._body_count) if self._state == "body" else None
        self._feed(data)
        if self._state == "head" and not self._head_bytes:
            self._same = learned(data, self._request) if rests else None
            self._request = _NONE  # nothing is held of it here, for as long as the client rests
        if self._state == "body":
            # Trailers, or a chunk's extension, where there was no body: neither fills the memory.
            quiet = before == (self._request, self._body_count)
            self._head_bytes = self._head_bytes + len(data) if quiet else 0
        if self._state not in _OVER and self._head_bytes > self.gateway.terms.head_bytes:
            self._refuse(*too_large(self.gateway.terms))

    def eof_received(self) -> None:
        """Let the transport close: who sends no more has left (as with Go's net/http and nginx)."""
        if self._exchange is not None and self._transport is not None:
            self._transport.abort()  # at once, though some of the answer has not left

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._request, self._same = _NONE, None
        self._ahead.clear()
        self._release(self._body_count)
        self.gateway.left(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.gone()

    def pause_writing(self) -> None:
        self.paused, self._paused_at = True, self.gateway.now()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self._exchange is not None:
            self._exchange.resume()
        elif self._ahead:
            self.gateway.soon(self._next)

    def _next(self) -> None:
        """Serve what was sent ahead, unless the client takes no answers for now."""
        if self._exchange is None and not self.paused and self._ahead:
            self._begin(self._ahead.pop(0))

    def _again(self, data: bytes) -> bool:
        """Return whether this was one more request like the one before: it is begun then."""
        same = self._same
        if same is None or self._ahead or self.paused:
            return False
        if (request := same.request(data, self.gateway.terms)) is None:
            return False
        self._body_count += (size := len(request.body))
        if self.gateway.hold(size):
            self._begin(request)
        else:
            self._request = request
            self._refuse("too_many_bytes")
        return True

    def _feed(self, data: bytes) -> None:
        if self._state == "head":
            self._head_bytes += len(data)
        try:
            while data and self._state not in _OVER:
                data = self._parsed(data)
        except httptools.HttpParserCallbackError as error:
            # Not the client's doing: one of ours, below.
            self.gateway.broke(error.__context__ or error)
            self._refuse("internal_error")
        except httptools.HttpParserError:
            self._refuse("invalid_http")

    def _parsed(self, data: bytes) -> bytes:
        """Let the parser read; return what it has left of it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # RFC 9110, 7.8: an offer to speak something else (h2c) may be passed over. The parser
            # ends with that head; another one reads the body, and whatever follows.
            self._parser = httptools.HttpRequestParser(self)
            if self._offered:
                self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % self._request.framing)
                self._offered = False
            return data[upgrade.args[0] :]
        return b""

    # What the parser tells. While there is a head: of its trailers, or of itself once more.

    def on_message_begin(self) -> None:
        if self._state == "body":
            return
        if self._exchange is None:
            self._deadline = self.gateway.now() + self.gateway.terms.head_seconds
        self._head_bytes = self._head_bytes or 1
        self._request = Request(Head())
        self._length = 0

    def on_url(self, url: bytes) -> None:
        if self._state != "body":
            self._request.head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._state == "body":
            return
        name = name.lower()
        self._length += len(name) + len(value)
        if not self._request.take(name, value):
            self._refuse("invalid_http", f"the header {name.decode('latin-1')} came twice")

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        if self._state != "head":
            return
        self._state = "body"
        self._head_bytes = 0
        head = request.head
        head.method, head.version = parser.get_method(), parser.get_http_version()
        head.look()
        request.keep_alive = parser.should_keep_alive()
        if wrong := request.fault(self.gateway.terms, self._length + len(head.target)):
            self._refuse(*wrong)
        elif request.framing:
            self._offered = parser.should_upgrade()
            self._deadline = self.gateway.now() + self.gateway.terms.body_seconds
            waits = head.http11 and head.fields.get(b"expect", b"").lower() == b"100-continue"
            if waits and self._exchange is None and not self._ahead:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._state != "body":
            return
        self._body_count += len(data)
        if not self.gateway.hold(len(data)):
            self._refuse("too_many_bytes")
        elif self._request.add(data) > self.gateway.terms.body_bytes:
            most = self.gateway.terms.body_bytes
            self._refuse("request_too_large", f"a body may have {most} bytes")

    def on_message_complete(self) -> None:
        if self._state != "body" or self._offered:
            return
        self._state = "head"
        self._head_bytes = 0
        request = self._request
        request.whole()
        if self._exchange is None and not self._ahead and not self.paused:
            self._begin(request)
        elif len(self._ahead) < _PIPELINED:
            self._ahead.append(request)
        else:
            self._break_off()

    def _begin(self, request: Request) -> None:
        self._served_bytes = len(request.body)
        if not request.keep_alive:
            self._closing = True
        try:
            exchange = self.gateway.serve(self, request)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one connection, no more
            self.gateway.broke(error)
            self._ahead.clear()
            self._refuse("internal_error")
        else:
            if exchange is not None:  # else it is complete: `finish` has been called
                self._exchange = exchange

    def _refuse(self, code: str, message: str = "") -> None:
        """Answer what could not become a request, and end the connection."""
        if self._state in _OVER:
            return
        if self._exchange is not None or self._ahead:
            self._break_off()
            return
        answer = openai_errors.answer(code, message)
        told = self._request.head.fields.get(b"x-request-id")
        id = self.gateway.refused(self, code, answer.status, told)
        self.write(last(answer, id, self.gateway.date))
        self._linger()

    def _break_off(self) -> None:
        """Read no more: what came before is answered, and ends the connection."""
        self._state = "broken"
        self._closing = True

    def _await(self) -> None:
        """Give the client its time for the next request, or for the rest of it."""
        terms = self.gateway.terms
        seconds = terms.keep_alive_seconds
        if self._state == "body":
            seconds = terms.body_seconds
        elif self._head_bytes:
            seconds = terms.head_seconds
        self._deadline = self.gateway.now() + seconds

    def _linger(self) -> None:
        self._state = "lingering"
        self._exchange = None
        self._ahead.clear()
        self._release(self._body_count)
        self._deadline = self.gateway.now() + _LINGER_SECONDS
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def _release(self, size: int) -> None:
        if size:
            self.gateway.hold(-size)
            self._body_count -= size
        self._served_bytes = 0
