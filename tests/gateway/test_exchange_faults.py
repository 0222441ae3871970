"""Requests that harm, replicas that fail in turn, and deadlines that fall together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gpuctl.model import GatewaySettings, QueueSettings, TimeoutSettings
from tests.gateway.inside import ASKED, STREAM, Inside, answered, request, upstream, with_stub
from tests.gateway.scripted import EVENTS, Scripted, chunks
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
    settings = GatewaySettings(timeouts=TimeoutSettings(attempt_seconds=20.0), retries=0)
    told = upstreams(engines[:1], collect_streams=True)
    with Inside(told, settings) as inside, inside.connect() as client:
        for _ in range(6):
            client.sendall(request(with_stub(ASKED, fault="hang_stream", after=2)))
            wait_for(lambda: noted(inside, "first_byte"), "its first byte")
            inside.pass_time(20.5)
            assert answered(client).code == "upstream_failed"
        assert inside.gateway.table.replicas["chat-0"].gate.retry_at is None


def test_what_flows_is_not_tried_elsewhere(engines: list[StubEngine]) -> None:
    """The time of an attempt is over when its answer has begun: nobody else could go on with it."""
    settings = GatewaySettings(timeouts=TimeoutSettings(attempt_seconds=20.0))
    with Inside(upstreams(engines[:1]), settings) as inside, inside.connect() as client:
        client.sendall(request(with_stub(STREAM, tokens=20, interval_seconds=0.02)))
        wait_for(lambda: noted(inside, "first_byte"), "its first byte")
        inside.pass_time(20.5)
        assert answered(client).events[-1] == "[DONE]"


def test_refusals_are_no_retries(engines: list[StubEngine]) -> None:
    """A replica where nobody listens was sent nothing: there are as many retries as before."""
    for engine in engines[:2]:
        engine.refuse()
    engines[2].orders["fault"] = "close_body"
    told = [upstream(engine, index, weight=4.0 - index) for index, engine in enumerate(engines)]
    with Inside(told, GatewaySettings(retries=1)) as inside:
        answer = inside.post(ASKED)
        assert (answer.status, answer.headers["x-gpuctl-replica"]) == (200, "chat-3")
        assert (inside.record.attempts, inside.call(lambda: inside.gateway.metrics._retries)) == (
            2,
            1,
        )


def test_nobody_anywhere(engines: list[StubEngine]) -> None:
    """Who has found nobody, and waited for somebody in vain, is told that it was tried."""
    engines[0].refuse()
    settings = GatewaySettings(queue=QueueSettings(timeout_seconds=10.0))
    with Inside(upstreams(engines[:1]), settings) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        inside.pass_time(10.5)
        assert answered(client).code == "upstream_failed"
        assert inside.record.attempts == 0


def test_nobody_again_and_again(engines: list[StubEngine]) -> None:
    """A request is not sent for ever to containers that are not there."""
    engines[0].refuse()
    with Inside(upstreams(engines[:1])) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        replica = inside.gateway.table.replicas["chat-0"]

        def waits(refusals: int) -> bool:
            waiting = inside.call(inside.gateway.admission.waiting)
            return (replica.failures, waiting) == (refusals, 1)

        for number in range(1, 16):
            wait_for(partial(waits, number), "it to be refused, and to wait")
            inside.publish([upstream(engines[0], container=f"c{number + 1}")])
        assert answered(client).code == "upstream_failed"
        assert replica.failures == 16


def test_no_connection_in_time(engines: list[StubEngine]) -> None:
    """What was not connected in time was not sent: it is no retry either."""
    settings = GatewaySettings(
        queue=QueueSettings(timeout_seconds=10.0), timeouts=TimeoutSettings(connect_seconds=0.0)
    )
    with Inside(upstreams(engines[:1]), settings) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        assert inside.gateway.table.replicas["chat-0"].failures == settings.gate.allowed_fails
        assert inside.call(lambda: sum(inside.gateway.budget._retries)) == 0
        inside.pass_time(10.5)
        assert answered(client).code == "upstream_failed"


def test_one_request_is_one(engines: list[StubEngine]) -> None:
    """However often it is tried: retries are measured by what clients ask."""
    engines[0].refuse()
    engines[1].orders["fault"] = "close_body"
    told = [upstream(engine, index, weight=3.0 - index) for index, engine in enumerate(engines[:3])]
    with Inside(told) as inside:
        assert inside.post(ASKED).status == 200
        assert inside.call(lambda: inside.gateway.budget._sent) == 1


PASSED = GatewaySettings(pass_through={"/ocr": "chat"})


def test_passed_on_where_somebody_is(engines: list[StubEngine]) -> None:
    """What was sent nowhere is sent to another one, whatever it is."""
    engines[0].refuse()
    told = [upstream(engines[0], weight=9.0), upstream(engines[1], 1)]
    with Inside(told, PASSED) as inside:
        assert inside.post({}, "/ocr/pages").status == 200
        assert len(engines[1].seen) == 1


def test_passed_on_once(engines: list[StubEngine]) -> None:
    """What was sent may have been done."""
    told = upstreams(engines[:2])
    with Inside(told, PASSED) as inside:
        answer = inside.post(with_stub({}, fault="close_empty"), "/ocr/pages")
        assert (answer.status, answer.code) == (503, "upstream_failed")
        assert sum(len(engine.seen) for engine in engines) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(
            {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4},
            (400, "context_length_exceeded"),
            id="the request's",
        ),
        pytest.param({"code": 500, "message": "boom"}, (500, "engine_error"), id="the engine's"),
    ],
)
def test_error_before_a_stream(error: dict[str, Any], told: tuple[int, str]) -> None:
    """An engine that begins a stream with an error has answered with that error."""
    event = b'data: {"error": %s}\n\n' % json.dumps(error).encode()
    with Scripted(EVENTS + chunks(event)) as engine, Inside([engine.upstream()]) as inside:
        answer = inside.post(STREAM)
        assert (answer.status, answer.code) == told
        assert (inside.record.error, inside.record.status) == (told[1], told[0])
        assert inside.gateway.table.replicas["chat-0"].gate.retry_at is None


def test_error_before_a_stream_of_another(engines: list[StubEngine]) -> None:
    """... and where another one could have answered, it does."""
    engines[0].orders |= {"fault": "error_stream", "after": 0}
    told = [upstream(engines[0], weight=9.0), upstream(engines[1], 1)]
    with Inside(told) as inside:
        assert inside.post(STREAM).events[-1] == "[DONE]"
        assert len(engines[0].seen) == 1


def test_error_within_a_stream() -> None:
    """What an engine says in the middle is told in the words of the gateway, and as an error."""
    word = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    error = b'data: {"error": {"code": 500, "message": "at http://10.1.2.3:9000/x"}}\n\n'
    with Scripted(EVENTS + chunks(word, error)) as engine, Inside([engine.upstream()]) as inside:
        answer = inside.post(STREAM)
        assert answer.body.startswith(word)
        assert answer.events[-1]["error"]["code"] == "engine_error"
        assert b"10.1.2.3" not in answer.body
        record = inside.record
        assert (record.end, record.error, record.status) == ("cut", "engine_error", 200)


def test_comments_begin_no_answer(engines: list[StubEngine]) -> None:
    """A replica that dies while it sends nothing but comments costs its client nothing."""
    with Scripted(EVENTS + chunks(b":\n\n")) as silent:
        told = [silent.upstream(weight=9.0), upstream(engines[0], 1)]
        with Inside(told) as inside:
            assert inside.post(STREAM).events[-1] == "[DONE]"
            assert len(silent.seen) == 1


def test_comments_are_no_sign_of_life() -> None:
    """A replica that says nothing else for the whole time is held responsible."""
    with (
        Scripted(EVENTS + chunks(b":\n\n"), hold=True) as silent,
        Inside([silent.upstream()]) as inside,
        inside.connect() as client,
    ):
        client.sendall(request(STREAM))
        wait_for(lambda: silent.seen, "it to be sent")
        inside.pass_time(300.5)
        assert answered(client).code == "timeout"
        assert inside.gateway.table.replicas["chat-0"].failures == 1


def test_redirect() -> None:
    """No client is led past the gateway, nor told where an engine is."""
    head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://10.0.0.5/\r\n"
    answer = head + b"Content-Length: 0\r\n\r\n"
    with Scripted(answer) as engine, Inside([engine.upstream()]) as inside:
        told = inside.post(ASKED)
        assert (told.status, told.code) == (502, "engine_error")
        assert "location" not in told.headers


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
