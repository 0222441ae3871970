"""What a client gets of a replica's answer, and what is counted of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuctl.gateway import readers, sse
from gpuctl.gateway.answer import EVENTS
from gpuctl.gateway.collect import MOST_COLLECTED_BYTES, Failed
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.readers import WHOLE_BYTES, Collected, Passed, Reader, Streamed, Whole
from gpuctl.gateway.record import Record
from gpuctl.gateway.sink import Sink

JSON_HEAD = [(b"Content-Type", b"application/json"), (b"Server", b"engine")]
EVENTS_HEAD = [(b"Content-Type", b"text/event-stream")]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


class Told(Sink):
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        super().__init__()

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        self.events.append(("whole", status, headers, body))

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        self.begun = True
        self.events.append(("head", status, headers, length))

    def piece(self, data: bytes) -> None:
        assert data, "an empty chunk ends a body"
        self.sent = True
        self.events.append(data)

    def comment(self, data: bytes) -> None:
        self.events.append(("comment", data))

    def cut(self) -> None:
        self.events.append("cut")

    def finish(self) -> None:
        self.events.append("finish")

    def spoil(self, data: bytes) -> None:
        self.events.append(("spoil", data))


def record() -> Record:
    return Record(id="r-1", at=0.0, began=0.0)


def tokens(noted: Record) -> tuple[int | None, int | None]:
    return noted.prompt_tokens, noted.completion_tokens


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event(id="a", object="chat.completion.chunk", created=1, model="m", choices=[choice])


LAST = event(id="a", object="chat.completion.chunk", model="m", choices=[], usage=USAGE)
ERROR = event(error={"code": 400, "message": "m"})
DOCUMENT = json.dumps({"id": "a", "choices": [], "usage": USAGE}).encode()


def read(reader: Reader, head: list[tuple[bytes, bytes]], *pieces: bytes) -> None:
    reader.headed(200, head)
    for piece in pieces:
        reader.body(piece)
    reader.ended()


@pytest.mark.parametrize("cut", [len(DOCUMENT), 1, 10])
def test_whole(cut: int) -> None:
    """An answer is told when it is complete, with its type alone of its head."""
    sink, noted = Told(), record()
    pieces = [DOCUMENT[:cut], DOCUMENT[cut:]] if cut < len(DOCUMENT) else [DOCUMENT]
    read(Whole(sink, noted), JSON_HEAD, *pieces)
    assert sink.events == [("whole", 200, JSON, DOCUMENT)]
    assert tokens(noted) == (3, 4)


def test_whole_of_nothing() -> None:
    sink = Told()
    read(Whole(sink, record()), [])
    assert sink.events == [("whole", 200, (), b"")]


def test_whole_too_large() -> None:
    """One that is too large to be held is passed on, and its tokens are counted."""
    sink, noted = Told(), record()
    large = b'{"data": [' + b"0, " * (WHOLE_BYTES // 2) + b"0]"
    rest = b', "usage": ' + json.dumps(USAGE).encode() + b"}"
    read(Whole(sink, noted), JSON_HEAD, large[:100], large[100:], rest[:20], rest[20:])
    assert sink.events[0] == ("head", 200, JSON, None)
    assert b"".join(sink.events[1:-1]) == large + rest
    assert sink.events[-1] == "finish"
    assert tokens(noted) == (3, 4)


@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("cut", [0, 5, 100])
def test_streamed(strip: bool, cut: int) -> None:
    """Whole events are passed on, without the usage that nobody but the gateway asked for."""
    sink, noted = Told(), record()
    data = chunk("a") + chunk("b", "stop") + LAST + sse.DONE
    reader = Streamed(sink, noted, strip=strip)
    read(reader, EVENTS_HEAD, *[piece for piece in (data[:cut], data[cut:]) if piece])
    assert sink.events[0] == ("head", 200, EVENTS, None)
    assert sink.events[-1] == "finish"
    wanted = data.replace(LAST, b"") if strip else data
    assert b"".join(sink.events[1:-1]) == wanted
    assert tokens(noted) == (3, 4)


def test_streamed_usage_alone() -> None:
    """A piece of which nothing is left is no piece."""
    sink = Told()
    reader = Streamed(sink, record(), strip=True)
    read(reader, EVENTS_HEAD, chunk("a"), LAST, sse.DONE)
    assert sink.events == [("head", 200, EVENTS, None), chunk("a"), sse.DONE, "finish"]


def test_streamed_nothing() -> None:
    """A stream without an event is one all the same."""
    sink = Told()
    read(Streamed(sink, record(), strip=False), EVENTS_HEAD)
    assert sink.events == [("head", 200, EVENTS, None), "finish"]


@pytest.mark.parametrize("before", [b"", chunk("a")], ids=["first", "after a chunk"])
def test_streamed_error(before: bytes) -> None:
    """An engine's error that comes before anything was sent is no stream at all."""
    sink = Told()
    reader = Streamed(sink, record(), strip=False)
    reader.headed(200, EVENTS_HEAD)
    with pytest.raises(Failed) as raised:
        reader.body(before + ERROR)
    assert (raised.value.status, sink.events) == (400, [])


