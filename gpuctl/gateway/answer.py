"""
One answer on its way to a client: its head with what the gateway adds, its body in HTTP framing.

`exchange` and the followers of an idempotent request write through it, and nothing else does.
"""

from __future__ import annotations

from typing import Final

from gpuctl.gateway.downstream import Client
from gpuctl.gateway.heads import Given
from gpuctl.gateway.record import Record
from gpuctl.gateway.request import PHRASES, Request
from gpuctl.gateway.sink import Sink

JSON: Given = ((b"content-type", b"application/json"),)
#: nginx keeps a stream back without the last one.
EVENTS: Given = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
#: Of chunks as small as one event is.
_SIZES: Final = [b"%x\r\n" % size for size in range(1024)]
#: Statuses of answers that end with their head (RFC 9112, 6.3).
_NO_BODY: Final = frozenset((204, 304))
_LINES: Final = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, phrase) for status, phrase in PHRASES.items()
}


class Answer(Sink):
    """Writes one answer; its methods may be called after the client has left."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_client",
        "_keep_alive",
        "_record",
        "_request",
        "extra",
    )

    def __init__(self, client: Client, request: Request, record: Record) -> None:
        super().__init__()
        self._client = client
        self._request = request
        self._record = record
        self._keep_alive = request.keep_alive
        self._chunked = False
        self._bodiless = request.method == b"HEAD"
        self.extra = b""  # header lines, of rate limits and the like

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        """Send all of it."""
        if status in _NO_BODY:
            self.head(status, headers)
        elif self._bodiless:
            head = self._head(status, (*headers, (b"content-length", b"%d" % len(body))))
            self._client.write(head)
        else:
            head = self._head(status, headers)
            self._client.write(b"%scontent-length: %d\r\n\r\n%s" % (head[:-2], len(body), body))
        self._record.response_bytes += len(body)
        self.end()

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        """Begin one that comes in pieces; *length* is that of its body, where it is known."""
        self.begun = True
        self._bodiless = self._bodiless or status in _NO_BODY
        self._chunked = length is None and self._request.http11 and not self._bodiless
        if status in _NO_BODY:
            if length is not None and status == 304:
                headers = (*headers, (b"content-length", length))
        elif length is not None:
            headers = (*headers, (b"content-length", length))
        elif self._chunked:
            headers = (*headers, (b"transfer-encoding", b"chunked"))
        else:
            self._keep_alive = False  # HTTP/1.0 sees the end in the connection's end
        self._client.write(self._head(status, headers))

    def piece(self, data: bytes) -> None:
        """Send what comes next."""
        self.sent = True
        if self._bodiless:
            return
        self._record.response_bytes += len(data)
        self._client.write(_framed(data) if self._chunked else data)

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

    def _head(self, status: int, headers: Given) -> bytes:
        record = self._record
        record.status = status
        line = _LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
        lines = b""
        if record.replica:
            lines = _times(record)
        for name, value in headers:
            lines += name + b": " + value + b"\r\n"
        if not self._keep_alive:
            lines += b"connection: close\r\n"
        elif not self._request.http11:
            lines += b"connection: keep-alive\r\n"
        id = record.id.encode()
        return (
            line
            + b"x-request-id: "
            + id
            + b"\r\n"
            + self._client.gateway.date
            + lines
            + self.extra
            + b"\r\n"
        )


def _framed(data: bytes) -> bytes:
    """Return a chunk (RFC 9112, 7.1)."""
    size = len(data)
    if size < len(_SIZES):
        return _SIZES[size] + data + b"\r\n"
    return b"%x\r\n%s\r\n" % (size, data)


def _times(record: Record) -> bytes:
    """Return the lines of who answered, and how long it took; to a tenth of a millisecond."""
    total, queue = int(record.seconds * 10_000), int(record.queued_seconds * 10_000)
    rest = total - queue
    return (
        f"x-gpuctl-replica: {record.replica}\r\nserver-timing: "
        f"queue;dur={queue // 10}.{queue % 10}, upstream;dur={rest // 10}.{rest % 10}\r\n"
        f"openai-processing-ms: {total // 10}\r\n"
    ).encode()
