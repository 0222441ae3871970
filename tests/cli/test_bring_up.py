"""`up`, told to a daemon of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer
from gpuctl.adapters.lock import lock_directory
from gpuctl.cli import bring_up, choose, gateway_process
from gpuctl.cli.follow import TimedOut
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from tests import make
from tests.cli import fake_docker
from tests.cli.conftest import DOCUMENT
from tests.rig.http import free_port

ROW = json.loads(DOCUMENT.read_text())["replicas"][0]
PLAN = make.plan(make.replica(), make.replica("chat-1"))

#: Of the intent that the daemon below answers with.
EVENT = 7


def row(phase: str, name: str = "chat-0", reason: str = "") -> dict[str, Any]:
    """Return a replica's row in a Status."""
    return {**ROW, "name": name, "phase": phase, "reason": reason}


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """A profile that leaves its runtime open, of one container."""
    path = tmp_path / "rig.toml"
    path.write_text(
        'schema = 1\n[host]\nname = "rig"\n[workloads.chat]\nengine = "container"\n'
        f'image = "i"\ngpus = "none"\nport = {free_port()}\n'
    )
    return str(path)


@pytest.fixture
def daemon(place: Path) -> Iterator[list[str]]:
    """The verbs that a daemon was told, which agrees to all of them."""
    told: list[str] = []

    def handle(body: Mapping[str, Any]) -> Mapping[str, Any]:
        told.append(body["verb"])
        return {"ok": True, "event": EVENT}

    server = ControlServer(place / "gpuctl.sock", handle)
    server.begin()
    yield told
    server.close()


def test_up_decides_the_runtime_for_good(
    here: Session, docker: Path, daemon: list[str], profile: str
) -> None:
    """What is applied names the runtime that was found; the daemon is told once it is stored."""
    with fake_docker.answering(docker):
        assert bring_up.command(here, profile, wait=False, timeout=1) == 0

    assert choose.applied(here).host.runtime == "docker"
    assert '"runtime": "docker"' in choose.applied_text(here)
    assert daemon == ["up"]


def test_up_leaves_nothing_behind(
    here: Session, docker: Path, daemon: list[str], profile: str
) -> None:
    """With the engine gone, the same profile does not become processes, and nothing is stored."""
    with fake_docker.answering(docker):
        bring_up.command(here, profile, wait=False, timeout=1)
    before = choose.applied_text(here)

    with pytest.raises(GpuctlError, match="would move to process"):
        bring_up.command(here, profile, wait=False, timeout=1)

    assert choose.applied_text(here) == before
    assert daemon == ["up"]


def test_a_wait_that_is_over_is_a_failure(
    here: Session, publish: Callable[..., Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not ready when the time is over is named, and the exit code is 1."""
    held = lock_directory(place)
    publish(at=time.time(), last_event=EVENT, replicas=[row("ready"), row("loading", "chat-1")])

    with pytest.raises(TimedOut) as caught:
        bring_up.ready(here, PLAN, lambda: None, lambda _: True, timeout=0)

    assert caught.value.exit_code == 1
    assert "not ready yet: chat-1: loading" in capsys.readouterr().err.splitlines()
    os.close(held)


def test_a_daemon_that_does_not_take_it_up(
    here: Session, publish: Callable[..., Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All ready, but by what was applied before: that is told, and no success."""
    held = lock_directory(place)
    publish(at=time.time(), replicas=[row("ready"), row("ready", "chat-1")])

    with pytest.raises(TimedOut):
        bring_up.ready(here, PLAN, lambda: None, lambda _: False, timeout=0)

    assert "the daemon has not taken it up yet" in capsys.readouterr().err.splitlines()
    os.close(held)


def test_a_replica_that_failed_is_told(
    here: Session, publish: Callable[..., Any], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is on its way any more, and one has failed: which, and why; exit code 3."""
    held = lock_directory(place)
    failed = row("failed", "chat-1", reason="gpu_avoided")
    publish(at=time.time(), replicas=[row("ready"), failed])

    assert bring_up.ready(here, PLAN, lambda: None, lambda _: True, timeout=1) == 3

    assert "chat-1: failed: gpu_avoided" in capsys.readouterr().err.splitlines()
    os.close(held)


@pytest.mark.parametrize(
    ("names", "said"),
    [(["chat-0"], "all ready: 1 replica"), (["chat-0", "chat-1"], "all ready: 2 replicas")],
)
def test_all_ready(
    here: Session,
    publish: Callable[..., Any],
    place: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    said: str,
) -> None:
    """How many there are is said in the words for so many."""
    held = lock_directory(place)
    publish(at=time.time(), replicas=[row("ready", name) for name in names])
    plan = make.plan(*map(make.replica, names))

    assert bring_up.ready(here, plan, lambda: None, lambda _: True, timeout=1) == 0

    assert capsys.readouterr().err.splitlines()[-1] == said
    os.close(held)


def test_a_gateway_that_does_not_listen_is_a_failure(
    here: Session,
    docker: Path,
    daemon: list[str],
    profile: str,
    publish: Callable[..., Any],
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every replica is ready, and nobody can ask them: a warning, and exit code 3."""
    Path(profile).write_text(f"{Path(profile).read_text()}[gateway]\n")
    monkeypatch.setattr(gateway_process, "tell", partial(gateway_process.tell, seconds=0.0))
    held = lock_directory(place)
    publish(at=time.time(), last_event=EVENT, replicas=[row("ready")])

    with fake_docker.answering(docker):
        assert bring_up.command(here, profile, wait=True, timeout=1) == 3

    told = "warning: no gateway listens on 127.0.0.1:4000; `gpuctl gateway` says why"
    assert capsys.readouterr().err.splitlines()[-2:] == ["all ready: 1 replica", told]
    os.close(held)


@pytest.mark.program
def test_ctrl_c_leaves_it_to_the_daemon(
    place: Path, gpuctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `up` that is interrupted while a model loads ends with 130; the daemon goes on."""
    host = place / "slow.json"
    cpu = json.loads((resources.files("gpuctl") / "data" / "hosts" / "cpu.json").read_text())
    host.write_text(json.dumps(cpu | {"replicas": {"chat-0": "slow_load:600"}}))
    monkeypatch.setenv("GPUCTL_SIMULATE", str(host))
    command = [sys.executable, "-m", "gpuctl", "up", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        try:
            assert any("loading" in line for line in iter(up.stderr.readline, ""))
            up.send_signal(signal.SIGINT)
            assert up.wait(30) == 130
        finally:
            up.kill()
        said = up.stderr.read()

    assert "interrupted: the daemon goes on" in said
    assert gpuctl("status").code == 3
    assert gpuctl("down").code == 0
