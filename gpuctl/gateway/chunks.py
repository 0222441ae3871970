"""
Chunks of HTTP/1.1 (RFC 9112, 7.1) that came whole, as those of a stream nearly always do. PURE.

`upstream` asks where its parser rests between two of them: such chunks leave it there, and need not
be seen by it. All else is the parser's: the last one, extensions, and what is no chunk.
"""

from __future__ import annotations

from typing import Final

from gpuctl.gateway.heads import Headers

_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D
_LF: Final = 0x0A
# Of a size, in hexadecimal: an event has two or three.
_MOST_DIGITS: Final = 5
#: The first lines of chunks as small as one event is, as most engines write them.
LINES: Final = [b"%x\r\n" % size for size in range(1024)]


def alone(data: bytes) -> int:
    """Return where the content of one chunk begins that ends with *data*; 0: ask `chunk`."""
    total = len(data)
    size = total - (6 if total < 263 else 7)  # two digits, or three
    if size < 16 or size >= len(LINES):
        return 0
    line = LINES[size]
    begins = len(line)
    right = begins + size + 2 == total and data.startswith(line) and data.endswith(b"\r\n")
    return begins if right else 0


def chunk(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the chunk *at* that place begins and ends; 0 and 0: no whole."""
    size, place = 0, at
    most = min(len(data), at + _MOST_DIGITS)
    while place < most:
        digit = data[place] - 0x30
        if digit > 9:
            digit = (data[place] | 0x20) - 0x57
            if digit < 10:
                break
        if digit < 0 or digit > 15:
            break
        size = size * 16 + digit
        place += 1
    begins = place + 2
    ends = begins + size
    if size == 0 or ends + 2 > len(data):
        return 0, 0
    if data[place] != _CR or data[place + 1] != _LF or data[ends] != _CR or data[ends + 1] != _LF:
        return 0, 0
    return begins, ends


def whole(data: bytes, at: int) -> bool:
    """Return whether nothing but whole chunks, or nothing at all, comes from that place on."""
    while at < len(data):
        _, ends = chunk(data, at)
        if not ends:
            return False
        at = ends + 2
    return True


def between(data: bytes, headers: Headers) -> bool:
    """
    Return whether the next byte after *data* begins a chunk.

    Args:
        data: What came for one request: an answer's head, and what came with it.
        headers: As the parser has found them.
    """
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(codings) != 1 or codings[0].lower() != b"chunked":
        return False
    begins = data.find(_END) + len(_END)
    # A parser may take lone line feeds for line ends, and have seen the head's end before that.
    lone = data.count(b"\n", 0, begins) != data.count(b"\r\n", 0, begins)
    return begins >= len(_END) and not lone and whole(data, begins)
