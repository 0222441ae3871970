"""
Server-sent events as bytes: where one ends, what one says, and those that the gateway itself sends.

Pieces of an upstream's body come in as the socket gave them; whole events go out, byte for byte.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from typing import Final

#: A comment, which every client skips.
KEEP_ALIVE: Final = b": keep-alive\n\n"
#: What ends a stream of /v1/chat/completions and /v1/completions.
DONE: Final = b"data: [DONE]\n\n"
#: How engines begin an event that is an error; no text of an answer has quotes without backslashes.
ERROR: Final = b'data: {"error"'
#: Of an event that has no end yet; an event of an engine is some hundred bytes.
MOST_KEPT_BYTES: Final = 1024 * 1024

_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LINE_ENDS: Final = re.compile(rb"\r\n|\n|\r")
_EVENT: Final = re.compile(rb".*?(?:\n\n|\r\n\r\n|\r\r)", re.DOTALL)


class Events:
    """What has come of one stream's next event."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> bytes:
        """
        Take the next bytes; return the events that are whole by now, b"" where none is.

        *data* itself is returned where it is whole events, as it nearly always is.

        Raises:
            ValueError: More than MOST_KEPT_BYTES came without an end of an event.
        """
        if not self._kept and (data[-2:] == b"\n\n" or data.endswith(_ENDS)):
            return data
        kept = self._kept
        # An end may have begun in what was kept: three of the longest one's four bytes.
        searched = max(0, len(kept) - 3)
        kept += data
        ends = [at + len(end) for end in _ENDS if (at := kept.rfind(end, searched)) >= 0]
        whole = bytes(kept[: max(ends)]) if ends else b""
        del kept[: len(whole)]
        if len(kept) > MOST_KEPT_BYTES:
            raise ValueError(f"an event of more than {MOST_KEPT_BYTES} bytes")
        return whole

    @property
    def kept(self) -> int:
        """The bytes that wait for the rest of their event: a stream that ends with some was cut."""
        return len(self._kept)


def single(events: bytes) -> bool:
    """Return whether this is one event, of lines that end with line feeds."""
    _, end, rest = events.partition(b"\n\n")
    return bool(end) and not rest and 0x0D not in events


def split(events: bytes) -> list[bytes]:
    """Return each event with the blank line that ends it; joined they are *events* again."""
    found: list[bytes] = _EVENT.findall(events)
    rest = events[sum(map(len, found)) :]
    return [*found, rest] if rest else found


def data(event: bytes) -> bytes | None:
    r"""Return what *event* carries, its lines joined by \n; None for a comment alone."""
    # 1. One line, as all engines write it.
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    # 2. Whatever else the format allows.
    lines = [line for line in _LINE_ENDS.split(event) if line.partition(b":")[0] == b"data"]
    if not lines:
        return None
    return b"\n".join(line.partition(b":")[2].removeprefix(b" ") for line in lines)


def comments(piece: bytes) -> bool:
    """Return whether a piece of a stream is comments alone, each of them whole."""
    lines = _LINE_ENDS.split(piece)
    return piece.endswith(_ENDS) and all(line[:1] in (b"", b":") for line in lines)


def error_event(body: bytes) -> bytes:
    """
    Return the event that ends a stream which has begun: an OpenAI error object.

    Source: the `openai` client raises APIError on any event whose data has `error`, named or not.
    """
    return event(body)


def event(carried: bytes) -> bytes:
    """Return the event that carries this, whatever lines it has."""
    lines = carried.splitlines() or [b""]
    return b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
