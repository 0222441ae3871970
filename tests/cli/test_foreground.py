"""A daemon composed as `gpuctl daemon` composes it, on the test's own Docker Engine, or none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.lock import lock_engine
from gpuctl.cli import bring_up, foreground
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, LockHeld, RuntimeUnavailable
from gpuctl.model import HostSettings, Profile, Workload
from tests.cli import fake_docker

PROFILE = Profile(
    host=HostSettings(name="rig", runtime="docker"),
    workloads=(Workload(name="chat", engine="container", image="i", gpus="none", port=8081),),
)


def published(place: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place / "status.json").read_text())
    return document


def reasons(place: Path) -> list[str]:
    return [condition["reason"] for condition in published(place)["conditions"]]


def test_an_engine_that_is_away_is_unread_and_nothing_else(here: Session, place: Path) -> None:
    """With Docker applied and away, the daemon says so and starts nothing in another runtime."""
    bring_up.apply(here, PROFILE)

    with foreground.supervisor(here) as daemon:
        daemon.sources.runtime.sample()
        daemon.step()
        daemon.end()

    assert set(reasons(place)) == {"runtime_unread"}
    assert published(place)["replicas"][0]["phase"] == "pending"
    assert not (place / "processes").exists()


def test_it_is_taken_up_when_it_is_back(here: Session, docker: Path, place: Path) -> None:
    """The daemon that began without its engine locks and reads it as soon as it answers."""
    bring_up.apply(here, PROFILE)

    with foreground.supervisor(here) as daemon:
        daemon.sources.runtime.sample()
        with fake_docker.answering(docker):
            daemon.sources.runtime.sample()
            with pytest.raises(LockHeld):
                lock_engine(fake_docker.ID)
        assert "runtime" not in daemon.latest.errors
        daemon.end()


def test_a_second_daemon_on_one_engine_is_refused(here: Session, docker: Path) -> None:
    """Another state directory is no way around the lock on the engine."""
    bring_up.apply(here, PROFILE)

    with fake_docker.answering(docker):
        held = lock_engine(fake_docker.ID)
        with pytest.raises(LockHeld), foreground.supervisor(here):
            pass
        held.close()


def test_whoever_waits_is_told_at_once(here: Session) -> None:
    """A `down` without a daemon ends when the runtime does not answer, instead of waiting."""
    bring_up.apply(here, PROFILE)

    with pytest.raises(RuntimeUnavailable), foreground.supervisor(here, intent="down"):
        pass


def test_loading_asks_no_engine(here: Session, docker: Path) -> None:
    """An engine that hangs keeps no intent and no reload waiting: it is not asked for anything."""
    left_open = replace(PROFILE, host=HostSettings(name="rig"))
    for profile in (PROFILE, left_open):
        bring_up.apply(here, profile)
        docker.unlink(missing_ok=True)
        with fake_docker.hung(docker) as asked:
            setting = foreground.setting(here, "docker")
            assert not asked()
        assert setting.profile == PROFILE
        assert [replica.name for replica in setting.plan.replicas] == ["chat-0"]


def test_an_intent_asks_no_engine(here: Session, docker: Path) -> None:
    """`up` and a reload of a running daemon are heeded while its engine hangs."""
    bring_up.apply(here, PROFILE)

    with foreground.supervisor(here) as daemon, fake_docker.hung(docker) as asked:
        assert daemon.intend({"verb": "up", "subject": "", "uid": 0, "pid": 1})["ok"]
        daemon.reload()
        daemon.step()
        assert not asked()
        daemon.end()


def test_a_daemon_keeps_to_its_runtime(here: Session) -> None:
    """A profile for another runtime than the one it supervises is refused, and told what to do."""
    bring_up.apply(here, replace(PROFILE, host=HostSettings(name="rig", runtime="process")))

    with pytest.raises(GpuctlError, match="in process, and this daemon supervises") as caught:
        foreground.setting(here, "docker")

    assert "gpuctl down" in caught.value.hint
