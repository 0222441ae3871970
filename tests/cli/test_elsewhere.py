"""No replicas are left in another runtime, and no daemon of another's is told `up`."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import paths
from gpuctl.adapters.lock import lock_directory
from gpuctl.adapters.process import ProcessRuntime
from gpuctl.cli import background, bring_up, choose, elsewhere, foreground, session, take_down
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, NotFound
from gpuctl.model import HostSettings, Profile, Workload
from tests.adapters.process_bench import shell
from tests.cli import fake_docker
from tests.cli.conftest import DOCUMENT
from tests.rig.waiting import wait_for

DOCKER = Profile(host=HostSettings(name="rig", runtime="docker"))
PROCESS = Profile(host=HostSettings(name="rig", runtime="process"))
CHAT = Workload(name="chat", engine="llamacpp", port=8001)


def test_nothing_was_applied_before(here: Session) -> None:
    """A first `up` leaves nothing behind."""
    elsewhere.refuse(here, PROCESS)


def test_the_same_runtime_is_no_move(here: Session, docker: Path) -> None:
    """A changed profile of the same runtime is the daemon's affair; no engine is asked."""
    bring_up.apply(here, DOCKER)

    with fake_docker.hung(docker) as asked:
        elsewhere.refuse(here, replace(DOCKER, source="another.toml"))
        elsewhere.refuse(replace(here, simulate="cpu"), PROCESS)
        assert not asked()


def test_containers_that_run_are_not_left(here: Session, docker: Path) -> None:
    """From Docker to processes only once nothing of ours runs in Docker."""
    bring_up.apply(here, DOCKER)

    with fake_docker.answering(docker, "chat-0", "embed-0"):
        with pytest.raises(GpuctlError, match="chat-0, embed-0 still run") as caught:
            elsewhere.refuse(here, PROCESS)
        assert caught.value.hint == "`gpuctl down` first"
    with fake_docker.answering(docker):
        elsewhere.refuse(here, PROCESS)


def test_another_profile_s_containers_are_not_ours_to_wait_for(here: Session, docker: Path) -> None:
    """What another gpuctl runs on the same engine is left by no move of ours."""
    bring_up.apply(here, replace(DOCKER, workloads=(CHAT,)))

    with fake_docker.answering(docker, "embed-0", "chat-large-0", profile="another"):
        elsewhere.refuse(here, PROCESS)


def test_a_replica_kept_from_before_a_new_name_is_not_left(here: Session, docker: Path) -> None:
    """A profile that got another name keeps what runs, under the label of its old name."""
    bring_up.apply(here, replace(DOCKER, workloads=(CHAT,)))

    with (
        fake_docker.answering(docker, "chat-0", profile="old"),
        pytest.raises(GpuctlError, match="but chat-0 still run"),
    ):
        elsewhere.refuse(here, PROCESS)


def test_processes_that_run_are_not_left(here: Session, place: Path) -> None:
    """From processes to Docker only once no process of ours runs."""
    bring_up.apply(here, PROCESS)
    processes = ProcessRuntime(place / "processes", units=False)
    labels = {"gpuctl.replica": "chat-0", "gpuctl.profile": "rig"}
    container = processes.create("gpuctl-chat-0", shell("sleep 60"), labels)
    processes.start(container)

    with pytest.raises(GpuctlError, match="belong in process, and would move to docker, but chat"):
        elsewhere.refuse(here, DOCKER)

    processes.signal(container, "SIGKILL")
    wait_for(lambda: processes.list()[0].state == "exited", "the process to end")
    elsewhere.refuse(here, DOCKER)


def test_an_engine_that_is_away_may_hold_them_still(here: Session, place: Path) -> None:
    """What cannot be read counts as running; the way out of an engine gone for good is told."""
    bring_up.apply(here, DOCKER)

    with pytest.raises(GpuctlError, match=r"cannot be told: .*no Docker Engine listens") as caught:
        elsewhere.refuse(here, PROCESS)

    assert f"remove {place}/applied.json" in caught.value.hint


