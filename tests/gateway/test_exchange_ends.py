"""How long a request may take: in the queue, at a replica, and with a client that leaves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gpuctl.model import GatewaySettings, QueueSettings, TimeoutSettings
from tests.gateway.inside import (
    ASKED,
    STREAM,
    Inside,
    answered,
    request,
    upstream,
    with_stub,
)
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for


def test_queue(first: StubEngine) -> None:
    """What finds no free slot waits, and is served when one is given back."""
    first.orders["delay_seconds"] = 0.1
    with Inside([upstream(first)]) as inside:
        clients = [inside.connect() for _ in range(3)]
        for client in clients:
            client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 2, "two to wait")
        assert [answered(client).status for client in clients] == [200, 200, 200]
        for client in clients:
            client.close()
        assert len(first.seen) == 3


def test_queue_full(first: StubEngine) -> None:
    """What finds the queue full is told when to come back."""
    first.orders["fault"] = "hang_head"
    settings = GatewaySettings(queue=QueueSettings(size=1))
    with Inside([upstream(first)], settings) as inside:
        clients = [inside.connect() for _ in range(2)]
        for client in clients:
            client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "one to wait")
        answer = inside.post(ASKED)
        assert (answer.status, answer.code) == (503, "queue_full")
        assert answer.headers["x-should-retry"] == "true"
        assert int(answer.headers["retry-after"]) > 0
        inside.pass_time(30.5)
        late = answered(clients[1])
        assert (late.status, late.code) == (503, "queue_timeout")
        for client in clients:
            client.close()


def test_no_replica(first: StubEngine) -> None:
    """Where none runs and none is on its way, nobody waits."""
    with Inside([upstream(first, phase="stopped")]) as inside:
        answer = inside.post(ASKED)
        assert (answer.status, answer.code) == (503, "no_replica")


def test_held(first: StubEngine) -> None:
    """Where one is on its way, requests wait for it."""
    loading = upstream(first, phase="loading", coming=True)
    with Inside([loading]) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        inside.publish([upstream(first, container="c2")])
        assert answered(client).status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_stub(ASKED, fault="hang_head"), id="whole"),
        pytest.param(with_stub(STREAM, fault="hang_stream", after=2), id="stream"),
        pytest.param(with_stub(STREAM, tokens=500, interval_seconds=0.01), id="streaming"),
    ],
)
def test_client_gone(first: StubEngine, body: dict[str, Any]) -> None:
    """A client that leaves takes the replica's connection with it, at once."""
    with Inside([upstream(first)]) as inside:
        client = inside.connect()
        client.sendall(request(body))
        wait_for(lambda: first.running == 1, "the engine to work")
        client.close()
        wait_for(lambda: first.running == 0, "the engine's connection to end", 1.0)
        assert first.seen[-1].ended == "cut"
        assert inside.record.end == "client_gone"
        assert inside.call(lambda: inside.gateway.admission.in_flight) == 0


def test_client_gone_satisfied(first: StubEngine) -> None:
    """Who closes at the end of a stream, before the end of its framing, has been answered."""
    with Inside([upstream(first)]) as inside:
        with inside.connect() as client:
            client.sendall(request(STREAM))
            got = b""
            while b"data: [DONE]\n\n" not in got:
                got += client.recv(4096)
        assert inside.record.end == "answered"
        assert inside.record.completion_tokens == 4


def test_client_gone_satisfied_early(first: StubEngine) -> None:
    """... also where the engine's framing has no end yet; and the engine is let go."""
    with Inside([upstream(first)]) as inside:
        with inside.connect() as client:
            client.sendall(request(with_stub(STREAM, fault="hang_stream_end")))
            got = b""
            while b"data: [DONE]\n\n" not in got:
                got += client.recv(4096)
        assert (inside.record.end, inside.record.completion_tokens) == ("answered", 4)
        wait_for(lambda: first.running == 0, "the engine's connection to end", 1.0)


def test_client_gone_queued(first: StubEngine) -> None:
    """One that leaves while it waits is never sent."""
    first.orders["delay_seconds"] = 0.2
    with Inside([upstream(first)]) as inside:
        busy, waiting = inside.connect(), inside.connect()
        busy.sendall(request(ASKED))
        wait_for(lambda: first.running == 1, "the engine to work")
        waiting.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "one to wait")
        waiting.close()
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 0, "nobody to wait")
        assert answered(busy).status == 200
        busy.close()
        assert len(first.seen) == 1


def test_keep_alive(first: StubEngine) -> None:
    """A stream that is silent for 30 s gets a comment, and what comes then is the answer."""
    with Inside([upstream(first)]) as inside, inside.connect() as client:
        client.sendall(request(with_stub(STREAM, delay_seconds=0.3)))
        wait_for(lambda: first.running == 1, "the engine to work")
        inside.pass_time(30.5)
        answer = answered(client)
        assert answer.body.startswith(b": keep-alive\n\n")
        assert answer.events[-1] == "[DONE]"


def test_keep_alive_after_a_wait(first: StubEngine) -> None:
    """The head that goes with a comment tells of the time until then."""
    with Inside([upstream(first)]) as inside, inside.connect() as busy:
        busy.sendall(request(with_stub(ASKED, fault="hang_head")))
        wait_for(lambda: first.running == 1, "the engine to work")
        with inside.connect() as client:
            client.sendall(request(with_stub(STREAM, fault="hang_head")))
            wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
            inside.later += 20
            busy.close()
            wait_for(lambda: len(first.seen) == 2, "its turn")
            inside.pass_time(31)
            inside.pass_time(300)
            told = answered(client).headers["server-timing"]
            found = re.fullmatch(r"queue;dur=2\d{4}\.\d, upstream;dur=3\d{4}\.\d", told)
            assert found, told


