"""Requests with an Idempotency-Key: who joins, who leads on, and what is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest

from gpuctl.gateway import shared
from gpuctl.gateway.answer import APART_BYTES, EVENTS
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.idempotency import MIB, PART_BYTES, Entry, Memory
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
        assert inside.log.records == []
        (held,) = inside.call(lambda: [each.behind_bytes for each in inside.gateway.clients])
        assert held < 16 * MIB
        answer = answered(client)
        assert (answer.status, len(answer.body)) == (200, size)
        assert inside.record.end == "answered"


class Slow(Told):
    """A client that takes nothing, its connection and its answer in one."""

    behind_bytes = 0
    paused = False

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        super().whole(status, headers, body)
        self.behind_bytes += len(body)

    def piece(self, data: bytes) -> None:
        super().piece(data)
        self.behind_bytes += len(data)


def joined(entry: Entry, client: Any, ends: list[tuple[str, str]]) -> shared.Follower:
    follower = shared.Follower(entry, client, client, lambda *how: ends.append(how))
    follower.join()
    return follower


def led() -> tuple[Entry, list[str]]:
    """Return a new entry, and what its engine is told."""
    entry = Memory().lookup("ci", b"k-1", b"p", 0.0).entry
    assert entry is not None
    told: list[str] = []
    entry.on_pause, entry.on_resume = (lambda: told.append("pause")), (lambda: told.append("go"))
    return entry, told


def test_large_behind() -> None:
    """What comes before its engine waits is sent as well, however far behind the client is."""
    entry, told = led()
    slow = Slow()
    follower = joined(entry, slow, [])
    entry.head(200, JSON, held=True)
    for _ in range(9):
        entry.piece(bytes(MIB))
    follower.pause()
    entry.piece(b"more")
    entry.finish()
    assert told == ["pause"]
    assert slow.events == [("head", 200, JSON, None), *[bytes(MIB)] * 9, b"more", "finish"]


@pytest.mark.parametrize("held", [True, False], ids=["whole", "stream"])
def test_one_body_for_all(held: bool) -> None:
    """Those that wait for it, and those that get it later, are given the same bytes."""
    entry, _ = led()
    early, later, last = Slow(), Slow(), Slow()
    joined(entry, early, [])
    entry.head(200, JSON if held else EVENTS, held=held)
    entry.piece(bytes(PART_BYTES))
    joined(entry, later, [])
    if held:
        entry.piece(b"more")
    entry.finish()
    joined(entry, last, [])
    bodies = [each.events[0][3] if held else each.events[1] for each in (early, later, last)]
    assert len({id(body) for body in bodies}) == 1
    assert PART_BYTES >= APART_BYTES


def test_who_joins_late_may_take_its_time() -> None:
    """What it gets at once is shared; it is left behind for what it does not take after that."""
    entry, told = led()
    early, late = Slow(), Slow()
    ends: list[tuple[str, str]] = []
    joined(entry, early, [])
    entry.head(200, EVENTS)
    entry.piece(bytes(MIB))
    early.behind_bytes = 0
    late.paused = True
    joined(entry, late, ends)
    for _ in range(3):
        entry.piece(bytes(200_000))
        early.behind_bytes = 0
    assert late.events[:4] == [("head", 200, EVENTS, None), bytes(MIB), *[bytes(200_000)] * 2]
    ((spoiled, last),) = late.events[4:]
    assert (spoiled, b'"stream_interrupted"' in last, ends) == (
        "spoil", True, [("cut", "stream_interrupted")],
    )  # fmt: skip
    assert told == []


def test_all_are_slow() -> None:
    """The engine waits for them, and none is left behind; it goes on for the first that can."""
    entry, told = led()
    clients = Slow(), Slow()
    one, two = (joined(entry, each, []) for each in clients)
    entry.head(200, EVENTS)
    entry.piece(bytes(MIB))
    one.pause()
    two.pause()
    entry.piece(b"on its way")
    assert [each.events[-1] for each in clients] == [b"on its way"] * 2
    clients[0].behind_bytes = 0
    one.resume()
    entry.piece(b"more")
    assert [each.events[-1] == b"more" for each in clients] == [True, False]
    assert told == ["pause", "go"]


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
        wait_for(lambda: engine.running == 1, "the engine to begin")
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


def test_alone_it_is_paced(engine: StubEngine) -> None:
    """Nobody else follows: its engine waits, as without a key, and it gets the rest."""
    engine.orders |= {"bytes": 100_000, "tokens": 200}
    with Inside([upstream(engine)]) as inside, inside.connect() as slow:
        slow.sendall(request(STREAM, **KEY))
        wait_for(lambda: paused(inside) == [True], "the engine to wait")
        assert answered(slow).events[-1] == "[DONE]"
        assert inside.record.end == "answered"


def test_replays_are_not_copied(engine: StubEngine) -> None:
    """However many clients take none of an answer: its bytes are held once."""
    engine.orders["bytes"] = 1_800_000
    process = psutil.Process()
    with Inside([upstream(engine)]) as inside, ExitStack() as stack:
        size = len(inside.post(ASKED, **KEY).body)
        before = process.memory_info().rss
        for _ in range(40):
            stack.enter_context(inside.connect()).sendall(request(ASKED, **KEY))
        wait_for(lambda: len(inside.log.records) == 41, "all to be written")
        behind = inside.call(lambda: sum(each.behind_bytes for each in inside.gateway.clients))
        assert behind > 10 * size
        assert process.memory_info().rss - before < 8 * size


FAULTS = [
    pytest.param({"fault": "error_stream", "after": 2}, ("cut", 200, "engine_error"), id="error"),
    pytest.param(
        {"fault": "close_stream", "after": 2}, ("cut", 200, "stream_interrupted"), id="broken off"
    ),
    pytest.param({"fault": "500"}, ("replayed", 500, "engine_error"), id="whole"),
]


@pytest.mark.parametrize(("orders", "told"), FAULTS)
def test_the_log_tells_a_failed_answer(
    engine: StubEngine, orders: dict[str, Any], told: tuple[str, int, str]
) -> None:
    """Of each that waited for it, as of the first."""
    with Inside([upstream(engine)]) as inside, inside.connect() as one, inside.connect() as two:
        asked = request(with_stub(STREAM, delay_seconds=0.3, **orders), **KEY)
        one.sendall(asked)
        wait_for(lambda: followers(inside) == 1, "the first to follow")
        two.sendall(asked)
        wait_for(lambda: followers(inside) == 2, "the second to follow")
        bodies = [answered(each).body for each in (one, two)]
        assert bodies[0] == bodies[1]
        wait_for(lambda: len(inside.log.records) == 2, "both to end")
        ends = [(each.end, each.status, each.error) for each in inside.log.records]
        assert sorted(ends) == sorted([told, (told[0].replace("replayed", "answered"), *told[1:])])


def test_a_held_answer_that_breaks_off() -> None:
    """Nobody has seen any of it: who waits gets an error, and is not cut."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * MIB)
    with Scripted(head + bytes(3 * MIB)) as large, Inside([large.upstream()]) as inside:
        assert inside.post(ASKED, **KEY).code == "upstream_failed"
        assert (inside.record.status, inside.record.error) == (503, "upstream_failed")


def test_left_behind_and_gone(engine: StubEngine) -> None:
    """The first falls behind the second: the log says so of it, and what the other got."""
    engine.orders |= {"bytes": 100_000, "tokens": 300, "interval_seconds": 0.002}
    with Inside([upstream(engine)]) as inside, inside.connect() as leader:
        leader.sendall(request(STREAM, **KEY))
        wait_for(lambda: followers(inside) == 1, "the first to follow")
        assert inside.post(STREAM, **KEY).events[-1] == "[DONE]"
        assert answered(leader).events[-1]["error"]["code"] == "stream_interrupted"
        wait_for(lambda: len(inside.log.records) == 2, "both to end")
        ends = [(each.end, each.error) for each in inside.log.records]
        assert ends == [("replayed", ""), ("answered", "stream_interrupted")]
