"""The gateway as a program: how it starts, where it listens, and what it tells systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rig.gateway_process import GatewayProcess
from tests.rig.http import get
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

WATCHDOG_SECONDS = 0.4


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess((), folder=tmp_path) as running:
        wait_for(lambda: events(running, 0), "its first line")
        yield running


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def environment(manager: socket.socket) -> dict[str, str]:
    return {
        "NOTIFY_SOCKET": str(manager.getsockname()),
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
    }


def heard(manager: socket.socket, count: int) -> list[str]:
    return [manager.recv(4096).decode() for _ in range(count)]


def move(gateway: GatewayProcess, listen: str) -> int:
    """Let the profile say another address; return how many lines the log had."""
    before = len(gateway.lines)
    gateway.settings = replace(gateway.settings, listen=listen)
    gateway.publish()
    return before


def events(gateway: GatewayProcess, since: int) -> list[str]:
    return [line["event"] for line in gateway.lines[since:] if line["event"] != "request"]


def test_it_tells_that_its_loop_turns(tmp_path: Path, manager: socket.socket) -> None:
    """Twice in the time that systemd waits for it, from the moment that it is ready."""
    gateway = GatewayProcess((), folder=tmp_path, environment=environment(manager))
    with gateway:
        ready, *alive = heard(manager, 4)
    assert ready == f"READY=1\nSTATUS=listening on {gateway.settings.listen}"
    assert alive == ["WATCHDOG=1"] * 3
    assert "STOPPING=1" in heard(manager, 1)


def test_one_that_waits_is_alive_too(tmp_path: Path, manager: socket.socket) -> None:
    """Without a Status it has nothing to do, and systemd need not start it again."""
    for name in ("run", "state", "conf"):
        (tmp_path / name).mkdir()
    own = {f"GPUCTL_{name}_DIR": str(tmp_path / path) for name, path in (
        ("RUNTIME", "run"), ("STATE", "state"), ("CONFIG", "conf")
    )}  # fmt: skip
    program = subprocess.Popen(
        [sys.executable, "-m", "gpuctl.gateway"],
        env={**os.environ, **own, **environment(manager)},
        stderr=subprocess.DEVNULL,
    )
    try:
        ready, *alive = heard(manager, 3)
    finally:
        program.terminate()
        code = program.wait(20)
    assert ready == f"READY=1\nSTATUS=waiting for {tmp_path}/run/status.json"
    assert (alive, code) == (["WATCHDOG=1"] * 2, 0)
    assert not (tmp_path / "run-gateway" / "gateway.json").exists()


def test_its_operator_s_endpoints_are_waited_for(gateway: GatewayProcess) -> None:
    """They begin a moment after the first connection may come, and none of it fails."""
    gateway.stop()
    assert events(gateway, 0) == ["listening", "draining", "stopped"]


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    """It is told, and requests are served without it."""
    missing = {"GPUCTL_TIKTOKEN_FILE": str(tmp_path / "none")}
    with GatewayProcess((), folder=tmp_path, environment=missing) as gateway:
        wait_for(lambda: "tokenizer_unreadable" in events(gateway, 0), "its word")
        assert get(gateway.port, "/health") is not None


def test_an_address_that_is_taken(gateway: GatewayProcess) -> None:
    """It stays where it is, says so once and in gateway.json, and moves when it can."""
    old = gateway.port
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        wanted = f"127.0.0.1:{other.getsockname()[1]}"
        before = move(gateway, wanted)
        wait_for(lambda: "not_moved" in events(gateway, before), "its word")
        gateway.told(())
        assert gateway.document["listen"] == f"127.0.0.1:{old}"
        assert get(old, "/health") is not None
        assert events(gateway, before) == ["not_moved"]
    gateway.publish()
    wait_for(lambda: gateway.document["listen"] == wanted, "the move")
    assert (get(old, "/health"), get(gateway.port, "/health") is not None) == (None, True)
    wait_for(lambda: events(gateway, before) == ["not_moved", "listening"], "its word")


def test_the_same_port_elsewhere(gateway: GatewayProcess) -> None:
    """Its own old place does not hold it back; where the new one cannot be had, it stays."""
    port = gateway.port
    before = move(gateway, f"127.0.0.2:{port}")
    wait_for(lambda: gateway.document["listen"] == f"127.0.0.2:{port}", "the move")
    assert get(port, "/health") is None
    move(gateway, f"127.0.0.1:{port}")
    wait_for(lambda: get(port, "/health") is not None, "the way back")
    move(gateway, f"192.0.2.1:{port}")  # RFC 5737: nobody's
    wait_for(lambda: "not_moved" in events(gateway, before), "its word")
    wait_for(lambda: get(port, "/health") is not None, "it to be where it was")


def test_it_does_not_move_where_it_may_not(gateway: GatewayProcess) -> None:
    """Without a key others do not get in by a change of the profile either."""
    old = gateway.settings.listen
    before = move(gateway, f"0.0.0.0:{gateway.port + 1}")
    wait_for(lambda: "not_moved" in events(gateway, before), "its word")
    gateway.told(())
    assert gateway.document["listen"] == old
