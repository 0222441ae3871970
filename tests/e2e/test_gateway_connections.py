"""
What one connection may carry: requests in pieces or all at once, of older HTTP, and answers that
nobody reads. The real gateway in front of a stub engine; others are served meanwhile.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings
from tests.e2e.one_stub import gateway, process, stub
from tests.rig.gateway_process import GatewayProcess
from tests.rig.raw_client import CHAT, Answer, Closed, RawClient, head, request, served
from tests.rig.stub_engine import Seen, StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

__all__ = ["gateway", "process", "stub"]

MIB = 1024 * 1024
DEADLINE_SECONDS = 2.0
GRACE_SECONDS = 3.0
SETTINGS = GatewaySettings(
    limits=LimitSettings(body_bytes=MIB), timeouts=TimeoutSettings(body_seconds=DEADLINE_SECONDS)
)
CHUNKED = head(
    "POST /v1/chat/completions HTTP/1.1",
    *("Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"),
)


def test_one_byte_at_a_time(gateway: GatewayProcess, stub: StubEngine) -> None:
    """A request that comes byte by byte is read as one, head and body."""
    with RawClient(gateway.port) as client:
        client.pieces(request(CHAT))
        assert client.answer().status == 200
    assert stub.seen[-1].asked["messages"] == CHAT["messages"]


def test_one_byte_chunks(gateway: GatewayProcess, stub: StubEngine) -> None:
    """So does a body in chunks of one byte, with a trailer."""
    body = request(CHAT).partition(b"\r\n\r\n")[2]
    with RawClient(gateway.port) as client:
        client.send(CHUNKED)
        client.send(b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in body))
        client.send(b"0\r\nX-Trailer: y\r\n\r\n")
        assert client.answer().status == 200
    assert stub.seen[-1].asked["messages"] == CHAT["messages"]


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        pytest.param(b"2;", b"x" * 64, id="extension"),
        pytest.param(b"2\r\n{}\r\n0\r\n", b"X-Trailer: y\r\n", id="trailers"),
        pytest.param(b"2\r\n{}\r\n0\r\nX: ", b"y" * 64, id="trailer"),
        pytest.param(b"", b"1\r\n \r\n", id="chunks"),
    ],
)
def test_framing_without_end(begin: bytes, piece: bytes, gateway: GatewayProcess) -> None:
    """What surrounds a body costs no memory, and a limit or the body's deadline ends it."""
    before = gateway.rss_bytes
    with RawClient(gateway.port) as client:
        client.send(CHUNKED + begin)
        for _ in range(16):
            client.send(piece * (MIB // len(piece)))
        assert gateway.rss_bytes - before < 8 * MIB
        assert served(gateway.port)
        client.socket.settimeout(DEADLINE_SECONDS + GRACE_SECONDS)
        assert client.outcome() in (0, 400, 408, 413, 431)


def test_trailers_are_nobodys(gateway: GatewayProcess, stub: StubEngine) -> None:
    """A trailer is no header: it neither frames the next request nor reaches an engine."""
    body = request(CHAT).partition(b"\r\n\r\n")[2]
    trailers = ("Content-Length: 3", "Host: other", "Authorization: Bearer x", "X-Request-Id: mine")
    with RawClient(gateway.port) as client:
        client.send(CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(body), body) + head(*trailers))
        answer = client.answer()
        assert answer.headers.get("x-request-id") != "mine"
        if answer.status == 200:
            assert "authorization" not in stub.seen[-1].headers
            client.send(request(CHAT))
            assert client.answer().status == 200
        else:
            assert (answer.status, client.ended()) == (400, b"")


def test_expect_continue(gateway: GatewayProcess) -> None:
    """A client that asks whether to send its body is told to, and answered."""
    whole = request(CHAT, "Expect: 100-continue")
    top, end, body = whole.partition(b"\r\n\r\n")
    with RawClient(gateway.port) as client:
        client.send(top + end)
        assert client.answer().status == 100
        client.send(body)
        assert client.answer().status == 200


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        pytest.param(f"Content-Length: {MIB + 1}", {413}, id="too large"),
        pytest.param("Content-Length: 5\r\nTransfer-Encoding: chunked", {400}, id="ambiguous"),
    ],
)
def test_expect_refused(line: str, statuses: set[int], gateway: GatewayProcess) -> None:
    """It is not told to send a body that will be refused."""
    first = "POST /v1/chat/completions HTTP/1.1"
    with RawClient(gateway.port) as client:
        client.send(head(first, "Host: x", "Expect: 100-continue", line))
        assert client.answer().status in statuses
        assert client.ended() == b""


def answers(gateway: GatewayProcess, data: bytes, count: int) -> list[Answer]:
    with RawClient(gateway.port) as client:
        client.send(data)
        return [client.answer() for _ in range(count)]


