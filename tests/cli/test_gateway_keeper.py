"""The keeper of a gateway that no systemd looks after."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gpuctl.cli import bring_up, foreground, gateway_keeper, gateway_process
from gpuctl.cli.gateway_keeper import Keeper, Own, Past, Step, step
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from gpuctl.model import GatewaySettings, HostSettings, Profile, Workload
from tests.cli.gateway_bench import PROGRAM
from tests.rig.waiting import wait_for

# What is kept outlives who keeps it, and Python says so of every child that does.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

PROFILE = Profile(
    host=HostSettings(name="rig", runtime="docker"),
    workloads=(Workload(name="chat", engine="container", image="i", gpus="none", port=8081),),
    gateway=GatewaySettings(),
)
ONCE = Past(starts=1, started_at=100.0)
THRICE = Past(starts=3, started_at=100.0)
ENDING = Past(ending=True)


@pytest.mark.parametrize(
    ("past", "now", "wanted", "there", "todo", "after"),
    [
        pytest.param(Past(), 0.0, False, False, "wait", Past(), id="neither wanted nor there"),
        pytest.param(
            Past(), 5.0, True, False, "start", Past(starts=1, started_at=5.0), id="missing"
        ),
        pytest.param(Past(), 5.0, True, True, "wait", Past(), id="of the daemon before"),
        pytest.param(ONCE, 100.0, True, False, "start", replace(ONCE, starts=2), id="died at once"),
        pytest.param(THRICE, 101.9, True, False, "wait", THRICE, id="died again and again"),
        pytest.param(
            THRICE, 102.0, True, False, "start", Past(starts=4, started_at=102.0), id="its pause"
        ),
        pytest.param(THRICE, 159.9, True, True, "wait", THRICE, id="runs, not long enough"),
        pytest.param(THRICE, 160.0, True, True, "wait", Past(), id="runs for a minute"),
        pytest.param(THRICE, 101.0, False, True, "end", ENDING, id="not wanted any more"),
        pytest.param(ENDING, 102.0, False, True, "wait", ENDING, id="drains"),
        pytest.param(ENDING, 103.0, True, True, "wait", ENDING, id="drains, and is wanted again"),
        pytest.param(
            ENDING, 104.0, True, False, "start", Past(starts=1, started_at=104.0), id="drained"
        ),
    ],
)
def test_step(past: Past, now: float, wanted: bool, there: bool, todo: Step, after: Past) -> None:
    """What is missing is started, what lives is forgiven its past, what must go is told once."""
    assert step(past, now, wanted=wanted, there=there) == (todo, after)


@dataclass
class Dies:
    """A gateway that is never there."""

    now: float = 0.0
    starts: list[float] = field(default_factory=list)
    ends: int = 0
    refuses: bool = False
    runs: bool = False

    def there(self) -> bool:
        return self.runs

    def start(self) -> None:
        if self.refuses:
            raise GpuctlError("the gateway cannot be started", "")
        self.starts.append(self.now)

    def end(self) -> None:
        self.ends += 1
        if self.refuses:
            raise GpuctlError("another user's", "")


def test_a_gateway_that_cannot_live_is_tried_ever_less_often() -> None:
    """At once, then after 1, 2, 4, 8, 16 and 30 s, for ever."""
    gateway = Dies()
    keeper = Keeper(gateway, lambda: True, lambda: gateway.now)
    for second in range(130):
        gateway.now = float(second)
        keeper.look()
    assert gateway.starts == [0, 1, 2, 4, 8, 16, 32, 62, 92, 122]


def test_what_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A start that the system refuses ends no watch, nor does an end."""
    gateway = Dies(refuses=True)
    keeper = Keeper(gateway, lambda: not gateway.runs, lambda: 0.0)
    with caplog.at_level(logging.ERROR, "gpuctl"):
        keeper.look()
        gateway.runs = True
        keeper.look()
        keeper.look()
    assert gateway.ends == 2
    assert caplog.messages[0].startswith("event=gateway_start_failed error=")
    assert caplog.messages[1].startswith("event=gateway_end_failed error=")


@pytest.mark.parametrize(("size", "kept"), [(99, 99), (100, 0)])
def test_a_log_is_put_aside(tmp_path: Path, size: int, kept: int) -> None:
    """A log that has grown large is copied and begun anew, under the process that writes it."""
    path = tmp_path / "gateway.log"
    with open(path, "ab") as writer:
        writer.write(b"x" * size)
        writer.flush()
        gateway_keeper.trim(str(path), 100)
        assert path.stat().st_size == kept
        writer.write(b"y")
    assert path.stat().st_size == kept + 1
    assert (tmp_path / "gateway.log.1").exists() is (kept == 0)