def test_streamed_error_later() -> None:
    """... and later, whoever has had something gets all that came before it, and it is counted."""
    sink, noted = Told(), record()
    noted.endpoint = "/v1/chat/completions"
    reader = Streamed(sink, noted, strip=False)
    reader.headed(200, EVENTS_HEAD)
    reader.body(chunk("a"))
    with pytest.raises(Failed):
        reader.body(chunk("b") + chunk("c") + ERROR)
    assert sink.events == [("head", 200, EVENTS, None), chunk("a"), chunk("b") + chunk("c")]
    assert tokens(noted) == (None, 2)


def test_streamed_no_error() -> None:
    """A chunk that says that there is no error is a chunk."""
    sink = Told()
    none = b'data: {"error":null,"choices":[]}\n\n'
    read(Streamed(sink, record(), strip=False), EVENTS_HEAD, none)
    assert sink.events[1:] == [none, "finish"]


@pytest.mark.parametrize(
    ("reader", "head", "silent"),
    [
        pytest.param(Streamed(Told(), record(), strip=False), EVENTS_HEAD, True, id="streamed"),
        pytest.param(Streamed(Told(), record(), strip=False), JSON_HEAD, False, id="not streamed"),
        pytest.param(Collected(Told(), record(), "chat"), EVENTS_HEAD, True, id="collected"),
        pytest.param(Collected(Told(), record(), "chat"), JSON_HEAD, False, id="not collected"),
        pytest.param(Whole(Told(), record()), [], False, id="whole"),
        pytest.param(Passed(Told()), EVENTS_HEAD, False, id="passed"),
    ],
)
def test_silent(reader: Reader, head: list[tuple[bytes, bytes]], silent: bool) -> None:
    """A comment says nothing where events are read, and is what it is elsewhere."""
    reader.headed(200, head)
    assert reader.silent(b":\n\n") is silent


@pytest.mark.parametrize(
    "reader", [Streamed(Told(), record(), strip=False), Collected(Told(), record(), "chat")]
)
def test_not_silent_within_an_event(reader: Reader) -> None:
    """What looks like a comment may be the rest of an event."""
    reader.headed(200, EVENTS_HEAD)
    reader.body(b"data: {")
    assert not reader.silent(b":\n\n")


def test_streamed_half() -> None:
    """A stream that ends within an event was cut."""
    sink = Told()
    with pytest.raises(Failed):
        read(Streamed(sink, record(), strip=False), EVENTS_HEAD, chunk("a"), b"data: {")
    assert "finish" not in sink.events


def test_streamed_without_end() -> None:
    reader = Streamed(Told(), record(), strip=False)
    reader.headed(200, EVENTS_HEAD)
    with pytest.raises(ValueError, match="an event of more than"):
        reader.body(b"x" * (sse.MOST_KEPT_BYTES + 1))


