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
from gpuctl.gateway.counts import Chunk, Counts, Usage, read_answer, read_chunk, read_counts

#: A larger body is not parsed: a millisecond of the event loop for each MiB. Its ends are searched.
MOST_PARSED_BYTES: Final = 1024 * 1024
#: Of a body's beginning and of its end: no engine's usage with what follows it is half as long.
END_BYTES: Final = 4096

# Looked for by `find`: CPython's `in` takes bytes for an int first, and makes and drops a TypeError
# of 1,200 instructions. Source: Objects/bytes_methods.c, _Py_bytes_contains (3.11).
WORD: Final = b'"usage"'
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
    try:
        answer = read_answer(body)
    except DecodeError:
        return None
    nested = answer.response.usage if answer.response is not None else None
    return _usage(answer.usage or nested)


def _usage(counts: Counts | None) -> Usage | None:
    if counts is None:
        return None
    prompt = counts.prompt_tokens if counts.prompt_tokens is not None else counts.input_tokens
    if prompt is None:
        return None
    details = counts.prompt_tokens_details or counts.input_tokens_details
    return Usage(
        prompt,
        counts.completion_tokens or counts.output_tokens or 0,
        details.cached_tokens if details is not None else None,
    )


def _read(text: bytes) -> Usage | None:
    """Read the object that follows `"usage"`; no string in it has a brace."""
    value = text.lstrip(b" \t\r\n:")
    depth = 0
    for place, byte in enumerate(value, 1):
        depth += (byte == 0x7B) - (byte == 0x7D)
        if depth == 0:
            return _of_counts(value[:place])
    return None


def _of_counts(counts: bytes) -> Usage | None:
    try:
        return _usage(read_counts(counts))
    except DecodeError:
        return None


def _usage_alone(event: bytes) -> Chunk | None:
    carried = sse.data(event) if WORD in event else None
    if not carried:
        return None
    try:
        chunk = read_chunk(carried)
    except DecodeError:
        return None
    return chunk if chunk.choices == [] and chunk.usage else None


def _with_timings(event: bytes, timings: bytes) -> bytes:
    if not event.endswith(b"}\n\n"):
        return event
    return event[:-3] + b',"timings":' + timings + b"}\n\n"
