"""One request at one replica: whether it was sent, and whose fault its end is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from gpuctl.gateway import attempt
from gpuctl.gateway.asked import Asked
from gpuctl.gateway.attempt import Attempt
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.gateway import Gateway
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.upstream import Connection
from tests.gateway.test_readers import Told
from tests.gateway.wires import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Owner(attempt.Owner):
    """Who is told how it ended."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def answered(self, now: float) -> None:
        self.told.append("answered")

    def erred(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, now: float
    ) -> None:
        self.told.append((status, body))

    def failed(self, why: str, *, refused: bool) -> None:
        self.told.append((why, refused))


class Host:
    """Stands for the gateway: it opens connections when the test says so."""

    def __init__(self) -> None:
        self.time = 100.0
        self.opened: list[Callable[[Connection], None]] = []
        self.refused: list[Callable[[str], None]] = []
        self.closed: list[str] = []  # gates, each by what closed it

    def now(self) -> float:
        return self.time

    def open(
        self,
        replica: Replica,
        opened: Callable[[Connection], None],
        failed: Callable[[str], None],
    ) -> Any:
        self.opened.append(opened)
        self.refused.append(failed)
        return self

    def cancel(self) -> None:
        """As a task."""

    def gate_closed(self, replica: Replica, why: str) -> None:
        self.closed.append(why)


class Bench:
    """An attempt that has begun, unless it was not *opened*."""

    def __init__(
        self, way: Any = "whole", *, kept: bool = False, collect: str = "", opened: bool = True
    ) -> None:
        self.host = Host()
        self.replica = Replica("chat-0", "chat", Gate(5, 30.0))
        self.replica.state, self.replica.container = "ready", "c1"
        self.replica.collect_streams = bool(collect)
        self.asked = Asked(way, b"POST /v1/chat/completions", b"", b"{}")
        self.asked.collect = collect
        self.wire = Wire()
        if kept:
            self.replica.idle.append(self.connection())
        if opened:
            self.renew()

    def renew(self) -> None:
        """Begin another one, for another request."""
        self.owner, self.sink = Owner(), Told()
        self.record = Record(id="r-1", at=0.0, began=100.0)
        host = cast(Gateway, self.host)
        self.attempt = Attempt(host, self.replica, self.asked, self.sink, self.record)
        self.attempt.begin(self.owner, 100.0)

    def connection(self) -> Connection:
        made, self.wire = Connection(self.replica), Wire()
        made.connection_made(cast(Any, self.wire))
        return made

    def open(self) -> Connection:
        """Let the connection be there that it waits for."""
        made = self.connection()
        self.host.opened.pop()(made)
        return made


def served(bench: Bench) -> Connection:
    """Return the connection that it uses, which has served before."""
    connection = bench.attempt._connection
    assert connection is not None
    connection._reused = True
    return connection


def test_answered() -> None:
    bench = Bench()
    assert list(bench.replica.open.values()) == [100.0]
    bench.open().data_received(OK)
    assert bench.owner.told == ["answered"]
    assert bench.wire.sent.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n")
    assert [told[0] for told in bench.sink.events] == ["whole"]


@pytest.mark.parametrize("why", ["refused", "timeout"])
def test_not_opened(why: str) -> None:
    """What finds nobody was sent nowhere."""
    bench = Bench()
    bench.host.refused.pop()(why)
    assert bench.owner.told == [(why, why == "refused")]
    assert (bench.attempt.sent, bench.record.attempts) == (False, 0)


def test_closed_without_a_word() -> None:
    """A new connection that ends so says that nobody is there; what was sent may have ended it."""
    bench = Bench()
    bench.open().connection_lost(None)
    assert bench.owner.told == [("reset", True)]


def test_stale() -> None:
    """A kept connection that ends so says nothing: a new one is tried."""
    bench = Bench(kept=True)
    served(bench).connection_lost(None)
    assert bench.owner.told == []
    bench.open().data_received(OK)
    assert bench.owner.told == ["answered"]
    assert bench.record.attempts == 1


def test_stale_then_refused() -> None:
    """One that ended with the engine took the request along: that was sent."""
    bench = Bench(kept=True)
    served(bench).connection_lost(None)
    bench.host.refused.pop()("refused")
    assert bench.owner.told == [("reset", True)]
    assert (bench.attempt.sent, bench.record.attempts) == (True, 1)


def test_stale_of_one_that_is_down() -> None:
    bench = Bench(kept=True)
    bench.replica.state = "down"
    served(bench).connection_lost(None)
    assert (bench.owner.told, bench.host.opened) == ([("reset", True)], [])


def test_lost_within() -> None:
    bench = Bench()
    connection = bench.open()
    connection.data_received(OK[:-1])
    connection.connection_lost(ConnectionResetError())
    assert bench.owner.told == [("reset", False)]
    assert bench.sink.events == []


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500, 503])
def test_error(status: int) -> None:
    """An engine's error, a redirect too, is told with its body, and counts as no first byte."""
    bench = Bench()
    head = b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\n" % status
    bench.open().data_received(head + b"why")
    assert bench.owner.told == [(status, b"why")]
    assert not bench.attempt.first_byte
    assert bench.sink.events == []


