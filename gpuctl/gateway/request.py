"""A request as it came from a client, and the bytes of an answer that no request is behind."""

from __future__ import annotations

from http import HTTPStatus

from gpuctl.gateway import openai_errors

#: Status → its phrase.
PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request:
    """One request, whole."""

    __slots__ = ("body", "head", "headers", "http11", "keep_alive", "method", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case, in their order
        self.head: dict[bytes, bytes] = {}  # the first of each name
        self.body = b""
        self.keep_alive = True
        self.http11 = True


def last(answer: openai_errors.Answer) -> bytes:
    """Return the whole answer to what could not become a request; the connection ends with it."""
    lines = [b"HTTP/1.1 %d %s" % (answer.status, PHRASES[answer.status])]
    lines += [b"%s: %s" % header for header in answer.headers]
    lines += [b"content-length: %d" % len(answer.body), b"connection: close", b"", b""]
    return b"\r\n".join(lines) + answer.body
