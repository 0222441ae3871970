"""Requests with an Idempotency-Key: who joins, who leads on, and what is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from gpuctl.gateway import shared
from gpuctl.gateway.heads import JSON
from gpuctl.gateway.idempotency import MIB, Memory
from tests.gateway.inside import ASKED, STREAM, Inside, answered, request, upstream, with_stub
from tests.gateway.scripted import Scripted
from tests.gateway.test_readers import Told
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

KEY = {"idempotency_key": "k-1"}


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as started:
        yield started


def followers(inside: Inside) -> int:
    entries = inside.gateway.memory._entries.values()
    return inside.call(lambda: sum(entry.followers for entry in entries))


def paused(inside: Inside) -> list[bool]:
    """Return whether what runs waits for its clients."""
    return inside.call(lambda: [each._paused for each in inside.gateway.running])


@pytest.mark.parametrize("body", [ASKED, STREAM], ids=["whole", "stream"])
def test_replayed(engine: StubEngine, body: dict[str, Any]) -> None:
    """Who asks again gets the same answer, and no engine is asked."""
    with Inside([upstream(engine)]) as inside:
        first, again = (inside.post(body, **KEY) for _ in range(2))
        assert (again.status, again.body) == (first.status, first.body)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert len(engine.seen) == 1
        wait_for(lambda: len(inside.log.records) == 2, "both to end")
        assert [record.end for record in inside.log.records] == ["answered", "replayed"]


def test_another_request(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        assert inside.post(ASKED, **KEY).status == 200
        other = inside.post({**ASKED, "temperature": 0}, **KEY)
        assert (other.status, other.code) == (422, "idempotency_key_reused")


def test_key_that_is_none(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        assert inside.post(ASKED, idempotency_key="k" * 256).code == "invalid_idempotency_key"


@pytest.mark.parametrize("body", [ASKED, STREAM], ids=["whole", "stream"])
def test_joined(engine: StubEngine, body: dict[str, Any]) -> None:
    """Who asks while it is answered hears the same; the first may leave."""
    with Inside([upstream(engine)]) as inside, inside.connect() as joiner:
        leader = inside.connect()
        asked = request(with_stub(body, tokens=10, interval_seconds=0.02), **KEY)
        leader.sendall(asked)
        wait_for(lambda: engine.running == 1, "the engine to work")
        joiner.sendall(asked)
        wait_for(lambda: followers(inside) == 2, "it to be joined")
        leader.close()
        wait_for(lambda: followers(inside) == 1, "the first to leave")
        answer = answered(joiner)
        text = answer.body.decode()
        assert (answer.status, "w0 " in text, "w9 " in text) == (200, True, True)
        assert engine.seen[0].ended in ("", "answered")


def test_leader_gone(engine: StubEngine) -> None:
    """What the log says of one that left while others waited is what they got."""
    with Inside([upstream(engine)]) as inside, inside.connect() as joiner:
        leader = inside.connect()
        asked = request(with_stub(ASKED, delay_seconds=0.3), **KEY)
        leader.sendall(asked)
        wait_for(lambda: engine.running == 1, "the engine to work")
        joiner.sendall(asked)
        wait_for(lambda: followers(inside) == 2, "it to be joined")
        leader.close()
        assert answered(joiner).status == 200
        wait_for(lambda: len(inside.log.records) == 2, "both to end")
        told = sorted((each.end, each.status) for each in inside.log.records)
        assert told == [("answered", 200), ("replayed", 200)]


def test_closed_when_it_had_all(engine: StubEngine) -> None:
    """Who closes at the end of a stream, before the end of its framing, has been answered."""
    with Inside([upstream(engine)]) as inside:
        body = with_stub(STREAM, fault="hang_stream_end")
        with inside.connect() as client:
            client.sendall(request(body, **KEY))
            got = b""
            while b"data: [DONE]\n\n" not in got:
                got += client.recv(4096)
        assert inside.record.end == "answered"
        again = inside.post(body, **KEY)
        assert (again.headers["idempotent-replayed"], again.events[-1]) == ("true", "[DONE]")
        assert len(engine.seen) == 1


def test_large() -> None:
    """What is too large to be kept begins before it is whole, and its engine waits for it."""
    size = 48 * MIB
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    with (
        Scripted(head + bytes(size)) as large,
        Inside([large.upstream()]) as inside,
        inside.connect() as client,
    ):
        client.sendall(request(ASKED, **KEY))
        wait_for(lambda: paused(inside) == [True], "the engine to wait")
        (follower,) = inside.call(lambda: [each._exchange for each in inside.gateway.clients])
        assert isinstance(follower, shared.Follower)
        assert (follower._parts, inside.log.records) == ([], [])
        assert inside.call(lambda: follower._client.behind_bytes) < 16 * MIB
        answer = answered(client)
        assert (answer.status, len(answer.body)) == (200, size)
        assert inside.record.end == "answered"


def test_large_behind() -> None:
    """What comes before its engine waits is sent as well, however far behind the client is."""

    class Slow(Told):
        behind_bytes = 9 * MIB

    slow: Any = Slow()
    entry = Memory().lookup("ci", b"k-1", b"p", 0.0).entry
    assert entry is not None
    follower = shared.Follower(entry, slow, slow, lambda how: None)
    entry.on_pause = lambda: slow.events.append("pause")
    entry.subscribe(follower)
    entry.head(200, JSON)
    for _ in range(9):
        entry.piece(bytes(MIB))
    follower.pause()
    entry.piece(b"more")
    entry.finish()
    assert slow.events == [("head", 200, JSON, None), bytes(9 * MIB), "pause", b"more", "finish"]


def test_large_that_breaks_off() -> None:
    """One that has begun is cut."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * MIB)
    with Scripted(head + bytes(12 * MIB)) as large, Inside([large.upstream()]) as inside:
        with inside.connect() as client, suppress(ConnectionResetError):
            client.sendall(request(ASKED, **KEY))
            answered(client)
        assert inside.record.end == "cut"


