"""One connection to a replica: whose answer is whose, when it may be used again, when not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gpuctl.gateway import upstream
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.upstream import Connection
from tests.gateway.wires import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKED = b"POST /v1/chat/completions HTTP/1.1\r\n\r\n"


class Told(upstream.Taker):
    """An attempt that notes what it is told."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.events: list[object] = []
        self._then = then

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.events.append(status)

    def body(self, data: bytes) -> None:
        self.events.append(data)

    def ended(self) -> None:
        self.events.append("ended")
        self._then()

    def lost(self, why: str, *, empty: bool, reused: bool) -> None:
        self.events.append((why, empty, reused))


def replica() -> Replica:
    made = Replica("chat-0", "chat", Gate(5, 30.0))
    made.state, made.container = "ready", "c1"
    return made


def opened(at: Replica | None = None) -> tuple[Connection, Wire]:
    connection, wire = Connection(at or replica()), Wire()
    connection.connection_made(cast(asyncio.BaseTransport, wire))
    return connection, wire


def asked(data: bytes = ASKED) -> tuple[Connection, Wire, Told]:
    connection, wire = opened()
    told = Told()
    connection.send(told, data)
    return connection, wire, told


def test_kept_alive() -> None:
    """An answer that is whole leaves its connection for the next request."""
    at = replica()
    connection, wire = opened(at)
    told = Told()
    connection.send(told, ASKED)
    connection.data_received(OK)
    assert told.events == [200, b"ok", "ended"]
    assert wire.sent == ASKED
    assert upstream.idle(at) is connection
    assert upstream.idle(at) is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", id="told"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="HTTP/1.0"),
    ],
)
def test_not_kept_alive(answer: bytes) -> None:
    """One that the replica means to close is not used again."""
    at = replica()
    connection, wire = opened(at)
    told = Told()
    connection.send(told, ASKED)
    connection.data_received(answer)
    assert told.events == [200, b"ok", "ended"]
    assert (wire.aborted, at.idle) == (True, [])


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces(size: int) -> None:
    """However its bytes come, an answer is the same."""
    connection, _, told = asked()
    for at in range(0, len(OK), size):
        connection.data_received(OK[at : at + size])
    bodies = [event for event in told.events if isinstance(event, bytes)]
    assert (told.events[0], b"".join(bodies), told.events[-1]) == (200, b"ok", "ended")


def test_continue() -> None:
    """What comes before the answer, 100 Continue or 103 Early Hints, is not it."""
    connection, _, told = asked()
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert told.events == [200, b"ok", "ended"]


def test_no_status() -> None:
    """A status that there is not begins no answer, and a body of it is of none."""
    connection, _, told = asked()
    connection.data_received(b"HTTP/1.1 007 X\r\nContent-Length: 2\r\n\r\nok" + OK)
    assert told.events == [200, b"ok", "ended"]


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(status: int) -> None:
    """An answer without a body by its status is whole with its head, whatever length that says."""
    connection, _, told = asked()
    connection.data_received(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert told.events == [status, "ended"]


def test_head() -> None:
    """The answer to HEAD ends with its head; nobody waits for the body that it tells of."""
    at = replica()
    connection, wire = opened(at)
    told = Told()
    connection.send(told, b"HEAD /ocr HTTP/1.1\r\n\r\n")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert told.events == [200, "ended"]
    assert (wire.aborted, at.idle) == (True, [])


def test_until_close() -> None:
    """A body without framing ends with the connection."""
    connection, _, told = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhel")
    connection.data_received(b"lo")
    connection.connection_lost(None)
    assert told.events == [200, b"hel", b"lo", "ended"]


def test_until_reset() -> None:
    """... and not with its reset, which cuts it."""
    connection, _, told = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhel")
    connection.connection_lost(ConnectionResetError())
    assert told.events == [200, b"hel", ("reset", False, False)]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", id="chunks"
        ),
    ],
)
def test_half(answer: bytes) -> None:
    """A framed body that ends early was cut, however politely the connection ends."""
    connection, _, told = asked()
    connection.data_received(answer)
    connection.connection_lost(None)
    assert told.events == [200, b"half", ("reset", False, False)]


def test_empty() -> None:
    """The end of a connection that never served says more than that of one that has."""
    connection, _, told = asked()
    connection.connection_lost(None)
    assert told.events == [("reset", True, False)]


def test_stale() -> None:
    connection, _, _ = asked()
    connection.data_received(OK)
    again = Told()
    connection.send(again, ASKED)
    connection.connection_lost(ConnectionResetError())
    assert again.events == [("reset", True, True)]


