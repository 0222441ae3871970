"""The gateway as a program: a profile that has none any more, and the end of it all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.inside import ASKED, answered, request, upstream
from tests.rig.gateway_process import GatewayProcess
from tests.rig.http import get
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine(delay_seconds=0.5) as started:
        yield started


@pytest.fixture
def gateway(engine: StubEngine, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess([upstream(engine)], folder=tmp_path) as running:
        yield running


def connect(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def take_away(gateway: GatewayProcess) -> None:
    """Publish a Status whose profile has no gateway."""
    gateway.seq += 1
    path = gateway.folder / "run" / "status.json"
    document = {**json.loads(path.read_bytes()), "gateway": None, "seq": gateway.seq}
    path.with_suffix(".new").write_text(json.dumps(document))
    os.replace(path.with_suffix(".new"), path)
    wait_for(lambda: gateway.document["listen"] == "", "it to listen no more")


def test_a_profile_without_a_gateway(gateway: GatewayProcess, engine: StubEngine) -> None:
    """It listens no more, what runs ends well, and it waits for one that has a gateway."""
    with connect(gateway) as idle, connect(gateway) as busy:
        busy.sendall(request(ASKED))
        wait_for(lambda: engine.running == 1, "the engine to work")
        take_away(gateway)
        with pytest.raises(ConnectionRefusedError):
            connect(gateway)
        assert idle.recv(1) == b""
        assert answered(busy).status == 200
        assert busy.recv(1) == b""
    gateway.publish()
    wait_for(lambda: get(gateway.port, "/health") is not None, "it to listen again")


def test_who_comes_while_it_ends_is_told_so(gateway: GatewayProcess, engine: StubEngine) -> None:
    """What runs is answered; what is new gets 503, and so does who asks whether it is ready."""
    with connect(gateway) as busy:
        busy.sendall(request(ASKED))
        wait_for(lambda: engine.running == 1, "the engine to work")
        os.kill(gateway.pid, signal.SIGTERM)
        wait_for(lambda: '"draining"' in gateway.log, "it to drain")
        gateway.publish()  # changes nothing any more
        with connect(gateway) as late:
            late.sendall(request(ASKED))
            refused = answered(late)
            assert (refused.status, refused.code) == (503, "draining")
            assert refused.headers["connection"] == "close"
        ready = get(gateway.port, "/readyz")
        assert ready is not None
        assert ready[0] == 503
        assert answered(busy).status == 200
    wait_for(lambda: not answers(gateway), "it to listen no more")


def answers(gateway: GatewayProcess) -> bool:
    with contextlib.suppress(OSError), connect(gateway):
        return True
    return False


def test_the_next_one_tells_how_long_it_took(gateway: GatewayProcess, engine: StubEngine) -> None:
    """Nobody can ask a gateway that has ended: the one after it has its last figure."""
    name = "gpuctl_gateway_shutdown_duration_seconds"
    _, before = get(gateway.port, "/metrics") or (0, b"")
    assert name not in before.decode()
    with connect(gateway) as busy:
        busy.sendall(request(ASKED))
        wait_for(lambda: engine.running == 1, "the engine to work")
        gateway.stop()
        assert answered(busy).status == 200
    gateway.start()
    _, after = get(gateway.port, "/metrics") or (0, b"")
    told = [line.split() for line in after.decode().splitlines() if line.startswith(name)]
    assert [(line[0], 0.0 < float(line[1]) < 5.0) for line in told] == [(name, True)]
