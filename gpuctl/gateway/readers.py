"""
What becomes of a replica's answer: four ways, by what was asked.

`Whole` holds it until it is complete, so that a replica which dies meanwhile costs the client
nothing. `Streamed` passes on whole events. `Collected` makes one answer of a stream. `Passed`
passes on what comes. An `Attempt` makes one for itself.
"""

from __future__ import annotations

from typing import Final

from gpuctl.gateway import heads, sse, usage
from gpuctl.gateway.answer import EVENTS
from gpuctl.gateway.collect import MALFORMED, MOST_COLLECTED_BYTES, Collector, Failed, failure
from gpuctl.gateway.counts import Usage
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.record import Record
from gpuctl.gateway.sink import Sink

#: Larger answers are passed on before they are complete.
WHOLE_BYTES: Final = 1024 * 1024
#: Engines send an event for each token here, or for some at once, and one more that begins. No text
#: within an event looks like it: its quotes are escaped.
_BY_TOKEN: Final = frozenset(("/v1/chat/completions", "/v1/completions"))
_EVENT: Final = b'data: {"'


_DONE: Final = (sse.DONE, b"data: [DONE]\r\n\r\n")


class Reader:
    """Takes an answer that is not an error."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False  # the client has all of it, before it has ended

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        raise NotImplementedError

    def silent(self, data: bytes) -> bool:
        """
        Return whether a piece says nothing.

        Engines send comments while they work, or hang: llama.cpp every 30 s of silence
        (`sse_ping_interval`), llama-cpp-python every 15 s (sse-starlette). They are no answer and
        no sign of life, and the gateway makes its own.
        """
        return False

    def body(self, data: bytes) -> None:
        """
        Take a piece.

        Raises:
            Failed: an error is in it.
            ValueError: it is larger than can be held.
        """
        raise NotImplementedError

    def ended(self) -> None:
        """
        Send what is left.

        Raises:
            Failed: it was an error after all, or not whole.
        """
        raise NotImplementedError


class Whole(Reader):
    """Holds an answer until it is complete."""

    __slots__ = ("_headers", "_parts", "_record", "_sink", "_size", "_status", "_tail")

    def __init__(self, sink: Sink, record: Record) -> None:
        super().__init__()
        self._sink, self._record = sink, record
        self._headers: Given = ()
        self._parts: list[bytes] = []
        self._size = self._status = 0
        self._tail = b""

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status, self._headers = status, heads.content_type(headers)

    def silent(self, data: bytes) -> bool:
        return False

    def body(self, data: bytes) -> None:
        self._size += len(data)
        if self._sink.begun:
            self._tail = (self._tail + data)[-usage.END_BYTES :]
            self._sink.piece(data)
            return
        self._parts.append(data)
        if self._size > WHOLE_BYTES:
            held = b"".join(self._parts)
            self._parts = [held[: usage.END_BYTES]]
            self._tail = held[-usage.END_BYTES :]
            self._sink.head(self._status, self._headers)
            self._sink.piece(held)

    def ended(self) -> None:
        if self._sink.begun:
            count(self._record, usage.of_ends(self._parts[0], self._tail))
            self._sink.finish()
            return
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        give(self._sink, self._record, self._status, self._headers, body)


class Streamed(Reader):
    """
    Passes on an event when it is complete, without the usage that only the gateway asked for.

    Until the engine tells of its usage, as it does at the end, the events are counted: whoever
    leaves before that has had the tokens all the same.
    """

    __slots__ = (
        *("_body", "_count", "_counts", "_events", "_headers", "_record", "_sink", "_status"),
        "_strip",
    )

    def __init__(self, sink: Sink, record: Record, *, strip: bool) -> None:
        super().__init__()
        self._sink, self._record, self._strip = sink, record, strip
        self._counts = record.endpoint in _BY_TOKEN
        self._count = -1  # the one that begins has no token
        self._events = sse.Events()
        self._status, self._headers = 200, EVENTS
        self._body: bytearray | None = None  # of an engine that answers without a stream after all

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        kind = heads.content_type(headers)
        if not kind or not kind[0][1].startswith(b"text/event-stream"):
            self._body, self._status, self._headers = bytearray(), status, kind

    def silent(self, data: bytes) -> bool:
        return self._body is None and not self._events.kept and sse.comments(data)

    def body(self, data: bytes) -> None:
        if self._body is not None:
            self._body += data
            if len(self._body) > MOST_COLLECTED_BYTES:
                raise ValueError("an answer too large to be held, where events were asked for")
            return
        events = self._events.feed(data)
        if self._counts and _usual(events):
            self._pass(events, 1)
            return
        at = events.find(sse.ERROR)
        if at >= 0:
            self._fail(events, at)
        self._take(events)

    def _fail(self, events: bytes, at: int) -> None:
        """Raise the error that comes there, if it is one; who has had something gets the rest."""
        failed = failure(events[at:])
        if failed is not None:
            if self._sink.sent:
                self._take(events[:at])
            raise failed

    def _take(self, events: bytes) -> None:
        found = usage.in_events(events)
        if found is not None:
            count(self._record, found)
            self._counts = False
            if self._strip:
                events = usage.strip(events)
        if events:
            self._pass(events, events.count(_EVENT))
            # The openai client closes its connection at this, before the answer's own end.
            self.done = events.endswith(_DONE)

    def _pass(self, events: bytes, count: int) -> None:
        """Send some that are whole; so many of them have a token, unless one began."""
        if self._counts:
            self._count += count
            if self._count > 0:
                self._record.completion_tokens = self._count
        if not self._sink.begun:
            self._sink.head(200, EVENTS)
        self._sink.piece(events)

    def ended(self) -> None:
        if self._body is not None:
            self._ended_whole(bytes(self._body))
            return
        if self._events.kept:
            raise Failed(MALFORMED, b"")
        if not self._sink.begun:
            self._sink.head(200, EVENTS)
        self._sink.finish()

    def _ended_whole(self, body: bytes) -> None:
        count(self._record, usage.of_body(body))
        if self._sink.begun:  # a comment has told the client that events come
            self._sink.piece(sse.event(body))
            self._sink.finish()
        else:
            self._sink.whole(self._status, self._headers, body)


class Collected(Reader):
    """
    Makes one answer of a stream: an engine that streams sees at once that a client has left.

    Its events are counted as those of `Streamed`, for who leaves before the engine tells.
    """

    __slots__ = ("_collector", "_count", "_events", "_record", "_sink", "_whole")

    def __init__(self, sink: Sink, record: Record, kind: str) -> None:
        super().__init__()
        self._sink, self._record = sink, record
        self._events = sse.Events()
        self._collector = Collector(kind)
        self._count = -1  # as in `Streamed`
        self._whole: Whole | None = None

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        kind = heads.content_type(headers)
        if not kind or not kind[0][1].startswith(b"text/event-stream"):
            self._whole = Whole(self._sink, self._record)
            self._whole.headed(status, headers)

    def silent(self, data: bytes) -> bool:
        return self._whole is None and not self._events.kept and sse.comments(data)

    def body(self, data: bytes) -> None:
        if self._whole is not None:
            self._whole.body(data)
            return
        events = self._events.feed(data)
        if events:
            self._count += events.count(_EVENT)
            if self._count > 0:
                self._record.completion_tokens = self._count
            self._collector.add(events)

    def ended(self) -> None:
        if self._whole is not None:
            self._whole.ended()
            return
        if not self._collector.done:
            raise Failed(MALFORMED, b"")
        give(self._sink, self._record, 200, JSON, self._collector.answer())


class Passed(Reader):
    """Passes on an answer as it comes."""

    __slots__ = ("_sink",)

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        length = next((value for name, value in headers if name.lower() == b"content-length"), None)
        self._sink.head(status, heads.passed_back(headers), length)

    def body(self, data: bytes) -> None:
        self._sink.piece(data)

    def ended(self) -> None:
        self._sink.finish()


def _usual(events: bytes) -> bool:
    """
    Return whether this is one event with a token, and nothing else: as nearly all pieces are.

    An error is told of at an event's beginning. `partition`, as `find` and `count` take twice as
    long to be called.
    """
    return (
        events[: len(_EVENT)] == _EVENT
        and events[: len(sse.ERROR)] != sse.ERROR
        and not events.partition(usage.WORD)[1]
        and sse.single(events)
    )


def give(sink: Sink, record: Record, status: int, kind: Given, body: bytes) -> None:
    """Send an answer that is complete, and note what it cost."""
    count(record, usage.of_body(body))
    sink.whole(status, kind, body)


def count(record: Record, found: Usage | None) -> None:
    """Note the tokens that an engine counted."""
    if found is not None:
        record.prompt_tokens, record.completion_tokens = found.prompt, found.completion or 0
        details = found.details
        record.cached_tokens = details.cached if details is not None else None
