"""
A head that has come before on a connection, and comes again but for its content-length. PURE.

Clients say the same of themselves with every request. `downstream` learns a head when the parser
has found a request that came in one piece, and asks with the next piece: where that is one request
with this very head, byte for byte, nothing is left to be parsed. All else is the parser's.
"""

from __future__ import annotations

import re
from typing import Final

from gpuctl.gateway.request import Request
from gpuctl.gateway.terms import Terms

_END: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 10
_LENGTH: Final = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE
)
#: With one of these the connection is not the same after the request.
_TURNS: Final = (b"expect", b"upgrade", b"transfer-encoding")


class SameHead:
    """One head: its bytes around the length, and what the parser has read of it."""

    __slots__ = ("_after", "_before", "_length", "_request")

    def __init__(self, before: bytes, length: bytes, after: bytes, request: Request) -> None:
        self._before, self._length, self._after = before, length, after
        self._request = request

    def request(self, data: bytes, terms: Terms) -> Request | None:
        """Return the request that *data* is, None where it has another head or is not just one."""
        start = len(self._before)
        if data[:start] != self._before:
            return None
        number, end = 0, start
        for end in range(start, min(len(data), start + _MOST_DIGITS + 1)):
            digit = data[end] - 0x30
            if digit < 0 or digit > 9:
                break
            number = 10 * number + digit
        begins = end + len(self._after)
        if end == start or data[end:begins] != self._after:
            return None
        body = data[begins:]
        if len(body) != number or number > terms.body_bytes or begins > terms.head_bytes:
            return None
        return self._made(data[start:end], body)

    def _made(self, length: bytes, body: bytes) -> Request:
        known, made = self._request, Request()
        made.method, made.target, made.version = known.method, known.target, known.version
        made.body = body
        if length == self._length:
            made.headers, made.head = known.headers, known.head
        else:
            name = b"content-length"
            made.head = {**known.head, name: length}
            made.headers = [(n, length if n == name else value) for n, value in known.headers]
        return made


def learned(data: bytes, request: Request) -> SameHead | None:
    """
    Return the head of a request, None where it is not to be gone by.

    Args:
        data: What came when no other request was begun.
        request: The last that the parser has found in it.
    """
    begins = data.find(_END) + len(_END)
    found = _LENGTH.search(data, 0, begins)
    head = request.head
    if found is None or data[begins:] != request.body or len(request.body) != int(found[1]):
        return None
    if not (request.http11 and request.keep_alive) or any(name in head for name in _TURNS):
        return None
    known = Request()  # without the body: it is held for as long as the connection lasts
    known.method, known.target, known.version = request.method, request.target, request.version
    known.headers, known.head = request.headers, head
    return SameHead(data[: found.start(1)], found[1], data[found.end(1) : begins], known)
