"""The gateway as a program: keys that come, change and go while it runs."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key, digest
from tests.rig.gateway_process import GatewayProcess
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

KEY = Key(id="key-00000001", name="ci", sha256=digest("sk-1"))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """One without keys, on loopback."""
    with GatewayProcess((), folder=tmp_path) as running:
        yield running


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[GatewayProcess]:
    """One with a key, where other hosts reach it."""
    made = GatewayProcess((), folder=tmp_path, keys=json.loads(keyring.write((KEY,))))
    made.settings = replace(made.settings, listen=f"0.0.0.0:{made.port}")
    with made as running:
        yield running


def ask(gateway: GatewayProcess, token: str = "") -> int:
    """Return the status of a request for the models."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/v1/models", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def put(gateway: GatewayProcess, content: bytes, event: str) -> None:
    """Replace keys.json, and wait for what the log says of it."""
    path = gateway.folder / "conf" / "keys.json"
    before = len(gateway.lines)
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)
    _wait(gateway, event, before)


def take_away(gateway: GatewayProcess) -> None:
    before = len(gateway.lines)
    (gateway.folder / "conf" / "keys.json").unlink()
    _wait(gateway, "keys", before)


def _wait(gateway: GatewayProcess, event: str, before: int) -> None:
    def told() -> bool:
        return any(line.get("event") == event for line in gateway.lines[before:])

    wait_for(told, f"the event {event}")


def test_the_first_key_shuts_the_door(gateway: GatewayProcess) -> None:
    """It is taken up by itself, and so is its end; without the file all may come again."""
    assert ask(gateway) == 200
    put(gateway, keyring.write((KEY,)), "keys")
    assert (ask(gateway), ask(gateway, "sk-1"), ask(gateway, "sk-2")) == (401, 200, 401)
    put(gateway, keyring.write((keyring.revoked(KEY, at=1.0, by=0),)), "keys")
    assert (ask(gateway), ask(gateway, "sk-1")) == (401, 401)
    take_away(gateway)
    assert ask(gateway) == 200


def test_a_first_key_that_cannot_be_read(gateway: GatewayProcess) -> None:
    """Whoever made it meant to shut the door."""
    put(gateway, b"{", "keys_unreadable")
    assert ask(gateway) == 401


def test_a_damaged_file_takes_no_key_away(gateway: GatewayProcess) -> None:
    """Those that were read hold on."""
    put(gateway, keyring.write((KEY,)), "keys")
    put(gateway, b"{", "keys_unreadable")
    assert (ask(gateway), ask(gateway, "sk-1")) == (401, 200)


def test_the_file_is_gone_where_others_reach(outside: GatewayProcess) -> None:
    """There it began with a key, and without one it lets nobody in."""
    assert ask(outside, "sk-1") == 200
    take_away(outside)
    assert (ask(outside), ask(outside, "sk-1")) == (401, 401)


def test_a_revoked_key_and_no_descriptor(gateway: GatewayProcess) -> None:
    """The one look that fails, as in a flood of connections, is not the last one."""
    put(gateway, keyring.write((KEY,)), "keys")
    before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    revoked = keyring.write((keyring.revoked(KEY, at=1.0, by=0),))
    put(gateway, revoked, "keys_unreadable")
    count = len(gateway.lines)
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
    _wait(gateway, "keys", count)
    assert ask(gateway, "sk-1") == 401
