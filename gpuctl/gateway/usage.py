"""
The tokens that a request cost, as the engine itself counted them.

`exchange` asks for them of each piece of a stream and of each whole answer, and has what only the
gateway asked for taken out again. In a stream that is a search for one word where there is nothing.

Source: `usage` of OpenAI's chat.completion, text_completion, embedding list and response objects;
the same in llama.cpp, vLLM and llama-cpp-python.
"""

from __future__ import annotations

from typing import Final

from msgspec import DecodeError

from gpuctl.gateway import sse
from gpuctl.gateway.counts import (
    Chunk,
    Usage,
    read_answer,
    read_chunk,
    read_end,
    read_new_usage,
    read_usage,
)

#: A larger body is not parsed: a millisecond of the event loop for each MiB. Its ends are searched.
MOST_PARSED_BYTES: Final = 1024 * 1024
#: Of a body's beginning and of its end: no engine's usage with what follows it is half as long.
END_BYTES: Final = 4096

# Looked for by `find`: CPython's `in` takes bytes for an int first, and makes and drops a TypeError
# of 1,200 instructions. Source: Objects/bytes_methods.c, _Py_bytes_contains (3.11).
WORD: Final = b'"usage"'
#: A name of its own: compiled, every use of an imported one is a lookup.
_read_end: Final = read_end
_BACKSLASH: Final = 0x5C
#: msgspec follows a thousand levels.
_WRONG: Final = (DecodeError, RecursionError)
#: What OpenAI writes into every chunk but the last.
_NOTHING: Final = b'"usage":null'


def of_body(body: bytes) -> Usage | None:
    """Return the usage of a whole JSON answer; None where it has none, or is something else."""
    if len(body) > MOST_PARSED_BYTES:
        return of_ends(body[:END_BYTES], body[-END_BYTES:])
    return _of_answer(body)


def of_ends(head: bytes, tail: bytes) -> Usage | None:
    """Return the usage of an answer of which only the first and the last bytes are at hand."""
    for end, at in ((tail, tail.rfind(WORD)), (head, head.find(WORD))):
        found = _read(end[at + len(WORD) :]) if at >= 0 else None
        if found is not None:
            return found
    return None


def in_events(data: bytes) -> Usage | None:
    """Return the last usage within whole events; None in all but one of a stream's pieces."""
    if data.find(WORD) < 0 or _null_alone(data):
        return None
    last = None
    for event in sse.split(data):
        carried = sse.data(event) if WORD in event else None
        last = (_of_answer(carried) if carried else None) or last
    return last


def strip(events: bytes) -> bytes:
    """
    Take out the chunk that `stream_options.include_usage` has added: usage, and no choice.

    Everything else stays as it is; *events* itself is returned where there is no such chunk.
    llama.cpp writes its `timings` into the last chunk of an answer, so they go back to the one
    before it, where they are without that option.
    """
    if events.find(WORD) < 0 or _null_alone(events):
        return events
    kept: list[bytes] = []
    found = sse.split(events)
    for event in found:
        chunk = _usage_alone(event)
        if chunk is None:
            kept.append(event)
        elif kept and (timings := bytes(chunk.timings)):
            kept[-1] = _with_timings(kept[-1], timings)
    return events if len(kept) == len(found) else b"".join(kept)


def _null_alone(events: bytes) -> bool:
    return events.count(WORD) == events.count(_NOTHING)


def _of_answer(body: bytes) -> Usage | None:
    """
    Return the usage of an answer, which engines write near its end, by what follows it alone.

    Of valid JSON that is as good as all of it. A quote with no backslash before it begins or ends a
    string, and none can end before `usage`: this one begins. What follows it is the rest of an
    object if it can be decoded as such, and of the outermost one, as nothing is left over; any
    later `usage` in it, written with escapes, is in that rest. Where the quick way fails, all of
    the body is decoded.

    What is broken before its usage is told of all the same: the client gets it as it is, and the
    engine has had that work.
    """
    at = body.rfind(WORD)
    # A body that begins with the word is no object.
    if at > 0 and body[at - 1] != _BACKSLASH:
        try:
            return _read_end(b"{" + body[at:]).usage
        except _WRONG:
            pass
    return _of_whole(body)


def _of_whole(body: bytes) -> Usage | None:
    try:
        answer = read_answer(body)
        usage = bytes(answer.usage)
        if usage in (b"", b"null") and answer.response:
            usage = bytes(read_answer(answer.response).usage)
    except _WRONG:
        return None
    return _of_counts(usage)


def _read(text: bytes) -> Usage | None:
    """Read the object that follows `"usage"`; no string in it has a brace."""
    value = text.lstrip(b" \t\r\n:")
    depth = 0
    for place, byte in enumerate(value, 1):
        depth += (byte == 0x7B) - (byte == 0x7D)
        if depth == 0:
            return _of_counts(value[:place])
    return None


def _of_counts(written: bytes) -> Usage | None:
    try:
        return read_usage(written)
    except _WRONG:
        pass
    try:
        new = read_new_usage(written)
    except _WRONG:
        return None
    return Usage(new.prompt, new.completion, new.details)


def _usage_alone(event: bytes) -> Chunk | None:
    carried = sse.data(event) if WORD in event else None
    if not carried:
        return None
    try:
        chunk = read_chunk(carried)
    except _WRONG:
        return None
    return chunk if chunk.choices == [] and chunk.usage else None


def _with_timings(event: bytes, timings: bytes) -> bytes:
    if not event.endswith(b"}\n\n"):
        return event
    return event[:-3] + b',"timings":' + timings + b"}\n\n"
