"""
The head of an answer that comes again on its connection, but for its length and its date. PURE.

An engine says the same of itself with every answer. `upstream` learns the head of one that came in
a single piece and that the parser found plain, and asks with the next: where that is one answer
with this very head, byte for byte, nothing is left to be parsed. All else is the parser's.
"""

from __future__ import annotations

import re
from typing import Final

from gpuctl.gateway import heads
from gpuctl.gateway.heads import Given, Headers

_OK: Final = b"HTTP/1.1 200 "
_END: Final = b"\r\n\r\n"
# Of a body below the size up to which an answer is held until it is complete.
_MOST_DIGITS: Final = 6
_LENGTH: Final = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE
)
# uvicorn, under vLLM and llama-cpp-python, sends one; llama.cpp does not. RFC 9110, 5.6.7.
_MOMENT: Final = rb"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
_DATE: Final = re.compile(rb"\r\ndate:[ \t]*(" + _MOMENT + rb")\r\n", re.IGNORECASE)
_ANOTHER: Final = re.compile(_MOMENT)
_DATE_BYTES: Final = len(b"Sun, 06 Nov 1994 08:49:37 GMT")
#: With one of these the connection is not the same after the answer.
_TURNS: Final = frozenset((b"transfer-encoding", b"upgrade"))


class SameAnswer:
    """One head: its bytes around the length, and what goes on to a client of it."""

    __slots__ = ("_after", "_before", "_date_after", "_date_before", "kind")

    def __init__(self, before: bytes, after: bytes, kind: Given) -> None:
        self._before, self._after = before, after
        self._date_before, self._date_after = -1, -1  # where in one of them; -1: not in it
        self.kind = kind

    def dated(self, at: int) -> None:
        """Let a date come there, counted without the digits of the length, which may change."""
        if at < len(self._before):
            self._date_before = at
        else:
            self._date_after = at - len(self._before)

    def body(self, data: bytes) -> bytes | None:
        """Return what follows this head in *data*; None where it is another or more or less."""
        start = len(self._before)
        if not data.startswith(self._before):
            came = data[:start]
            if not _another_date(self._before, came, self._date_before):
                return None
            self._before = came
        number, end = 0, start
        for end in range(start, min(len(data), start + _MOST_DIGITS + 1)):
            digit = data[end] - 0x30
            if digit < 0 or digit > 9:
                break
            number = 10 * number + digit
        begins = end + len(self._after)
        # One without a body has no first byte either, which is told of on its own.
        if number == 0 or begins + number != len(data):
            return None
        after = data[end:begins]
        if after != self._after:
            if not _another_date(self._after, after, self._date_after):
                return None
            self._after = after
        return data[begins:]


def _another_date(known: bytes, came: bytes, at: int) -> bool:
    """Return whether a part of a head comes again with nothing new but a date *at* its place."""
    stop = at + _DATE_BYTES
    return (
        at >= 0
        and came[:at] == known[:at]
        and came[stop:] == known[stop:]
        and _ANOTHER.fullmatch(came, at, stop) is not None
    )


def learned(data: bytes, headers: Headers) -> SameAnswer | None:
    """
    Return the head of an answer, None where it is not to be gone by.

    Args:
        data: What came for one request: an answer after which its connection is kept.
        headers: As the parser has found them.
    """
    begins = data.find(_END) + len(_END)
    found = _LENGTH.search(data, 0, begins)
    if found is None or not data.startswith(_OK) or len(data) - begins != int(found[1]):
        return None
    names = [name.lower() for name, _ in headers]
    if names.count(b"content-length") != 1 or not _TURNS.isdisjoint(names):
        return None
    start, end = found.span(1)
    same = SameAnswer(data[:start], data[end:begins], heads.content_type(headers))
    date = _DATE.search(data, 0, begins)
    if date is not None and names.count(b"date") == 1:
        at = date.start(1)
        same.dated(at if at < start else at - (end - start))
    return same