def test_a_log_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before the first start there is none, which is no mistake; one that cannot be kept is."""
    gateway_keeper.trim(str(tmp_path / "gateway.log"))
    assert caplog.messages == []
    gateway_keeper.trim(str(tmp_path), 0)
    assert [message.partition(" ")[0] for message in caplog.messages] == ["event=log_not_trimmed"]


@pytest.fixture
def open_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Directories that another user may enter, as a gateway that root starts is one."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-keeper-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
def session(open_place: Path) -> Iterator[Session]:
    names = {f"GPUCTL_{name}_DIR": f"{open_place}/run" for name in ("CONFIG", "STATE", "RUNTIME")}
    (open_place / "run").mkdir()
    session = Session(environment={**names, "DOCKER_HOST": f"unix://{open_place}/docker.sock"})
    yield session
    if (left := gateway_process.running(session.own)) is not None:
        os.kill(left, signal.SIGKILL)


def pid(session: Session) -> int:
    return wait_for(lambda: gateway_process.running(session.own), "a gateway", 10.0)


def test_a_killed_gateway_comes_back(session: Session) -> None:
    """It is found to be gone, and another is started; the keeper after this one finds that."""
    keeper = Keeper(Own(session, PROGRAM), lambda: True)
    keeper.look()
    first = pid(session)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    keeper.look()
    second = wait_for(
        lambda: None if gateway_process.running(session.own) in (None, first) else pid(session),
        "another gateway",
        10.0,
    )
    heir = Own(session, PROGRAM)
    assert (second != first, heir.there()) == (True, True)
    heir.end()
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    assert not heir.there()


def test_a_gateway_that_has_not_told_of_itself_yet_is_ended(session: Session) -> None:
    """Between its start and its first word it is known as a child."""
    own = Own(session, PROGRAM)
    own.start()
    assert own.there()
    own.end()
    wait_for(lambda: not own.there(), "its end", 10.0)
    assert gateway_process.running(session.own) is None


@pytest.mark.parametrize(
    ("verbs", "expected"),
    [
        pytest.param([], True, id="nothing said"),
        pytest.param(["down"], False, id="down"),
        pytest.param(["down", "up"], True, id="up again"),
    ],
)
def test_wanted(session: Session, verbs: list[str], expected: bool) -> None:
    """The profile has one, and it was not taken down since."""
    bring_up.apply(session, PROFILE)
    with foreground.supervisor(session) as daemon:
        for verb in verbs:
            daemon.intend({"verb": verb, "subject": ""})
        assert gateway_keeper.wanted(daemon) is expected
        daemon.end()


def test_a_profile_without_a_gateway_wants_none(session: Session) -> None:
    """What `up` applied is what counts."""
    bring_up.apply(session, replace(PROFILE, gateway=None))
    with foreground.supervisor(session) as daemon:
        assert gateway_keeper.wanted(daemon) is False
        daemon.end()


@pytest.mark.parametrize(
    ("environment", "simulate", "runs"),
    [
        pytest.param({}, "", True, id="alone"),
        pytest.param({"INVOCATION_ID": "a"}, "", True, id="in a terminal that is a unit's"),
        pytest.param({"SYSTEMD_EXEC_PID": "1"}, "", True, id="below a unit's process"),
        pytest.param({"NOTIFY_SOCKET": "/run/n"}, "", False, id="a unit of ours"),
        pytest.param({"SYSTEMD_EXEC_PID": str(os.getpid())}, "", False, id="another unit"),
        pytest.param({}, "cpu", False, id="simulated"),
    ],
)
def test_who_keeps_a_gateway(
    session: Session, environment: dict[str, str], simulate: str, runs: bool
) -> None:
    """Under systemd it has a unit of its own, and a simulated host has none; it outlives us."""
    bring_up.apply(session, PROFILE)
    with foreground.supervisor(session) as daemon:
        told = {**session.environment, **environment}
        asked = replace(session, environment=told, simulate=simulate)
        with gateway_keeper.kept(asked, daemon, PROGRAM):
            if runs:
                pid(session)
        assert (gateway_process.running(session.own) is not None) is runs
        daemon.end()