@pytest.mark.parametrize("head", [JSON_HEAD, []])
def test_streamed_as_a_whole(head: list[tuple[bytes, bytes]]) -> None:
    """An engine that does not stream is answered by what it says."""
    sink, noted = Told(), record()
    read(Streamed(sink, noted, strip=True), head, DOCUMENT[:9], DOCUMENT[9:])
    assert [told[0] for told in sink.events] == ["whole"]
    assert sink.events[0][3] == DOCUMENT
    assert tokens(noted) == (3, 4)


@pytest.mark.parametrize("body", [DOCUMENT, b'{\n "usage": %s\n}' % json.dumps(USAGE).encode()])
def test_streamed_as_a_whole_after_a_comment(body: bytes) -> None:
    """... and where the client has been told that events come, it comes as one."""
    sink, noted = Told(), record()
    sink.head(200, EVENTS)
    sink.comment(sse.KEEP_ALIVE)
    read(Streamed(sink, noted, strip=True), JSON_HEAD, body[:9], body[9:])
    assert sink.events[2:] == [sse.event(body), "finish"]
    assert sse.data(sink.events[2]) == body
    assert tokens(noted) == (3, 4)


def test_collected() -> None:
    """One answer is made of a stream; nothing is told before it is complete."""
    sink, noted = Told(), record()
    reader = Collected(sink, noted, "chat")
    data = chunk("a") + chunk("b", "stop") + LAST + sse.DONE
    reader.headed(200, EVENTS_HEAD)
    for at in range(0, len(data), 7):
        reader.body(data[at : at + 7])
        assert sink.events == []
    reader.ended()
    ((what, status, headers, body),) = sink.events
    assert (what, status, headers) == ("whole", 200, JSON)
    assert json.loads(body)["choices"][0]["message"]["content"] == "ab"
    assert tokens(noted) == (3, 4)


@pytest.mark.parametrize("data", [chunk("a"), chunk("a") + b"data: [DO", b""])
def test_collected_half(data: bytes) -> None:
    """A stream that ends early is no answer, however its connection ends."""
    sink = Told()
    with pytest.raises(Failed):
        read(Collected(sink, record(), "chat"), EVENTS_HEAD, *([data] if data else []))
    assert sink.events == []


def test_collected_as_a_whole() -> None:
    """An engine that does not stream is answered by what it says."""
    sink = Told()
    read(Collected(sink, record(), "chat"), JSON_HEAD, DOCUMENT)
    assert sink.events == [("whole", 200, JSON, DOCUMENT)]


def test_passed() -> None:
    """Another service's answer comes as it is, but for what is of its connection."""
    sink = Told()
    head = [
        *((b"Content-Length", b"5"), (b"X-Own", b"1"), (b"Server", b"s")),
        *((b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"5")),
    ]
    read(Passed(sink), head, b"hel", b"lo")
    assert sink.events == [("head", 200, ((b"X-Own", b"1"),), b"5"), b"hel", b"lo", "finish"]


def test_streamed_as_a_whole_too_large() -> None:
    """What nobody streams and nobody could hold is given up."""
    reader = Streamed(Told(), record(), strip=False)
    reader.headed(200, JSON_HEAD)
    reader.body(bytes(MOST_COLLECTED_BYTES))
    with pytest.raises(ValueError, match="too large"):
        reader.body(b"x")


ORDINARY = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'


@pytest.mark.parametrize(
    ("piece", "usual"),
    [
        pytest.param(ORDINARY, True, id="one event"),
        pytest.param(ORDINARY * 2, False, id="two"),
        pytest.param(ORDINARY[:-2] + b"\r\n\r\n" + ORDINARY, False, id="two, one with CRLF"),
        pytest.param(b": a\n\n", False, id="a comment"),
        pytest.param(b"data: [DONE]\n\n", False, id="the end"),
        pytest.param(USED, False, id="usage"),
        pytest.param(b'data: {"error":{}}\n\n', False, id="an error"),
        pytest.param(b"", False, id="nothing whole"),
    ],
)
def test_what_is_usual(piece: bytes, usual: bool) -> None:
    """A piece that nothing needs to be looked for in is told by its beginning."""
    assert readers._usual(piece) is usual
