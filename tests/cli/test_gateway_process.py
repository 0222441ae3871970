"""The gateway as a process: who is it, and who is not."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl import paths
from gpuctl.cli import gateway_process
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from tests.cli.gateway_bench import PROGRAM, PYTHON
from tests.rig.waiting import wait_for

SLEEPER = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as another user")


@pytest.fixture
def session() -> Iterator[Session]:
    """Directories that another user may enter."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-gateway-") as made:
        os.chmod(made, 0o755)
        place = Path(made) / "run"
        place.mkdir()
        (Path(made) / "run-gateway").mkdir()
        names = {f"GPUCTL_{name}_DIR": str(place) for name in ("CONFIG", "STATE", "RUNTIME")}
        session = Session(environment=names)
        yield session
        if (left := gateway_process.running(session.own)) not in (None, os.getpid()):
            os.kill(left, signal.SIGKILL)


@pytest.fixture
def own(session: Session) -> paths.Directories:
    return session.own


def write(own: paths.Directories, document: object) -> None:
    Path(own.gateway).write_text(json.dumps(document))


@pytest.fixture
def held(own: paths.Directories) -> Iterator[None]:
    """The lock, held by this process."""
    with open(own.gateway_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_nothing_is_there(own: paths.Directories) -> None:
    """Without a file there is no gateway, and nothing to end."""
    assert gateway_process.running(own) is None
    assert gateway_process.end(own) is None
    assert gateway_process.ended(own, seconds=10.0)


@pytest.mark.usefixtures("held")
def test_who_holds_the_lock_and_says_so_is_the_gateway(own: paths.Directories) -> None:
    """Its number in the file, and the kernel's word that this number holds the lock."""
    write(own, {"pid": os.getpid()})
    assert gateway_process.running(own) == os.getpid()


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"pid": 1}, id="another's number"),
        pytest.param({"pid": [os.getpid()]}, id="no number"),
        pytest.param({}, id="without one"),
        pytest.param([], id="no document"),
    ],
)
def test_what_is_written_alone_proves_nothing(own: paths.Directories, document: object) -> None:
    """The gateway is another user's program: its word is checked."""
    write(own, document)
    assert gateway_process.running(own) is None


def test_an_old_file_is_nobody(own: paths.Directories) -> None:
    """The number of a gateway that died may be another program's by now, which is left alone."""
    with subprocess.Popen(SLEEPER) as other:
        write(own, {"pid": other.pid})
        Path(own.gateway_lock).touch()
        assert gateway_process.end(own) is None
        assert other.poll() is None
        other.kill()


def test_a_pipe_in_its_place_keeps_nobody(own: paths.Directories) -> None:
    """Nobody waits for a file that is none."""
    os.mkfifo(own.gateway)
    assert gateway_process.running(own) is None


def test_started_and_ended(session: Session, own: paths.Directories) -> None:
    """It writes its log into the state directory, and ends when it is told."""
    child = gateway_process.start(session, PROGRAM)
    wait_for(lambda: gateway_process.running(own) == child.pid, "the gateway", 10.0)
    assert os.getsid(child.pid) == child.pid  # the end of a terminal is not its end
    assert Path(own.gateway_log).read_text() == "it listens\n"
    assert gateway_process.end(own) == child.pid
    assert child.wait(10) == 0
    assert gateway_process.ended(own, seconds=10.0)


def test_one_that_does_not_end_is_told(session: Session, own: paths.Directories) -> None:
    """A drain may take longer than somebody waits."""
    child = gateway_process.start(session, PROGRAM)
    wait_for(lambda: gateway_process.running(own) == child.pid, "the gateway", 10.0)
    child.send_signal(signal.SIGSTOP)
    try:
        assert not gateway_process.ended(own, seconds=0.0)
    finally:
        child.kill()
        child.wait()


