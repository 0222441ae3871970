"""What the parts of a gateway share: room, clocks, the Status, the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from gpuctl.gateway import gateway
from gpuctl.model import GateSettings, GatewaySettings, LimitSettings, TimeoutSettings
from tests.gateway.inside import ASKED, STREAM, Inside, answered, request, upstream, with_stub
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as started:
        yield started


def closed(client: Any) -> bool:
    """Return whether the other side has ended the connection, without a word."""
    try:
        return bool(client.recv(1) == b"")
    except ConnectionResetError:
        return True


def test_connections(engine: StubEngine) -> None:
    """No more connections than there is room for; who leaves makes room."""
    settings = GatewaySettings(limits=LimitSettings(connections=2))
    with Inside([upstream(engine)], settings) as inside, inside.connect() as first:
        second = inside.connect()
        wait_for(lambda: inside.call(lambda: len(inside.gateway.clients)) == 2, "two clients")
        with inside.connect() as third:
            assert closed(third)
        first.sendall(request(ASKED))
        assert answered(first).status == 200
        second.close()
        wait_for(lambda: inside.call(lambda: len(inside.gateway.clients)) == 1, "one to go")
        assert inside.post(ASKED).status == 200


def test_connections_of_an_address(engine: StubEngine) -> None:
    settings = GatewaySettings(limits=LimitSettings(connections_per_ip=1))
    with Inside([upstream(engine)], settings) as inside:
        with inside.connect() as first, inside.connect() as second:
            assert closed(second)
            first.sendall(request(ASKED))
            assert answered(first).status == 200
        wait_for(lambda: not inside.call(lambda: inside.gateway._addresses), "both to go")


def test_limits_that_change(engine: StubEngine) -> None:
    """What the settings allow counts from the next Status on; who is in stays."""
    with Inside([upstream(engine)]) as inside, inside.connect() as first:
        first.sendall(request(ASKED))
        assert answered(first).status == 200
        inside.settings = GatewaySettings(limits=LimitSettings(connections=1))
        inside.publish(inside.upstreams)
        with inside.connect() as second:
            assert closed(second)
        first.sendall(request(ASKED))
        assert answered(first).status == 200


def test_gate_settings_that_change(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        inside.settings = GatewaySettings(gate=GateSettings(allowed_fails=2, cooldown_seconds=9.0))
        inside.publish(inside.upstreams)
        gate = inside.gateway.table.replicas["chat-0"].gate
        assert (gate.allowed_fails, gate.cooldown_seconds) == (2, 9.0)


def test_many_probes_at_once(engine: StubEngine) -> None:
    """A burst of them is answered, and none of it hears that the gateway is unwell."""
    engine.orders["delay_seconds"] = 0.05
    with Inside([]) as inside, ExitStack() as stack:
        operator = inside.gateway.operator
        operator.host, operator.port = "127.0.0.1", engine.port
        inside.call(inside.gateway.operator_begun.set)
        clients = [stack.enter_context(inside.connect()) for _ in range(operator.slots + 36)]
        for client in clients:
            client.sendall(b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n")
        assert {answered(client).status for client in clients} == {200}
        assert len(engine.seen) == len(clients)


def test_no_operators_endpoints(engine: StubEngine) -> None:
    """Who cannot reach them is told so at once; there is nothing else to be tried."""
    settings = GatewaySettings(timeouts=TimeoutSettings(connect_seconds=0.0))
    with Inside([], settings) as inside, inside.connect() as client:
        operator = inside.gateway.operator
        operator.host, operator.port = "127.0.0.1", engine.port
        inside.call(inside.gateway.operator_begun.set)
        client.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert answered(client).code == "upstream_failed"
        assert [what.split()[0] for what, _ in inside.record.timeline] == ["sent", "failed"]


def test_probes_while_nobody_answers(engine: StubEngine) -> None:
    """What waits for them is over in time, as what is there."""
    engine.orders["fault"] = "hang_head"
    with Inside([]) as inside, ExitStack() as stack:
        operator = inside.gateway.operator
        operator.host, operator.port, operator.slots = "127.0.0.1", engine.port, 1
        inside.call(inside.gateway.operator_begun.set)
        clients = [stack.enter_context(inside.connect()) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        wait_for(lambda: inside.call(lambda: len(inside.gateway.running)) == 3, "all to ask")
        clients[1].close()
        wait_for(lambda: inside.call(lambda: len(inside.gateway.running)) == 2, "one to leave")
        inside.pass_time(10.5)
        assert [answered(client).status for client in (clients[0], clients[2])] == [504, 504]
        assert inside.call(lambda: len(inside.gateway.running)) == 0


def test_bodies_held(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies of all clients have one room; what is answered gives its part back."""
    monkeypatch.setattr(gateway, "HELD_BYTES", 1000)
    with Inside([upstream(engine)]) as inside, inside.connect() as slow:
        body = with_stub(ASKED, fault="hang_head", fill="x" * 700)
        slow.sendall(request(body))
        wait_for(lambda: engine.running == 1, "the engine to work")
        answer = inside.post({**ASKED, "fill": "x" * 700})
        assert (answer.status, answer.code) == (503, "too_many_bytes")
        slow.close()
        wait_for(lambda: inside.call(lambda: inside.gateway._held_bytes) == 0, "the room")
        assert inside.post({**ASKED, "fill": "x" * 700}).status == 200


