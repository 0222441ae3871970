"""
One answer on its way to a client: its head with what the gateway adds, its body in HTTP framing.

`exchange` and the followers of an idempotent request write through it, and nothing else does.
"""

from __future__ import annotations

from typing import Final

from gpuctl.gateway import heads
from gpuctl.gateway.chunks import LINES
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.record import Record
from gpuctl.gateway.request import PHRASES, Request
from gpuctl.gateway.sink import Sink

#: nginx keeps a stream back without the last one.
EVENTS: Given = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
#: What is as large as this is not copied to stand behind its head: those that follow one answer
#: share its bytes, and a copy of so much takes longer than one more piece to write.
APART_BYTES: Final = 64 * 1024
#: Tenths of a millisecond → milliseconds: most waits are as short as that.
_MILLISECONDS: Final = [b"%d.%d" % divmod(tenths, 10) for tenths in range(1000)]
_STATUSES: Final = {
    status: b"HTTP/1.1 %d %s\r\nx-request-id: " % (status, phrase)
    for status, phrase in PHRASES.items()
}
_OK: Final = b"HTTP/1.1 200 OK\r\nx-request-id: "
_JSON_LINE: Final = b"content-type: application/json\r\n"


class Answer(Sink):
    """Writes one answer; its methods may be called after the client has left."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_client",
        "_http11",
        "_keep_alive",
        "_record",
        "extra",
    )

    def __init__(self, client: Client, request: Request, record: Record) -> None:
        super().__init__()
        self._client = client
        self._record = record
        self._http11 = request.head.http11
        self._keep_alive = request.keep_alive
        self._chunked = False
        self._bodiless = request.head.method == b"HEAD"
        self.extra = b""  # header lines, of rate limits and the like

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        """Send all of it."""
        size = len(body)
        if _ends_with_head(status):
            self.head(status, headers)
        elif self._bodiless:
            lines = b"%scontent-length: %d\r\n" % (_lines(headers), size)
            self._client.write(self._made(status, lines, b"\r\n", b""))
        elif size < APART_BYTES:
            self._client.write(self._made(status, _lines(headers), heads.ending(size), body))
        else:
            self._client.write(self._made(status, _lines(headers), heads.ending(size), b""))
            self._client.write(body)
        self._record.response_bytes += size
        self.end()

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        """Begin one that comes in pieces; *length* is that of its body, where it is known."""
        self.begun = True
        ends = _ends_with_head(status)
        self._bodiless = self._bodiless or ends
        self._chunked = length is None and self._http11 and not self._bodiless
        lines = _lines(headers)
        if length is not None and status != 204:
            lines += b"content-length: %s\r\n" % length
        elif self._chunked:
            lines += b"transfer-encoding: chunked\r\n"
        elif not ends:
            self._keep_alive = False  # HTTP/1.0 sees the end in the connection's end
        self._client.write(self._made(status, lines, b"\r\n", b""))

    def piece(self, data: bytes) -> None:
        """Send what comes next."""
        self.sent = True
        if self._bodiless:
            return
        size = len(data)
        self._record.response_bytes += size
        if size < APART_BYTES or not self._chunked:
            self._client.write(_framed(data) if self._chunked else data)
        else:
            self._client.write(b"%x\r\n" % size)
            self._client.write(data)
            self._client.write(b"\r\n")

    def comment(self, data: bytes) -> None:
        """Send what is nothing of the answer, and keeps its connection open."""
        self._client.write(_framed(data) if self._chunked else data)

    def finish(self) -> None:
        """End one that was begun."""
        if self._chunked:
            self._client.write(b"0\r\n\r\n")
        self.end()

    def spoil(self, data: bytes) -> None:
        """End one that was begun with what says that it is not whole."""
        self.piece(data)
        self.finish()

    def end(self) -> None:
        """Let the client's next request be served."""
        self._client.finish(keep_alive=self._keep_alive)

    def cut(self) -> None:
        """Break off one that was begun, so that the client sees that it is not whole."""
        self._client.abort()

    def _made(self, status: int, lines: bytes, rest: bytes, body: bytes) -> bytes:
        """
        Return the head with what the gateway adds, then the *rest* of it and the *body*.

        With who answered, and how long it took: to a tenth of a millisecond. All in one piece, as
        each piece that is made on the way costs as much as what is in it.
        """
        record = self._record
        record.status = status
        begins, id, date = _begins(status), record.id.encode(), self._client.gateway.date
        if not self._keep_alive:
            lines += b"connection: close\r\n"
        elif not self._http11:
            lines += b"connection: keep-alive\r\n"
        if not record.signature:
            return b"%s%s\r\n%s%s%s%s%s" % (begins, id, date, lines, self.extra, rest, body)
        total, queue = int(record.seconds * 10_000), int(record.queued_seconds * 10_000)
        return b"%s%s\r\n%s%s%s, upstream;dur=%s\r\nopenai-processing-ms: %d\r\n%s%s%s%s" % (
            begins, id, date, record.signature, _tenths(queue), _tenths(total - queue),
            total // 10, lines, self.extra, rest, body,
        )  # fmt: skip


def _ends_with_head(status: int) -> bool:
    # RFC 9112, 6.3.
    return status == 204 or status == 304


def _begins(status: int) -> bytes:
    """Return what an answer begins with, up to its id."""
    if status == 200:
        return _OK
    return _STATUSES.get(status) or b"HTTP/1.1 %d Unknown\r\nx-request-id: " % status


def _lines(headers: Given) -> bytes:
    if headers is JSON:
        return _JSON_LINE
    lines = b""
    for name, value in headers:
        lines = b"%s%s: %s\r\n" % (lines, name, value)
    return lines


def _framed(data: bytes) -> bytes:
    """Return a chunk (RFC 9112, 7.1)."""
    size = len(data)
    if size < len(LINES):
        return LINES[size] + data + b"\r\n"
    return b"%x\r\n%s\r\n" % (size, data)


def _tenths(count: int) -> bytes:
    """Return so many tenths as a number."""
    if 0 <= count < 1000:
        return _MILLISECONDS[count]
    return b"%d.%d" % (count // 10, count % 10)
