"""A request as it came from a client, and the bytes of an answer that no request is behind."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol

from gpuctl.gateway import endpoints, heads, openai_errors
from gpuctl.gateway.terms import Terms

# Those of which a second one would let two readers see two different requests (RFC 9112, 6.3).
_SINGLE: Final = frozenset((b"host", b"transfer-encoding", b"content-type", b"authorization"))
#: Status → its phrase.
PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Exchanging(Protocol):
    """What is done for the request of a client; see `exchange`."""

    def gone(self) -> None:
        """Stop: the client has left."""

    def pause(self) -> None:
        """Send no more for now: the client is slow."""

    def resume(self) -> None:
        """Go on sending."""


class Head:
    """
    What a request says before its body, but for its content-length.

    Clients say the same again and again, and every request that comes with a head that came before
    shares it (see `same_head`): what is asked of its fields each time is found once, by `look`.
    """

    __slots__ = (
        *("content_type", "encoded", "endpoint", "fields", "headers", "id", "idempotency_key"),
        *("lines", "method", "priority", "session", "target", "version"),
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = "1.1"  # of HTTP
        self.headers: heads.Headers = []  # names in lower case, in their order
        self.fields: dict[bytes, bytes] = {}  # the first of each name
        # What `look` finds.
        self.endpoint: endpoints.Endpoint | None = None  # None: `endpoints.find` is to be asked
        self.lines = b""  # that go to an engine
        self.content_type = b""
        self.encoded = False  # the body is compressed, or the like
        self.id: bytes | None = None  # that the client has given it
        self.idempotency_key: bytes | None = None
        self.priority: bytes | None = None
        self.session: bytes | None = None  # the conversation that it is of

    def look(self) -> None:
        """Find what is asked of it, now that it is whole."""
        fields = self.fields
        self.endpoint = endpoints.exact(self.method, self.target)
        self.lines = heads.inference(fields)
        self.content_type = fields.get(b"content-type", b"")
        self.encoded = fields.get(b"content-encoding", b"identity") != b"identity"
        self.id = fields.get(b"x-request-id")
        self.idempotency_key = fields.get(b"idempotency-key")
        self.priority = fields.get(b"x-gpuctl-priority")
        self.session = fields.get(b"x-session-id")

    @property
    def http11(self) -> bool:
        return self.version == "1.1"


class Request:
    """One request, whole."""

    __slots__ = ("_grows", "body", "head", "keep_alive", "length")

    def __init__(self, head: Head, body: bytes = b"") -> None:
        self.head = head  # of others too
        self.body = body
        self.keep_alive = True
        self.length: bytes | None = None  # its content-length, where a parser has read it
        self._grows: bytearray | None = None  # the body, where it comes in pieces

    def take(self, name: bytes, value: bytes) -> bool:
        """Take a header, its name in lower case; return whether it may stand there."""
        head = self.head
        if name == b"content-length":
            once, self.length = self.length is None, value
            return once
        head.headers.append((name, value))
        if name not in head.fields:
            head.fields[name] = value
            return True
        return name not in _SINGLE

    def add(self, data: bytes) -> int:
        """Take a piece of the body; return how many bytes there are by now."""
        if self._grows is not None:
            self._grows += data
        elif self.body:
            self._grows = bytearray(self.body)
            self._grows += data
        else:
            self.body = data
        return len(self.body) if self._grows is None else len(self._grows)

    def whole(self) -> None:
        """Know that no piece is to come."""
        if self._grows is not None:
            self.body, self._grows = bytes(self._grows), None

    @property
    def framing(self) -> bytes:
        """The header line that says how long its body is; empty where it has none."""
        if b"transfer-encoding" in self.head.fields:
            return b"transfer-encoding: chunked\r\n"
        length = self.length
        return b"content-length: %s\r\n" % length if length and length.strip(b"0") else b""

    def fault(self, terms: Terms, head_bytes: int) -> tuple[str, str] | None:
        """
        Return the code and the words of what its head may not be; `None` where it is proper.

        Args:
            terms: of the gateway.
            head_bytes: of its target, and of the headers' names and values.
        """
        head, length = self.head, self.length
        if head_bytes > terms.head_bytes:
            return too_large(terms)
        if len(head.headers) + (length is not None) > terms.headers:
            return "headers_too_large", f"a request may have {terms.headers} headers"
        if head.version not in ("1.0", "1.1"):
            return "invalid_http", "HTTP/1.1 is spoken here, and HTTP/1.0"
        if head.http11 and b"host" not in head.fields:
            return "invalid_http", "the header host is missing"
        coding = head.fields.get(b"transfer-encoding")
        # RFC 9112, 6.1: chunked in HTTP/1.0 is a fault of framing as well.
        if coding is not None and not (head.http11 and length is None and _chunked(coding)):
            return "invalid_http", "a body is sent with content-length, or chunked"
        if length is not None and (not length.isdigit() or len(length) > 18):
            return "invalid_http", "content-length is not a number"
        if length is not None and int(length) > terms.body_bytes:
            return "request_too_large", f"a body may have {terms.body_bytes} bytes"
        return None


def too_large(terms: Terms) -> tuple[str, str]:
    """Return the code and the words of a head without end."""
    return "headers_too_large", f"the head of a request may have {terms.head_bytes} bytes"


def _chunked(coding: bytes) -> bool:
    return coding.lower() == b"chunked"


def last(answer: openai_errors.Answer, id: str, date: bytes) -> bytes:
    """Return the whole answer to what could not become a request; the connection ends with it."""
    lines = [b"HTTP/1.1 %d %s" % (answer.status, PHRASES[answer.status])]
    lines.append(b"x-request-id: %s\r\n%s" % (id.encode(), date[:-2]))
    lines += [b"%s: %s" % header for header in answer.headers]
    lines += [b"content-length: %d" % len(answer.body), b"connection: close", b"", b""]
    return b"\r\n".join(lines) + answer.body