def test_all_gone(engine: StubEngine) -> None:
    """When the last of them has left, the engine is let go and nothing is remembered."""
    with Inside([upstream(engine)]) as inside:
        clients = [inside.connect() for _ in range(3)]
        for client in clients:
            client.sendall(request(with_stub(ASKED, fault="hang_head"), **KEY))
        wait_for(lambda: followers(inside) == 3, "all to follow")
        for client in clients:
            assert engine.running == 1
            client.close()
        wait_for(lambda: engine.running == 0, "the engine to be let go", 1.0)
        wait_for(lambda: inside.call(lambda: len(inside.gateway.memory)) == 0, "it to be forgotten")
        wait_for(lambda: len(inside.log.records) == 3, "three ends")
        assert {record.end for record in inside.log.records} == {"client_gone"}


def test_joiner_of_a_slow_client(engine: StubEngine) -> None:
    """A client that does not read holds up nobody who waits for the same answer."""
    engine.orders |= {"tokens": 20, "interval_seconds": 0.01}
    with Inside([upstream(engine)]) as inside, inside.connect() as slow:
        slow.sendall(request(STREAM, **KEY))
        wait_for(lambda: followers(inside) == 1, "the first to follow")
        (client,) = inside.call(lambda: tuple(inside.gateway.clients))
        inside.call(client.pause_writing)
        assert inside.post(STREAM, **KEY).events[-1] == "[DONE]"


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param({"fault": "close_stream", "after": 2}, id="broken off"),
        pytest.param({"fault": "error_stream", "after": 2}, id="an error of the engine's"),
    ],
)
def test_a_broken_stream_is_not_kept(engine: StubEngine, orders: dict[str, Any]) -> None:
    """What ended with an error within it is no answer: who asks again asks an engine."""
    engine.orders |= orders
    with Inside([upstream(engine)]) as inside:
        first = inside.post(STREAM, **KEY)
        assert (first.status, "error" in first.events[-1]) == (200, True)
        engine.orders.clear()
        assert inside.post(STREAM, **KEY).events[-1] == "[DONE]"


def test_an_error_is_not_kept(engine: StubEngine) -> None:
    engine.orders["fault"] = "context"
    with Inside([upstream(engine)]) as inside:
        assert inside.post(ASKED, **KEY).status == 400
        engine.orders.clear()
        assert inside.post(ASKED, **KEY).status == 200


def test_refused_together(engine: StubEngine) -> None:
    """What is not done is told to all that wait for it."""
    engine.orders["fault"] = "hang_head"
    with Inside([upstream(engine)]) as inside:
        clients = [inside.connect() for _ in range(2)]
        for client in clients:
            client.sendall(request(ASKED, **KEY))
        wait_for(lambda: followers(inside) == 2, "both to follow")
        inside.pass_time(61)
        assert [answered(client).code for client in clients] == ["timeout", "timeout"]
        for client in clients:
            client.close()


def test_expired(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        inside.call(lambda: setattr(inside.gateway, "memory", Memory(seconds=10.0)))
        inside.post(ASKED, **KEY)
        inside.pass_time(11.0)
        assert inside.call(lambda: (len(inside.gateway.memory), inside.gateway.memory.bytes)) == (
            0,
            0,
        )
        inside.post(ASKED, **KEY)
        assert len(engine.seen) == 2


def test_one_is_left_behind(engine: StubEngine) -> None:
    """One that lags is told so once, and whoever keeps up gets the rest."""
    engine.orders |= {"bytes": 100_000, "tokens": 200, "interval_seconds": 0.002}
    with Inside([upstream(engine)]) as inside, inside.connect() as leader:
        leader.sendall(request(STREAM, **KEY))
        wait_for(lambda: followers(inside) == 1, "the first to follow")
        with inside.connect() as slow:
            slow.sendall(request(STREAM, **KEY))
            assert answered(leader).events[-1] == "[DONE]"
            wait_for(lambda: len(inside.log.records) >= 2, "both to end")
            assert [each.end for each in inside.log.records] == ["cut", "answered"]


def test_left_too_far_behind(engine: StubEngine) -> None:
    """A client that lags far behind does not get the rest; nobody waits for it."""
    engine.orders |= {"bytes": 100_000, "tokens": 200}
    with Inside([upstream(engine)]) as inside:
        slow = inside.connect()
        slow.sendall(request(STREAM, **KEY))
        wait_for(lambda: inside.log.records, "its end")
        wait_for(lambda: engine.running == 0, "the engine to be let go")
        assert inside.call(lambda: len(inside.gateway.memory)) == 0
        slow.close()