def test_paused(first: StubEngine) -> None:
    """While a client takes nothing, the silence is its own: it is sent nothing, and waited for."""
    with Inside([upstream(first)]) as inside, inside.connect() as asking:
        asking.sendall(request(with_stub(STREAM, fault="hang_stream", after=2)))
        wait_for(lambda: first.seen and first.seen[-1].sent_bytes > 300, "two events")
        (client,) = inside.call(lambda: tuple(inside.gateway.clients))
        (exchange,) = inside.call(lambda: tuple(inside.gateway.running))
        wait_for(lambda: exchange.record.first_byte_seconds is not None, "the first of them")

        def comments() -> int:
            return sum(what == "keep_alive" for what, _ in exchange.record.timeline)

        inside.call(client.pause_writing)
        inside.pass_time(35)
        assert comments() == 0
        inside.call(client.resume_writing)
        inside.pass_time(40)
        assert comments() == 1
        inside.call(client.pause_writing)
        inside.pass_time(25)
        assert (comments(), exchange.over) == (1, False)


def test_keep_alive_then_failed(first: StubEngine) -> None:
    """After a comment an error comes as an event, as the status is sent."""
    with Inside([upstream(first)]) as inside, inside.connect() as client:
        client.sendall(request(with_stub(STREAM, fault="hang_head")))
        wait_for(lambda: first.running == 1, "the engine to work")
        inside.pass_time(30.5)
        inside.pass_time(300)
        answer = answered(client)
        assert answer.status == 200
        assert answer.events[-1]["error"]["code"] == "timeout"


def test_timeout(first: StubEngine) -> None:
    """A replica that says nothing for the whole time is held responsible."""
    with Inside([upstream(first)]) as inside, inside.connect() as client:
        client.sendall(request(with_stub(ASKED, fault="hang_head")))
        wait_for(lambda: first.running == 1, "the engine to work")
        inside.pass_time(60.5)
        answer = answered(client)
        assert (answer.status, answer.code) == (504, "timeout")
        assert inside.gateway.table.replicas["chat-0"].failures == 1
        wait_for(lambda: first.running == 0, "the engine's connection to end", 1.0)


def test_attempt_timeout(first: StubEngine, second: StubEngine) -> None:
    """An attempt that takes too long is given up, and another replica asked."""
    first.orders["fault"] = "hang_head"
    settings = GatewaySettings(timeouts=TimeoutSettings(attempt_seconds=20), affinity="none")
    with Inside([upstream(first)], settings) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        wait_for(lambda: first.running == 1, "the engine to work")
        inside.publish([upstream(first), upstream(second, 1)])
        inside.pass_time(20.5)
        answer = answered(client)
        assert (answer.status, answer.headers["x-gpuctl-replica"]) == (200, "chat-1")


def test_between_bytes(first: StubEngine) -> None:
    """A stream that stands still for a minute is ended with an error."""
    with Inside([upstream(first)]) as inside, inside.connect() as client:
        client.sendall(request(with_stub(STREAM, fault="hang_stream", after=2)))
        wait_for(lambda: first.seen and first.seen[-1].sent_bytes > 300, "two events")
        inside.call(lambda: None)
        inside.pass_time(60.5)
        assert answered(client).events[-1]["error"]["code"] == "stream_interrupted"


def test_drain(first: StubEngine) -> None:
    """A replica that drains gets no more, and the daemon is told when it is empty."""
    with Inside([upstream(first)]) as inside, inside.connect() as client:
        told: list[int] = []
        inside.gateway.emptied = lambda: told.append(1)
        client.sendall(request(with_stub(ASKED, delay_seconds=0.1)))
        wait_for(lambda: first.running == 1, "the engine to work")
        inside.publish([upstream(first, phase="draining", coming=True)])
        assert inside.call(lambda: inside.gateway.document()["replicas"]) == {
            "chat-0": {
                "state": "draining",
                "in_flight": 1,
                "last_byte_boot_seconds": None,
                "began_boot_seconds": pytest.approx(0, abs=10**9),
                "last_use_boot_seconds": pytest.approx(0, abs=10**9),
                "errors": 0,
            }
        }
        assert answered(client).status == 200
        wait_for(lambda: told, "the daemon to be told")


def test_tokens_of_one_that_left(first: StubEngine) -> None:
    """Who leaves has had the tokens that its engine made for it, though none of them was sent."""
    with Inside([upstream(first, collect_streams=True)]) as inside:

        def tokens() -> list[int | None]:
            return [each.record.completion_tokens for each in inside.gateway.running]

        with inside.connect() as client:
            client.sendall(request(with_stub(ASKED, fault="hang_stream", after=3)))
            wait_for(lambda: inside.call(tokens) == [2], "three events")
        record = inside.record
        assert (record.end, record.completion_tokens) == ("client_gone", 2)


@pytest.mark.parametrize(("fault", "status"), [("close_stream", 503), ("error_stream", 500)])
def test_tokens_of_an_answer_that_never_came(first: StubEngine, fault: str, status: int) -> None:
    """Nobody pays for what its engine had made when it failed."""
    with Inside([upstream(first, collect_streams=True)]) as inside:
        assert inside.post(with_stub(ASKED, fault=fault, after=3)).status == status
        assert inside.record.completion_tokens is None
