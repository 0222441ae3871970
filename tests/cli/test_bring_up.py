"""`up`, told to a daemon of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer
from gpuctl.cli import bring_up, choose
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from tests.cli import fake_docker
from tests.rig.http import free_port

#: Of the intent that the daemon below answers with.
EVENT = 7


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