def test_pipelined(gateway: GatewayProcess) -> None:
    """Requests sent at once are answered in their order, however long each takes."""
    delays = [0.3, 0.0, 0.1, 0.0]
    sent = b"".join(
        request({**CHAT, "stub": {"delay_seconds": delay}}, f"x-request-id: r{index}")
        for index, delay in enumerate(delays)
    )
    found = answers(gateway, sent, len(delays))
    assert [(each.status, each.headers["x-request-id"]) for each in found] == [
        (200, f"r{index}") for index in range(4)
    ]


MIXED = (
    request(method="GET", target="/v1/models"),
    request({**CHAT, "stream": True}),
    request({"model": "nobody"}),
    request(b"{"),
    request(method="GET", target="/health"),
    request(CHAT),
)
STATUSES = [200, 200, 404, 400, 200, 200]


def test_pipelined_mix(gateway: GatewayProcess) -> None:
    """So are requests of every kind, a stream among them."""
    found = answers(gateway, b"".join(MIXED), len(MIXED))
    assert [each.status for each in found] == STATUSES


def test_pipelined_before_a_bad_one(gateway: GatewayProcess, stub: StubEngine) -> None:
    """What came before one that is no request is answered in its order; what follows is not."""
    stub.seen.clear()
    found: list[int] = []
    with RawClient(gateway.port) as client, contextlib.suppress(Closed):
        client.send(b"".join(MIXED) + b"BAD\r\n\r\n" + request({**CHAT, "user": "smuggled"}))
        while True:
            found.append(client.answer().status)
    assert found in (STATUSES, [*STATUSES, 400])
    assert not [seen for seen in stub.seen if "user" in seen.asked]


def test_more_pipelined_than_are_held(gateway: GatewayProcess) -> None:
    """More at once than are held may end the connection, and not the answer that is under way."""
    slow = request({**CHAT, "stub": {"delay_seconds": 0.5}})
    found: list[int] = []
    with RawClient(gateway.port) as client, contextlib.suppress(Closed):
        client.send(slow + request(CHAT) * 99)
        while len(found) < 100:
            found.append(client.answer().status)
    assert set(found) == {200}


def test_many_pipelined(gateway: GatewayProcess) -> None:
    """Hundreds at once are answered one after another."""
    found = answers(gateway, request(method="GET", target="/v1/models") * 300, 300)
    assert {each.status for each in found} == {200}


def test_pipelined_unread(gateway: GatewayProcess) -> None:
    """Who sends without reading the answers is read no more, and costs no memory."""
    before = gateway.rss_bytes
    with RawClient(gateway.port) as client:
        client.socket.settimeout(1.0)
        batch = request(method="GET", target="/v1/models") * 1000
        sent = 0
        with contextlib.suppress(TimeoutError, OSError):
            while sent < 24 * MIB:
                sent += client.socket.send(batch)
        assert sent < 16 * MIB
        assert gateway.rss_bytes - before < 8 * MIB
        assert served(gateway.port)


def stands_still(seen: Seen) -> bool:
    """Return whether the engine gets rid of nothing for a while."""
    before = seen.sent_bytes
    time.sleep(0.3)
    return seen.sent_bytes == before


def test_unread_stream(gateway: GatewayProcess, stub: StubEngine) -> None:
    """A stream that nobody reads is read from its engine no faster, and costs no memory."""
    before = gateway.rss_bytes
    orders = {"tokens": 100_000, "bytes": 16_384}
    client = RawClient(gateway.port)
    client.send(request({**CHAT, "stream": True, "stub": orders}))
    assert client.line() == b"HTTP/1.1 200 OK\r\n"
    seen = stub.seen[-1]
    wait_for(lambda: stands_still(seen), "the stream to stand still")
    assert seen.sent_bytes < 32 * MIB
    assert gateway.rss_bytes - before < 8 * MIB
    assert served(gateway.port)
    client.reset()
    wait_for(lambda: seen.ended == "cut", "the engine to be rid of it", 2.0)


def test_http_1_0(gateway: GatewayProcess) -> None:
    """A client of HTTP/1.0 gets an answer without chunks, and its connection closed."""
    for asked in (CHAT, {**CHAT, "stream": True}):
        with RawClient(gateway.port) as client:
            client.send(request(asked, version="HTTP/1.0"))
            answer = client.answer()
            assert (answer.status, answer.headers.get("transfer-encoding")) == (200, None)
            assert b"w3" in answer.body
            assert client.ended() == b""


def test_close_asked(gateway: GatewayProcess) -> None:
    """A connection is closed after the answer where the client asks for that."""
    with RawClient(gateway.port) as client:
        client.send(request(CHAT, "Connection: close"))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.ended() == b""


def test_head(gateway: GatewayProcess) -> None:
    """HEAD gets a head alone, and the connection goes on."""
    with RawClient(gateway.port) as client:
        for target in ("/health", "/v1/models", "/v1/models/chat"):
            client.send(request(method="HEAD", target=target))
            answer = client.answer(without_body=True)
            assert (answer.status, answer.headers["content-length"] != "0") == (200, True)
