"""
A head that has come before on a connection, and comes again but for its content-length. PURE.

Clients say the same of themselves with every request. `downstream` learns a head when the parser
has found a request that came in one piece, and asks with the next piece: where that is one request
with this very head, byte for byte, nothing is left to be parsed. All else is the parser's.
"""

from __future__ import annotations

import re
from typing import Final

from gpuctl.gateway.request import Head, Request
from gpuctl.gateway.terms import Terms

_END: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 10
#: It is held for as long as its connection rests, with what is made of it: no client's is half so
#: large, but of one that would have the memory filled.
_MOST_BYTES: Final = 4096
_LENGTH: Final = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE
)
#: With one of these the connection is not the same after the request.
_TURNS: Final = (b"expect", b"upgrade", b"transfer-encoding")


class SameHead:
    """One head: its bytes around the length, and what the parser has read of it."""

    __slots__ = ("_after", "_before", "_head")

    def __init__(self, before: bytes, after: bytes, head: Head) -> None:
        self._before, self._after, self._head = before, after, head

    def request(self, data: bytes, terms: Terms) -> Request | None:
        """Return the request that *data* is, None where it has another head or is not just one."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = end = len(before)
        last = min(len(data), start + _MOST_DIGITS)
        number = 0
        while end < last:
            digit = data[end] - 0x30
            if digit < 0 or digit > 9:
                break
            number = 10 * number + digit
            end += 1
        begins = end + len(after)
        if end == start or len(data) - begins != number or data[end:begins] != after:
            return None
        if number > terms.body_bytes or begins > terms.head_bytes:
            return None
        return Request(self._head, data[begins:])


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
    if begins > _MOST_BYTES:
        return None
    if not (head.http11 and request.keep_alive) or any(name in head.fields for name in _TURNS):
        return None
    return SameHead(data[: found.start(1)], data[found.end(1) : begins], head)