def test_what_up_says(
    session: Session, own: paths.Directories, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it listens; or that it does not, and where that is explained."""
    assert not gateway_process.tell(session, "127.0.0.1:4000", seconds=0.0)
    Path(own.gateway_log).touch()
    child = gateway_process.start(session, PROGRAM)
    assert gateway_process.tell(session, "127.0.0.1:4000", seconds=10.0)
    assert not gateway_process.tell(session, "127.0.0.1:4001", seconds=0.0)
    child.kill()
    child.wait()
    assert capsys.readouterr().err.splitlines() == [
        "warning: no gateway listens on 127.0.0.1:4000; `gpuctl gateway` says why",
        "the gateway listens on 127.0.0.1:4000",
        f"warning: no gateway listens on 127.0.0.1:4001; {own.gateway_log} says why",
    ]


#: Becomes a program that tells what it is.
BECOMING = """
import os, sys
from gpuctl.cli import gateway_process
from gpuctl.cli.session import Session
names = ["GPUCTL_RUNTIME_DIR", "RUNTIME_DIRECTORY", "API_KEYS"]
told = f"import os; print(os.getpid(), os.geteuid(), [os.environ.get(name) for name in {names}])"
session = Session(environment=dict(os.environ))
gateway_process.become(session, (sys.argv[1], "-S", "-c", told))
"""


def test_it_becomes_the_program(session: Session) -> None:
    """In the same process, as another user than root, in the daemon's directories."""
    runtime = session.own.runtime
    told = {**os.environ, **session.environment, "RUNTIME_DIRECTORY": runtime, "API_KEYS": "a"}
    with subprocess.Popen(
        [sys.executable, "-c", BECOMING, PYTHON], env=told, stdout=subprocess.PIPE, text=True
    ) as process:
        said, _ = process.communicate(timeout=30)
    user = gateway_process.account(None) if os.geteuid() == 0 else os.geteuid()
    assert said == f"{process.pid} {user} {[runtime, None, 'a']}\n"


@as_root
def test_root_gives_it_another_user(session: Session, own: paths.Directories) -> None:
    """It is not root, it may read status.json, and its directory is its own."""
    Path(own.status).touch()
    os.chown(own.status, 0, 4321)
    child = gateway_process.start(session, PROGRAM)
    wait_for(lambda: gateway_process.running(own) == child.pid, "the gateway", 10.0)
    status = Path(f"/proc/{child.pid}/status").read_text()
    found = os.stat(os.path.dirname(own.gateway))
    child.kill()
    child.wait()
    user = gateway_process.account(None)
    lines = dict(line.split(":", 1) for line in status.splitlines())
    assert user != 0
    assert lines["Uid"].split() == [str(user)] * 4
    assert lines["Gid"].split() == ["4321"] * 4
    assert lines["Groups"].split() == []
    assert (found.st_uid, found.st_gid) == (user, 4321)


@as_root
def test_what_another_user_left_is_removed(session: Session, own: paths.Directories) -> None:
    """A gateway that ran as somebody else leaves files that this one could not write."""
    for path in (own.gateway, own.gateway_lock):
        Path(path).touch()
    os.chown(own.gateway, gateway_process.account(None), 0)
    gateway_process.prepare(session)
    assert os.listdir(os.path.dirname(own.gateway)) == ["gateway.json"]


@as_root
@pytest.mark.usefixtures("held")
def test_what_a_running_one_holds_is_left(session: Session, own: paths.Directories) -> None:
    """Its lock must not be taken from under it."""
    write(own, {"pid": os.getpid()})
    gateway_process.prepare(session)
    assert gateway_process.running(own) == os.getpid()


@as_root
def test_a_user_that_may_not_run_it(session: Session) -> None:
    """What only root may run is no gateway; who may not, and what, is said."""
    with tempfile.TemporaryDirectory() as made:
        program = Path(made) / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        with pytest.raises(GpuctlError, match="cannot be started as user"):
            gateway_process.start(session, (str(program),))


@as_root
def test_root_may_name_another_user(session: Session, own: paths.Directories) -> None:
    """Also itself, on a host where its Python is nobody else's."""
    named = Session(environment={**session.environment, "GPUCTL_GATEWAY_USER": "root"})
    assert gateway_process.prepare(named) is None
    assert os.stat(os.path.dirname(own.gateway)).st_uid == 0


def test_a_user_that_is_not_there() -> None:
    """A name that is wrong is refused, and nobody else taken."""
    with pytest.raises(GpuctlError, match="there is no user no-such-user") as caught:
        gateway_process.account("no-such-user")
    assert "GPUCTL_GATEWAY_USER" in caught.value.hint


@as_root
def test_its_users_are_refused_by_the_daemon_of_root() -> None:
    """Whom it would run as is among them, and root is not."""
    assert gateway_process.account(None) in gateway_process.users()
    assert 0 not in gateway_process.users()
