"""
A client that leaves: its request's connection to the engine is cut within a second, wherever the
request was. The real gateway in front of stub engines, which see the cut.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.model import GatewaySettings
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.raw_client import CHAT, RawClient, request, served
from tests.rig.stub_engine import Seen, StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

#: From the client's leaving until the engine's connection is cut.
CUT_SECONDS = 1.0


@pytest.fixture(scope="module")
def stub() -> Iterator[StubEngine]:
    """One slot, of an engine that streams for the gateway alone, as llama.cpp is asked to."""
    with StubEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def plain() -> Iterator[StubEngine]:
    """One slot, of an engine that is asked as the client asks."""
    with StubEngine("plain") as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(stub: StubEngine, plain: StubEngine) -> Iterator[GatewayProcess]:
    upstreams = [
        Upstream(name="chat-0", address=stub.address, collect_streams=True),
        Upstream(name="plain-0", address=plain.address, model="plain"),
    ]
    with GatewayProcess(upstreams, GatewaySettings()) as started:
        yield started
        assert not started.broke


def left(gateway: GatewayProcess, engine: StubEngine, reset: bool, **asked: Any) -> float:
    """Ask, leave as soon as the engine works on it, and return the seconds until it is cut."""
    engine.seen.clear()
    client = RawClient(gateway.port)
    client.send(request({**CHAT, "model": engine.model, **asked}))
    (seen,) = wait_for(lambda: engine.seen, "the engine to be asked")
    if asked.get("stream") and asked["stub"].get("fault") != "hang_head":
        assert client.line() == b"HTTP/1.1 200 OK\r\n"
    return _cut(client, seen, reset)


def _cut(client: RawClient, seen: Seen, reset: bool) -> float:
    at = time.monotonic()
    if reset:
        client.reset()
    else:
        client.socket.close()
    wait_for(lambda: seen.ended, "the engine's connection to be cut")
    assert seen.ended == "cut"
    assert seen.ended_at is not None
    return seen.ended_at - at


SLOW = {"tokens": 1000, "interval_seconds": 0.05}
ASKED = [
    pytest.param({"stream": True, "stub": SLOW}, id="stream"),
    pytest.param({"stream": True, "stub": {"fault": "hang_stream"}}, id="silent stream"),
    pytest.param({"stream": True, "stub": {"fault": "hang_head"}}, id="before a stream"),
    pytest.param({"stub": SLOW}, id="in one piece"),
    pytest.param({"stub": {"fault": "hang_head"}}, id="silent"),
]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", ["stub", "plain"])
def test_running(
    name: str,
    asked: dict[str, Any],
    reset: bool,
    gateway: GatewayProcess,
    stub: StubEngine,
    plain: StubEngine,
) -> None:
    """A request that an engine works on is cut there, and its slot serves the next one."""
    engine = {"stub": stub, "plain": plain}[name]
    assert left(gateway, engine, reset, **asked) < CUT_SECONDS
    began = time.monotonic()
    assert answered(gateway, engine)
    assert time.monotonic() - began < CUT_SECONDS


def answered(gateway: GatewayProcess, engine: StubEngine) -> bool:
    with RawClient(gateway.port) as client:
        client.send(request({**CHAT, "model": engine.model}))
        return client.outcome() == 200


@pytest.mark.parametrize("stream", [False, True], ids=["in one piece", "stream"])
def test_queued(stream: bool, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A request that waits is given up, and never reaches an engine."""
    stub.seen.clear()
    with RawClient(gateway.port) as first:
        first.send(request({**CHAT, "stub": {"delay_seconds": 2.0}}))
        wait_for(lambda: stub.seen, "the engine to be busy")
        waiting = RawClient(gateway.port)
        waiting.send(request({**CHAT, "stream": stream}))
        wait_for(lambda: gateway.document["queued"] == 1, "the second to wait")
        waiting.socket.close()
        wait_for(lambda: gateway.document["queued"] == 0, "the queue to be rid of it", 1.9)
        assert first.answer().status == 200
    assert len(stub.seen) == 1


def test_those_behind_it_move_up(gateway: GatewayProcess, stub: StubEngine) -> None:
    """When the one that runs leaves, the next in the queue is served at once."""
    stub.seen.clear()
    first = RawClient(gateway.port)
    first.send(request({**CHAT, "stub": {"fault": "hang_head"}}))
    wait_for(lambda: stub.seen, "the engine to be busy")
    with RawClient(gateway.port) as second:
        second.send(request(CHAT))
        wait_for(lambda: gateway.document["queued"] == 1, "the second to wait")
        began = time.monotonic()
        first.socket.close()
        assert second.answer().status == 200
        assert time.monotonic() - began < CUT_SECONDS


def test_between_two_tries(gateway: GatewayProcess, plain: StubEngine) -> None:
    """A client that left is not tried for again."""
    plain.seen.clear()
    client = RawClient(gateway.port)
    client.send(request({**CHAT, "model": "plain", "stub": {"delay_seconds": 0.5, "fault": "503"}}))
    wait_for(lambda: plain.seen, "the first try")
    client.socket.close()
    wait_for(lambda: plain.seen[0].ended, "its end")
    assert answered(gateway, plain)
    assert len(plain.seen) == 2


def test_nothing_is_left(gateway: GatewayProcess, stub: StubEngine) -> None:
    """Forty that left later, no descriptor, no request and no connection is held."""

    def held() -> int:
        return len(os.listdir(f"/proc/{gateway.pid}/fd"))

    assert served(gateway.port)
    before = held()
    for index in range(40):
        asked = {"stream": index % 2 == 0, "stub": SLOW}
        assert left(gateway, stub, reset=index % 3 == 0, **asked) < CUT_SECONDS
    wait_for(lambda: held() <= before + 2, "its descriptors to be given back")
    wait_for(lambda: gateway.document["in_flight"] == 0, "its requests to end")
    wait_for(lambda: stub.connections <= 1, "the engine's connections to end")
