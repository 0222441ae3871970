"""Requests that harm, replicas that fail in turn, and deadlines that fall together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.model import GatewaySettings, TimeoutSettings
from tests.gateway.inside import ASKED, STREAM, Inside, answered, request, upstream, with_stub
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for


@pytest.fixture
def engines() -> Iterator[list[StubEngine]]:
    with StubEngine() as first, StubEngine() as second, StubEngine() as third, StubEngine() as last:
        yield [first, second, third, last]


def upstreams(engines: list[StubEngine], **told: Any) -> list[Any]:
    return [upstream(engine, index, **told) for index, engine in enumerate(engines)]


def noted(inside: Inside, what: str) -> int:
    """Return how often this has happened to what is running."""

    def count() -> int:
        running = inside.gateway.running
        return sum(told == what for each in running for told, _ in each.record.timeline)

    return inside.call(count)


def test_a_request_that_ends_engines(engines: list[StubEngine]) -> None:
    """What takes its replica down with it takes no more of them than a request may be tried on."""
    with Inside(upstreams(engines)) as inside:
        answer = inside.post(with_stub(ASKED, fault="close_empty"))
        assert (answer.status, answer.code) == (503, "upstream_failed")
        assert sum(len(engine.seen) for engine in engines) == 3


def test_errors_of_a_collected_stream(engines: list[StubEngine]) -> None:
    """An error that every replica has within its stream is the request's, and shuts no gate."""
    told = upstreams(engines[:2], collect_streams=True)
    with Inside(told) as inside:
        body = with_stub(ASKED, fault="error_stream", after=2)
        assert {inside.post(body).status for _ in range(12)} == {500}
        gates = [replica.gate.retry_at for replica in inside.gateway.table.replicas.values()]
        assert gates == [None, None]


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_key_that_one_engine_refuses(engines: list[StubEngine], status: str) -> None:
    """Another replica answers, and no gate is shut by it, however often it happens."""
    engines[0].orders["fault"] = status
    with Inside([upstream(engines[0], weight=10.0), upstream(engines[1], 1)]) as inside:
        assert {inside.post(ASKED).status for _ in range(8)} == {200}
        assert len(engines[0].seen) == 8
        assert inside.gateway.table.replicas["chat-0"].gate.retry_at is None


def test_queued_stream_is_refused_as_such(engines: list[StubEngine]) -> None:
    """A stream that nobody had a place for is refused, and not begun to tell it so."""
    with Inside(upstreams(engines[:1])) as inside, inside.connect() as busy:
        busy.sendall(request(with_stub(ASKED, fault="hang_head")))
        wait_for(lambda: engines[0].running == 1, "the engine to work")
        with inside.connect() as client:
            client.sendall(request(STREAM))
            wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
            inside.pass_time(30.5)
            answer = answered(client)
            assert (answer.status, answer.code) == (503, "queue_timeout")


def test_silence_is_the_clients(engines: list[StubEngine]) -> None:
    """A client hears something every half minute, however many replicas are tried meanwhile."""
    settings = GatewaySettings(timeouts=TimeoutSettings(attempt_seconds=20.0))
    with Inside(upstreams(engines[:2]), settings) as inside, inside.connect() as client:
        client.sendall(request(with_stub(STREAM, fault="hang_head")))
        wait_for(lambda: sum(engine.running for engine in engines) == 1, "a first try")
        inside.pass_time(20.5)
        wait_for(lambda: sum(len(engine.seen) for engine in engines) == 2, "a second one")
        inside.pass_time(10.0)
        assert noted(inside, "keep_alive") == 1


def test_slow_is_not_silent(engines: list[StubEngine]) -> None:
    """An attempt that is given up while it talks is not held against its replica."""
    settings = GatewaySettings(timeouts=TimeoutSettings(attempt_seconds=20.0))
    with Inside(upstreams(engines[:1]), settings) as inside, inside.connect() as client:
        for _ in range(6):
            client.sendall(request(with_stub(STREAM, fault="hang_stream", after=2)))
            wait_for(lambda: noted(inside, "first_byte"), "its first byte")
            inside.pass_time(20.5)
            assert answered(client).events[-1]["error"]["code"] == "stream_interrupted"
        assert inside.gateway.table.replicas["chat-0"].gate.retry_at is None


def test_a_fault_of_ours_stops_no_clock(engines: list[StubEngine]) -> None:
    """One exchange that breaks while its deadlines are looked at holds up no other's."""

    class Broken:
        over = False

        def sweep(self, now: float) -> None:
            raise KeyError("one of ours")

    with Inside(upstreams(engines[:1])) as inside, inside.connect() as client:
        client.sendall(request(with_stub(ASKED, fault="hang_head")))
        wait_for(lambda: engines[0].running == 1, "the engine to work")
        broken: Any = Broken()
        inside.call(lambda: inside.gateway.running.add(broken))
        inside.pass_time(61.0)
        inside.call(lambda: inside.gateway.running.discard(broken))
        assert answered(client).code == "timeout"
        assert [told["error"] for told in inside.log.of("internal_error")] == [
            "KeyError: 'one of ours'"
        ]
