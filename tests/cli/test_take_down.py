"""`down` ends when nothing is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer
from gpuctl.adapters.lock import lock_directory
from gpuctl.cli import background, bring_up, choose, gateway_process, take_down
from gpuctl.cli.follow import TimedOut
from gpuctl.cli.session import Session
from tests.cli.conftest import DOCUMENT
from tests.cli.gateway_bench import PROGRAM
from tests.rig.waiting import wait_for

ROW = json.loads(DOCUMENT.read_text())["replicas"][2]


def document(phase: str = "stopped", **changes: Any) -> dict[str, Any]:
    """Return what of a Status tells whether a replica is gone."""
    return {"replicas": [ROW | {"phase": phase, "container": None}], "leftovers": []} | changes


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(document(), True, id="nothing left"),
        pytest.param(document("draining"), False, id="not stopped yet"),
        pytest.param(document(leftovers=["gpuctl-chat-2.old-1f"]), False, id="an old one is left"),
        pytest.param(document(leftovers=None), False, id="it cannot be told"),
        pytest.param({"replicas": []}, True, id="a daemon of before, which does not tell"),
    ],
)
def test_gone(status: Any, expected: bool) -> None:
    """Down is when every replica is stopped and no container of any kind is left."""
    assert take_down.gone(status) is expected


@pytest.fixture
def daemon(place: Path, publish: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """A daemon of this process, which commits every intent; it publishes what a test gives."""
    held = lock_directory(place)
    server = ControlServer(place / "gpuctl.sock", _agree)
    server.begin()
    yield lambda **changes: publish(at=time.time(), last_event=7, **changes)
    server.close()
    os.close(held)


def _agree(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"ok": True, "event": 7}


def test_down_with_a_daemon_that_stays(
    here: Session, daemon: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that `up` did not start is left alone, and the command says so."""
    daemon(**document())

    assert take_down.command(here, timeout=1) == 0

    assert f"the daemon ({os.getpid()}) stays" in capsys.readouterr().err


def test_what_would_not_go_is_named(
    here: Session, daemon: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A container that is left when the time is over is told by its name; exit code 1."""
    daemon(**document(leftovers=["gpuctl-chat-2.old-1f"]))

    with pytest.raises(TimedOut) as caught:
        take_down.command(here, timeout=0)

    assert caught.value.exit_code == 1
    assert "still there: gpuctl-chat-2.old-1f" in capsys.readouterr().err.splitlines()


def test_down_without_a_daemon_and_a_damaged_status(
    here: Session, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a crash left half written keeps nobody from taking everything down."""
    own = replace(here, simulate="cpu")
    bring_up.apply(own, choose.load(own, "cpu"))
    (place / "status.json").write_text("{")

    assert take_down.command(own, timeout=20) == 0

    assert "all down; it holds until" in capsys.readouterr().err


def test_down_ends_the_gateway(
    here: Session, daemon: Callable[..., None], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once nothing is left for it to send requests to, and before it says that all is down."""
    names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
    own = replace(here, environment={**names, "GPUCTL_GATEWAY_USER": "root"})
    child = gateway_process.start(own, PROGRAM)
    wait_for(lambda: gateway_process.running(own.own), "the gateway", 10.0)
    daemon(**document())

    assert take_down.command(own, timeout=1) == 0

    assert child.wait(10) == 0
    assert "warning" not in capsys.readouterr().err


def test_down_tells_of_a_gateway_that_answers_on(
    here: Session, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A drain may take longer than anybody waits, which is said."""
    background.end_gateway(here, seconds=0.0)
    assert capsys.readouterr().err == ""
    names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
    own = replace(here, environment={**names, "GPUCTL_GATEWAY_USER": "root"})
    child = gateway_process.start(own, PROGRAM)
    wait_for(lambda: gateway_process.running(own.own), "the gateway", 10.0)
    child.send_signal(signal.SIGSTOP)

    background.end_gateway(own, seconds=0.0)

    child.kill()
    child.wait()
    assert "the gateway has not ended yet" in capsys.readouterr().err
