"""The words a service manager hears, on a real datagram socket."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.adapters.systemd import SEND_SECONDS, Systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd listens: a path, or a name that begins with `@` in NOTIFY_SOCKET."""
    names = {"path": str(tmp_path / "notify"), "abstract": f"\0gpuctl-test-{os.getpid()}"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(names[request.param])
        listener.settimeout(5)
        yield listener


def _address(manager: socket.socket) -> str:
    name = manager.getsockname()
    return "@" + name[1:].decode() if isinstance(name, bytes) else str(name)


def _heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_each_word_is_one_datagram(manager: socket.socket) -> None:
    """What belongs together, READY and its STATUS, arrives together."""
    systemd = Systemd(_address(manager), watchdog_seconds=30.0)
    systemd.tell("READY=1", "STATUS=16 replicas")
    systemd.tell("WATCHDOG=1")
    systemd.tell("STATUS=15 of 16 ready")
    systemd.tell("STOPPING=1", "STATUS=bye")
    assert [_heard(manager) for _ in range(4)] == [
        ["READY=1", "STATUS=16 replicas"],
        ["WATCHDOG=1"],
        ["STATUS=15 of 16 ready"],
        ["STOPPING=1", "STATUS=bye"],
    ]


def test_a_reload_carries_its_time_in_the_same_datagram(manager: socket.socket) -> None:
    """RELOADING without MONOTONIC_USEC in the same message is refused by systemd."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Systemd(_address(manager)).tell("RELOADING=1")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    word, stamp = _heard(manager)
    assert word == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_line_break_cannot_add_an_assignment(manager: socket.socket) -> None:
    """A status text is one line, whatever an engine wrote into it."""
    Systemd(_address(manager)).tell("STATUS=loading\nSTOPPING=1")
    assert _heard(manager) == ["STATUS=loading STOPPING=1"]


def test_without_a_watchdog_no_sign_of_life_is_sent(manager: socket.socket) -> None:
    """A unit without WatchdogSec hears READY and nothing of the watchdog."""
    systemd = Systemd(_address(manager))
    systemd.tell("WATCHDOG=1")
    systemd.tell("READY=1")
    assert _heard(manager) == ["READY=1"]


def test_the_environment_is_read_once_and_left_without_it() -> None:
    """A child that inherited NOTIFY_SOCKET could declare the daemon ready, or dead."""
    environment = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/usr/bin",
    }
    systemd = Systemd.take(environment)
    assert (systemd.listening, systemd.watchdog_seconds) == (True, 30.0)
    assert environment == {"PATH": "/usr/bin"}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        pytest.param({"WATCHDOG_USEC": "500000"}, 0.5, id="no pid: meant for us"),
        pytest.param({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None, id="another's"),
        pytest.param({}, None, id="no watchdog"),
    ],
)
def test_whose_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    """WATCHDOG_PID names who must give the signs of life."""
    assert Systemd.take(environment).watchdog_seconds == seconds


def test_outside_a_unit_nothing_happens() -> None:
    """In a terminal every call is a no-op."""
    systemd = Systemd.take({})
    systemd.tell("READY=1")
    systemd.tell("WATCHDOG=1")
    systemd.tell("RELOADING=1")
    systemd.tell("STOPPING=1")
    assert not systemd.listening


def test_a_manager_that_does_not_listen_is_no_failure(tmp_path: Path) -> None:
    """The socket of a systemd that is gone must not take the daemon along."""
    systemd = Systemd(str(tmp_path / "gone"), watchdog_seconds=1.0)
    systemd.tell("WATCHDOG=1")
    systemd.tell("READY=1")
    assert systemd.listening


def test_a_manager_whose_queue_is_full_does_not_stop_the_loop(tmp_path: Path) -> None:
    """Words to a systemd that does not read are dropped after a time, a second by default."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "full"))
        _fill(str(tmp_path / "full"))
        began = time.monotonic()
        Systemd(str(tmp_path / "full"), send_seconds=0.05).tell("READY=1")
        assert time.monotonic() - began < 2
    assert SEND_SECONDS == 1.0


def _fill(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.sendto(b"x", address)
