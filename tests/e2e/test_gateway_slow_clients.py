"""
Clients that send too slowly, or nothing, or hold too many connections.

The real gateway in front of a stub engine, with deadlines of a second; others are served meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from contextlib import ExitStack

import pytest

from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings
from tests.e2e.one_stub import gateway, process, stub
from tests.rig.gateway_process import GatewayProcess
from tests.rig.raw_client import CHAT, RawClient, head, request, served
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

__all__ = ["gateway", "process", "stub"]

DEADLINE_SECONDS = 1.0
IDLE_SECONDS = 2.0
#: What a busy machine, and a timer that looks once in a while, may add to a deadline.
GRACE_SECONDS = 2.0
CONNECTIONS = 64
OF_ONE_IP = 48
SETTINGS = GatewaySettings(
    timeouts=TimeoutSettings(
        head_seconds=DEADLINE_SECONDS,
        body_seconds=DEADLINE_SECONDS,
        keep_alive_seconds=IDLE_SECONDS,
    ),
    limits=LimitSettings(connections=CONNECTIONS, connections_per_ip=OF_ONE_IP),
)


def ended_within(client: RawClient, seconds: float) -> bool:
    """Return whether the other side closes so soon, whatever it says before."""
    client.socket.settimeout(seconds)
    try:
        client.ended()
    except TimeoutError:
        return False
    return True


HALF = head("POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Length: 100")
CHUNKED = head("POST /v1/chat/completions HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="empty line"),
        pytest.param(b"POST", id="a word"),
        pytest.param(HALF[:-2], id="no end of the head"),
        pytest.param(HALF, id="no body"),
        pytest.param(HALF + b"{", id="half a body"),
        pytest.param(CHUNKED + b"5\r\n{", id="half a chunk"),
        pytest.param(CHUNKED + b"1\r\n{\r\n", id="no last chunk"),
        pytest.param(CHUNKED + b"1\r\n{\r\n0\r\nX: ", id="half a trailer"),
    ],
)
def test_silence(data: bytes, gateway: GatewayProcess) -> None:
    """A client that stops sending is told so, or not, and its connection closed at the deadline."""
    began = time.monotonic()
    with RawClient(gateway.port) as client:
        client.send(data)
        assert served(gateway.port)
        assert client.outcome() in (0, 408)
        assert ended_within(client, GRACE_SECONDS)
    assert DEADLINE_SECONDS * 0.9 <= time.monotonic() - began <= DEADLINE_SECONDS + GRACE_SECONDS


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        pytest.param(b"", b"G", id="target"),
        pytest.param(b"GET /health HTTP/1.1\r\n", b"X: y\r\n", id="headers"),
        pytest.param(HALF, b" ", id="body"),
        pytest.param(CHUNKED, b"1\r\n \r\n", id="chunks"),
    ],
)
def test_trickle(begin: bytes, piece: bytes, gateway: GatewayProcess) -> None:
    """A client that sends a byte now and then has no longer than one that sends none."""
    with RawClient(gateway.port, seconds=0.1) as client:
        client.send(begin)
        deadline = time.monotonic() + DEADLINE_SECONDS + GRACE_SECONDS
        while time.monotonic() < deadline:
            client.send(piece)
            with contextlib.suppress(TimeoutError):
                client.socket.settimeout(0.1)
                assert client.outcome() in (0, 400, 408)
                return
    raise AssertionError("it was let go on")


def test_idle(gateway: GatewayProcess) -> None:
    """A connection without a request is closed after its time, without a word."""
    with RawClient(gateway.port) as client:
        client.send(request(CHAT))
        assert client.answer().status == 200
        began = time.monotonic()
        assert client.ended() == b""
    took = time.monotonic() - began
    assert IDLE_SECONDS * 0.9 <= took <= IDLE_SECONDS + GRACE_SECONDS


def test_slow_second_request(gateway: GatewayProcess) -> None:
    """The head of a later request has no longer than that of the first."""
    with RawClient(gateway.port) as client:
        client.send(request(CHAT))
        assert client.answer().status == 200
        client.send(b"POST /v1/chat")
        assert client.outcome() in (0, 408)


@pytest.mark.parametrize("data", [b"", b"POST /v1", HALF, HALF + b"{", request(CHAT)])
def test_gone(data: bytes, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A client that dies leaves nothing behind, wherever it was."""
    client = RawClient(gateway.port)
    client.send(data)
    client.reset()
    wait_for(lambda: not stub.running, "the engine to be rid of it")
    wait_for(lambda: gateway.document["in_flight"] == 0, "the gateway to be rid of it")


def test_half_closed(gateway: GatewayProcess, stub: StubEngine) -> None:
    """One that sends no more, and would still read, is answered or closed; nothing stays."""
    with RawClient(gateway.port) as client:
        client.send(request({**CHAT, "stub": {"delay_seconds": 0.2}}))
        client.socket.shutdown(1)
        assert client.outcome() in (0, 200)
        assert ended_within(client, GRACE_SECONDS)
    wait_for(lambda: not stub.running, "the engine to be rid of it")


def test_cap_of_one_address(gateway: GatewayProcess) -> None:
    """One address holds no more connections than it may, and others are served at once."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(RawClient(gateway.port, source="127.0.0.3"))
        assert served(gateway.port)


def test_cap_of_all(gateway: GatewayProcess) -> None:
    """Silent connections beyond the cap hold others up no longer than a head may take."""
    with ExitStack() as stack:
        for index in range(3 * CONNECTIONS // 2):
            source = f"127.0.0.{3 + index % 4}"
            with contextlib.suppress(OSError):
                stack.enter_context(RawClient(gateway.port, source=source))
        wait_for(
            lambda: served(gateway.port), "another to be served", DEADLINE_SECONDS + GRACE_SECONDS
        )


def test_idle_at_the_cap(gateway: GatewayProcess) -> None:
    """Idle connections up to the cap hold others up no longer than they may be idle."""
    with ExitStack() as stack:
        for index in range(CONNECTIONS):
            client = RawClient(gateway.port, source=f"127.0.0.{3 + index % 4}")
            stack.enter_context(client).send(request(CHAT))
            if client.outcome() != 200:
                break
        wait_for(lambda: served(gateway.port), "another to be served", IDLE_SECONDS + GRACE_SECONDS)


def test_nothing_is_kept(gateway: GatewayProcess) -> None:
    """Hundreds of clients of every kind later, no descriptor and no request is left."""

    def held() -> int:
        return len(os.listdir(f"/proc/{gateway.pid}/fd"))

    before = held()
    for data in itertools.islice(itertools.cycle((b"", HALF, request(CHAT), b"\x00")), 400):
        with RawClient(gateway.port) as client:
            client.send(data)
    wait_for(lambda: held() <= before + 8, "its descriptors to be given back")
    wait_for(lambda: gateway.document["in_flight"] == 0, "its requests to end")
