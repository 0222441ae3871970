"""Which headers go on to a replica, and which come back from one (RFC 9110, 7.6). PURE."""

from __future__ import annotations

from typing import Final

#: As a parser gives them, and as an answer takes them.
Headers = list[tuple[bytes, bytes]]
Given = tuple[tuple[bytes, bytes], ...]
#: Of most answers; `content_type` gives this very object, so that it need not be compared again.
JSON: Final[Given] = ((b"content-type", b"application/json"),)

# Of one connection, or of the gateway's own.
_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection", b"http2-settings"),
        *(b"host", b"content-length", b"expect", b"accept-encoding"),
    )
)
# Who the client is, is between it and the gateway; `x-forwarded-*` would be believed by an engine.
_OURS: Final = frozenset((b"authorization", b"x-api-key", b"cookie", b"x-request-id", b"forwarded"))
_TRACE: Final = (b"traceparent", b"tracestate")
_NOT_BACK: Final = _HOP | {
    b"server",
    b"date",
    b"x-request-id",
    b"set-cookie",
    b"openai-processing-ms",
}
#: Of the size of most bodies; a quarter of a MiB.
_ENDINGS: Final = [b"content-length: %d\r\n\r\n" % size for size in range(4096)]


def ending(size: int) -> bytes:
    """Return the end of a head that a body of that size follows."""
    return _ENDINGS[size] if size < 4096 else b"content-length: %d\r\n\r\n" % size


def inference(fields: dict[bytes, bytes]) -> bytes:
    """Return the lines that go to an engine: what it needs, and the trace the request is of."""
    lines = b"content-type: %s\r\n" % fields.get(b"content-type", b"application/json")
    for name in _TRACE:
        if name in fields:
            lines += b"%s: %s\r\n" % (name, fields[name])
    return lines


def passed_on(headers: Headers) -> bytes:
    """Return the lines that go to another service: all that is not of this connection or ours."""
    not_on = _HOP | _OURS | _named(headers)
    return b"".join(
        b"%s: %s\r\n" % (name, value)
        for name, value in headers
        if name not in not_on and not name.startswith(b"x-forwarded-")
    )


def content_type(headers: Headers) -> Given:
    """Return the one header of an engine's answer that goes back."""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return JSON if value == b"application/json" else ((b"content-type", value),)
    return ()


def passed_back(headers: Headers) -> Given:
    """Return what goes back of another service's answer."""
    not_back = _NOT_BACK | _named(headers)
    return tuple((name, value) for name, value in headers if name.lower() not in not_back)


def _named(headers: Headers) -> set[bytes]:
    """Return what `Connection` names: it is of that connection as well (RFC 9110, 7.6.1)."""
    return {
        word.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    }