def test_error_without_end() -> None:
    """Of a huge error no more is kept than can be of use."""
    bench = Bench()
    connection = bench.open()
    connection.data_received(b"HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(100):
        connection.data_received(bytes(10_000))
    ((status, body),) = bench.owner.told
    assert status == 500
    assert len(body) < 100_000


def test_passed_error() -> None:
    """Another service's error is its answer."""
    bench = Bench("pass")
    bench.open().data_received(b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nwhy")
    assert bench.owner.told == ["answered"]
    assert bench.sink.events == [("head", 500, (), b"3"), b"why", "finish"]


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        pytest.param(b"400", 400, id="the request's"),
        pytest.param(b"500", 500, id="perhaps the replica's"),
        pytest.param(b"503", 503, id="the replica's"),
    ],
)
@pytest.mark.parametrize("more", [b"", b"data: [DONE]\n\n"])
def test_error_in_a_collected_stream(code: bytes, told: int, more: bytes) -> None:
    """It is what the request would have got without a stream, and is judged as that is."""
    bench = Bench(collect="chat")
    body = b'data: {"error": {"code": %s, "message": "m"}}\n\n' % code
    bench.open().data_received(EVENTS % (len(body + more), body + more))
    ((status, said),) = bench.owner.told
    assert (status, said) == (told, body[6:-2])
    assert bench.sink.events == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"data: nonsense\n\n", id="no chunk"),
        pytest.param(b"data: {", id="half an event"),
        pytest.param(b'data: {"choices": []}\n\n', id="without its end"),
    ],
)
def test_collected_in_vain(body: bytes) -> None:
    """A stream that makes no answer is the replica's failure."""
    bench = Bench(collect="chat")
    bench.open().data_received(EVENTS % (len(body), body))
    assert bench.owner.told == [("malformed", False)]
    assert bench.sink.events == []


CHUNKED = EVENTS.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("collect", ["", "chat"])
def test_comments_of_an_engine(collect: str) -> None:
    """They come from one that hangs as well: no answer has begun, and it has not moved."""
    bench = Bench("whole" if collect else "stream", collect=collect)
    connection = bench.open()
    connection.data_received(CHUNKED)
    bench.host.time = 130.0
    connection.data_received(b"3\r\n:\n\n\r\n")
    attempt = bench.attempt
    assert (attempt.first_byte, attempt.moved_at, bench.replica.last_byte) == (False, 100.0, 100.0)
    assert (bench.sink.events, bench.record.first_byte_seconds) == ([], None)
    connection.data_received(b"b\r\ndata: null\n\r\n")
    assert (attempt.first_byte, attempt.moved_at) == (True, 130.0)


def test_comments_that_are_passed_on() -> None:
    """What is passed on is another service's own affair."""
    bench = Bench("pass")
    bench.open().data_received(EVENTS % (3, b":\n\n"))
    assert bench.sink.events[1:] == [b":\n\n", "finish"]


def test_text_that_looks_like_a_comment() -> None:
    """Where no events come there is no comment."""
    bench = Bench()
    bench.open().data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n:-)\n\n")
    assert [told[3] for told in bench.sink.events] == [b":-)\n\n"]


def opened(bench: Bench) -> None:
    """Let what is sent next be the trial of the replica's gate."""
    gate = bench.replica.gate
    gate.failed(gate.begin(0.0), 0.0, refused=True)
    bench.attempt.token = gate.begin(100.0)


@pytest.mark.parametrize("collect", ["", "chat"])
def test_error_as_the_first_event(collect: str) -> None:
    """It is told as if its status were it, and neither a first byte nor a trial that is passed."""
    bench = Bench("whole" if collect else "stream", collect=collect)
    opened(bench)
    body = b'data: {"error": {"code": 500, "message": "m"}}\n\n'
    bench.open().data_received(EVENTS % (len(body), body))
    assert bench.owner.told == [(500, body[6:-2])]
    assert bench.sink.events == []
    assert bench.replica.gate.state(100.0) == "half_open"
    assert (bench.attempt.first_byte, bench.record.first_byte_seconds) == (False, None)


def test_trial_without_an_answer() -> None:
    """A stream that ends before it has said anything passes no trial."""
    bench = Bench(collect="chat")
    opened(bench)
    bench.open().data_received(EVENTS % (0, b""))
    assert bench.owner.told == [("malformed", False)]
    assert bench.replica.gate.state(100.0) == "half_open"


def test_error_within_a_stream() -> None:
    """Who has had something of the answer is told the same."""
    bench = Bench("stream")
    chunk = b'data: {"choices": []}\n\n'
    error = b'data: {"error": {"code": 400}}\n\n'
    connection = bench.open()
    connection.data_received(EVENTS % (len(chunk + error), chunk))
    connection.data_received(error)
    assert bench.owner.told == [(400, error[6:-2])]
    assert bench.sink.events[1:] == [chunk]
    assert bench.wire.aborted


def test_another_attempt() -> None:
    """What an attempt before has made is not told of this one."""
    bench = Bench()
    bench.record.first_byte_seconds, bench.record.completion_tokens = 0.1, 3
    bench.attempt.begin(bench.owner, 105.0)
    noted = bench.record
    assert [noted.first_byte_seconds, noted.completion_tokens] == [None, None]


def test_dropped() -> None:
    """Who gave up hears nothing, whatever comes."""
    bench = Bench()
    connection = bench.open()
    bench.attempt.drop()
    connection.data_received(OK)
    connection.connection_lost(None)
    assert (bench.owner.told, bench.sink.events, bench.replica.open) == ([], [], {})
    assert bench.wire.aborted


def test_dropped_while_it_opens() -> None:
    bench = Bench()
    bench.attempt.drop()
    bench.host.refused.pop()("refused")
    assert bench.owner.told == []