def test_a_daemon_that_lives_looks_elsewhere(
    here: Session, docker: Path, place: Path, publish: Callable[..., Any]
) -> None:
    """A daemon keeps its runtime for as long as it lives, so it must end first."""
    bring_up.apply(here, DOCKER)
    publish()
    held = lock_directory(place)  # what tells a daemon that lives, here this very process

    with (
        fake_docker.answering(docker),
        pytest.raises(GpuctlError, match="this host's daemon does not look"),
    ):
        elsewhere.refuse(here, PROCESS)

    os.close(held)


def test_a_damaged_copy_is_no_obstacle(here: Session, place: Path) -> None:
    """`up` is what mends an applied profile that cannot be read."""
    (place / "applied.json").write_text("{")

    elsewhere.refuse(here, PROCESS)


@pytest.fixture
def home(docker: Path) -> Path:
    """Where a user's directories come to be: in a short path, as there is a socket in one."""
    return docker.parent / "home"


@pytest.fixture
def member(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A user with directories of their own, beside a system's gpuctl that has published."""
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.setattr(paths, f"SYSTEM_{name}", str(tmp_path / "system"))
    monkeypatch.setattr(session, "_root", lambda: False)
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "status.json").write_text("{}")
    return Session(environment={"HOME": str(home)})


def test_the_system_s_profile_is_not_a_user_s_to_change(member: Session, home: Path) -> None:
    """A member of the group who says `up` is told to use sudo; nothing is written or told."""
    with pytest.raises(GpuctlError, match="the system's gpuctl") as caught:
        bring_up.command(member, "cpu", wait=False, timeout=1)

    assert caught.value.exit_code == 1
    assert "sudo gpuctl" in caught.value.hint
    assert not home.exists()


def test_a_user_s_daemon_reads_no_profile_of_the_system_s(member: Session) -> None:
    """Neither `daemon` nor a `down` without one takes the system's profile for its own."""
    for intent in ("", "down"):
        with (
            pytest.raises(GpuctlError, match="the system's gpuctl"),
            foreground.supervisor(member, intent=intent),
        ):
            pass


@pytest.fixture
def left(member: Session, tmp_path: Path) -> Session:
    """The same, once the system's gpuctl has ended; its unit keeps the directory."""
    document = json.loads(DOCUMENT.read_text())
    document["daemon"]["pid"] = 2**22 + 1  # above any pid. Source: PID_MAX_LIMIT, proc(5)
    (tmp_path / "system" / "status.json").write_text(json.dumps(document))
    return member


def test_a_system_s_gpuctl_that_has_ended_supervises_nothing(left: Session) -> None:
    """A user begins where it left its status; of its files nothing is taken for theirs."""
    assert left.seen != left.own  # `status` tells what was

    begun = elsewhere.refuse_system(left)

    assert (begun.seen, begun.own) == (left.own, left.own)
    with pytest.raises(NotFound, match=re.escape(left.own.applied)):
        choose.applied(begun)


def test_a_system_s_gpuctl_that_lives_is_not_left(left: Session, tmp_path: Path) -> None:
    """Its status is believed for as long as its daemon runs: here, this very process."""
    document = json.loads(DOCUMENT.read_text())
    document["daemon"]["pid"] = os.getpid()
    (tmp_path / "system" / "status.json").write_text(json.dumps(document))
    held = lock_directory(tmp_path / "system")

    with pytest.raises(GpuctlError, match="the system's gpuctl"):
        elsewhere.refuse_system(left)

    os.close(held)


def test_a_user_s_own_daemon(left: Session, docker: Path) -> None:
    """What a user applies, supervises and waits for is theirs, whatever the system left."""
    mine = replace(left, environment={**left.environment, "DOCKER_HOST": f"unix://{docker}"})
    background.prepare(mine.own)
    bring_up.apply(mine, PROCESS)

    with foreground.supervisor(mine) as daemon:
        assert os.path.exists(mine.own.socket)
        daemon.end()
    assert take_down.command(mine, timeout=10) == 0

    assert json.loads(Path(mine.own.status).read_text())["profile"] == "rig"


def test_a_user_s_own_gpuctl_is_theirs(member: Session, tmp_path: Path) -> None:
    """Whoever names a runtime directory means it, whatever the system runs."""
    own = {**member.environment, "GPUCTL_RUNTIME_DIR": str(tmp_path / "mine")}

    session = replace(member, environment=own)
    found = elsewhere.refuse_system(session)
    assert found.seen == found.own