@pytest.mark.parametrize("extra", [b"x", OK, b"HTTP/1.1 200 OK\r\n", b"\x16\x03\x01"])
def test_more_than_the_answer(extra: bytes) -> None:
    """What follows an answer is no answer to the next request: the connection is not used again."""
    at = replica()
    connection, wire = opened(at)
    told = Told()
    connection.send(told, ASKED)
    connection.data_received(OK + extra)
    assert told.events == [200, b"ok", "ended"]
    assert (wire.aborted, upstream.idle(at)) == (True, None)


def test_more_than_the_answer_while_the_next_is_sent() -> None:
    """Whoever is served because an answer has ended is not given the bytes that follow it."""
    at = replica()
    connection, _ = opened(at)
    after: list[Connection | None] = []
    told = Told(lambda: after.append(upstream.idle(at)))
    connection.send(told, ASKED)
    connection.data_received(OK + OK)
    assert told.events == [200, b"ok", "ended"]
    assert after == [None]


def test_large_answer_at_once() -> None:
    """An answer is not its head: one that comes in a single read does not end its connection."""
    at = replica()
    connection, wire = opened(at)
    told, next_ = Told(), Told()
    told._then = lambda: connection.send(next_, ASKED)  # who waited is served at once
    connection.send(told, ASKED)
    size = 100_000
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    assert told.events == [200, bytes(size), "ended"]
    assert (next_.events, wire.aborted) == ([], False)
    connection.data_received(OK)
    assert next_.events == [200, b"ok", "ended"]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [b"HTTP/1.1 200 OK\r\n", *[b"X-%d: y\r\n" % n for n in range(9000)]], id="many"
        ),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: ", *[b"y" * 4096] * 20], id="long"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"] * 4000, id="endless preliminaries"),
    ],
)
def test_head_without_end(pieces: list[bytes]) -> None:
    """A head that does not end is given up."""
    connection, wire, told = asked()
    for piece in pieces:
        connection.data_received(piece)
    assert told.events == [("malformed", False, False)]
    assert wire.aborted


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x16\x03\x01 no HTTP\r\n\r\n", id="nonsense"),
        pytest.param(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", id="upgrade"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two"
        ),
    ],
)
def test_malformed(answer: bytes) -> None:
    """What is no answer to a request is told as that."""
    connection, wire, told = asked()
    connection.data_received(answer)
    assert told.events == [("malformed", False, False)]
    assert wire.aborted


def test_unasked() -> None:
    """Bytes that nobody asked for end an idle connection."""
    at = replica()
    connection, wire = opened(at)
    connection.send(Told(), ASKED)
    connection.data_received(OK)
    connection.data_received(OK)
    assert (wire.aborted, at.idle) == (True, [])


def test_dropped() -> None:
    """Who has let go hears nothing more."""
    connection, wire, told = asked()
    connection.data_received(OK[:-1])
    connection.drop()
    connection.data_received(OK[-1:])
    connection.connection_lost(None)
    assert told.events == [200, b"o"]
    assert wire.aborted


def test_paused() -> None:
    """A connection whose reading is paused at its end is not used again."""
    at = replica()
    connection, wire = opened(at)
    connection.send(Told(), ASKED)
    connection.pause()
    connection.data_received(OK)  # was on its way
    assert (wire.aborted, at.idle) == (True, [])
    assert not wire.reading


def test_another_container() -> None:
    """What is kept to a container that is gone serves nobody."""
    at = replica()
    connection, wire = opened(at)
    connection.send(Told(), ASKED)
    connection.data_received(OK)
    at.container = "c2"
    assert upstream.idle(at) is None
    assert wire.aborted


def test_replica_gone() -> None:
    """A replica that takes no more requests keeps no connection."""
    at = replica()
    connection, wire = opened(at)
    connection.send(Told(), ASKED)
    at.state = "down"
    connection.data_received(OK)
    assert (wire.aborted, at.idle) == (True, [])


def test_expire() -> None:
    """The oldest go when they have been idle for as long as engines wait."""
    at = replica()
    kept = []
    for since in (10.0, 12.0):
        connection, wire = opened(at)
        connection.send(Told(), ASKED)
        connection.data_received(OK)
        connection.idle_since = since
        kept.append(wire)
    upstream.expire(at, 10.0 + upstream.IDLE_SECONDS)
    assert [wire.aborted for wire in kept] == [True, False]


def test_closed_while_idle() -> None:
    at = replica()
    connection, _ = opened(at)
    connection.send(Told(), ASKED)
    connection.data_received(OK)
    connection.eof_received()
    assert at.idle == []
    connection.connection_lost(None)
    assert at.idle == []