def test_replica_gone(engine: StubEngine) -> None:
    """A replica that the Status does not have any more keeps no connection."""
    with Inside([upstream(engine)]) as inside:
        assert inside.post(ASKED).status == 200
        assert engine.connections == 1
        inside.publish([])
        wait_for(lambda: engine.connections == 0, "its connection to end")
        assert inside.post(ASKED).code == "model_not_found"


def test_replica_gone_while_it_answers(engine: StubEngine) -> None:
    """What runs there ends well, and leaves no connection behind."""
    with Inside([upstream(engine)]) as inside, inside.connect() as client:
        client.sendall(request(with_stub(ASKED, delay_seconds=0.1)))
        wait_for(lambda: engine.running == 1, "the engine to work")
        inside.publish([])
        assert answered(client).status == 200
        wait_for(lambda: engine.connections == 0, "its connection to end")


def test_queued_for_a_replica_that_goes(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside, inside.connect() as busy, inside.connect() as client:
        busy.sendall(request(with_stub(ASKED, fault="hang_head")))
        wait_for(lambda: engine.running == 1, "the engine to work")
        client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        inside.publish([])
        answer = answered(client)
        assert (answer.status, answer.code) == (503, "no_replica")


def drained(inside: Inside) -> Any:
    """Begin the end; return what tells how long that took."""
    return asyncio.run_coroutine_threadsafe(inside.gateway.drain(), inside._loop)


def test_drain(engine: StubEngine) -> None:
    """What runs ends, what waits and what comes is refused, idle connections are closed."""
    with Inside([upstream(engine)]) as inside, inside.connect() as idle:
        idle.sendall(request(ASKED))
        assert answered(idle).status == 200
        with inside.connect() as busy, inside.connect() as queued, inside.connect() as late:
            late.sendall(request(ASKED)[:-1])
            busy.sendall(request(with_stub(STREAM, tokens=20, interval_seconds=0.02)))
            wait_for(lambda: engine.running == 1, "the engine to work")
            queued.sendall(request(ASKED))
            wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
            end = drained(inside)
            refused = answered(queued)
            assert (refused.status, refused.code) == (503, "draining")
            assert closed(idle)
            late.sendall(request(ASKED)[-1:])
            assert answered(late).code == "draining"
            assert answered(busy).events[-1] == "[DONE]"
            assert 0.0 < end.result(5) == inside.gateway.shutdown_seconds
            for client in (busy, queued, late):
                assert closed(client)


def test_drain_takes_no_longer_than_it_may(engine: StubEngine) -> None:
    """What still runs then is ended with a word, which arrives."""
    with Inside([upstream(engine, slots=2)]) as inside:
        whole, stream = inside.connect(), inside.connect()
        whole.sendall(request(with_stub(ASKED, fault="hang_head")))
        stream.sendall(request(with_stub(STREAM, fault="hang_stream", after=2)))
        wait_for(
            lambda: sorted(seen.sent_bytes > 300 for seen in engine.seen) == [False, True], "it"
        )
        end = drained(inside)
        wait_for(lambda: inside.call(lambda: inside.gateway.draining), "it to drain")
        inside.later += TimeoutSettings().drain_seconds
        end.result(5)
        assert answered(whole).code == "draining"
        assert answered(stream).events[-1]["error"]["code"] == "draining"
        assert inside.call(lambda: len(inside.gateway.running)) == 0
        wait_for(lambda: engine.running == 0, "the engine to be let go")
        whole.close()
        stream.close()


class Behind:
    """A client that has not taken all of its answer."""

    behind_bytes = 5

    def close_if_idle(self) -> None:
        """It is not."""

    def abort(self) -> None:
        """As a test ends."""


def test_drain_waits_for_what_was_written(engine: StubEngine) -> None:
    """The end comes when what was answered has left, or its time is over."""
    with Inside([upstream(engine)]) as inside:
        behind: Any = Behind()
        inside.call(lambda: inside.gateway.clients.add(behind))
        end = drained(inside)
        with pytest.raises(TimeoutError):
            end.result(0.1)
        behind.behind_bytes = 0
        end.result(5)


def test_drain_waits_no_longer(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        behind: Any = Behind()
        inside.call(lambda: inside.gateway.clients.add(behind))
        end = drained(inside)
        inside.call(lambda: None)
        inside.later += TimeoutSettings().drain_seconds
        end.result(5)


@pytest.mark.parametrize(
    ("line", "id"),
    [
        pytest.param("x-request-id: mine-1", "mine-1", id="its own"),
        pytest.param("x-request-id: no\x7fname", None, id="no name"),
        pytest.param("x: y", None, id="none"),
    ],
)
def test_a_refusal_has_an_id(engine: StubEngine, line: str, id: str | None) -> None:
    """What could not become a request is told by the same name here and there."""
    with Inside([upstream(engine)]) as inside, inside.connect() as client:
        client.sendall(f"POST /a HTTP/1.1\r\n{line}\r\ncontent-length: 1\r\n\r\n".encode())
        answer = answered(client)
        assert (answer.status, answer.code) == (400, "invalid_http")
        assert answer.headers["x-request-id"] == inside.record.id
        assert id is None or inside.record.id == id


@pytest.mark.parametrize("sent", [request(ASKED), b"NONE\r\n\r\n"], ids=["answer", "refusal"])
def test_an_answer_tells_its_time(engine: StubEngine, sent: bytes) -> None:
    """RFC 9110, 6.6.1: to a second, as the time is told anew with each sweep."""
    with Inside([upstream(engine)]) as inside, inside.connect() as client:
        client.sendall(sent)
        told = parsedate_to_datetime(answered(client).headers["date"]).timestamp()
        assert abs(told - time.time()) < 3


@pytest.mark.parametrize("path", ["/health", "/ready", "/readyz"])
def test_probes_are_not_counted(engine: StubEngine, path: str) -> None:
    """Whoever asks whether it lives uses up nobody's requests, and is told after them too."""
    settings = GatewaySettings(limits=LimitSettings(requests_per_minute_per_ip=2))
    probe = f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode()
    with Inside([upstream(engine)], settings) as inside, inside.connect() as client:
        inside.call(inside.gateway.operator_begun.set)
        statuses = []
        for asked in (probe, probe, request(ASKED), request(ASKED), request(ASKED), probe):
            client.sendall(asked)
            statuses.append(answered(client).status)
        # 503: nobody is behind these endpoints here.
        assert statuses == [503, 503, 200, 200, 429, 503]
