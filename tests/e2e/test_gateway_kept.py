"""The real gateway beside the real daemon, where no systemd looks after either."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.cli import background, bring_up, gateway_process
from gpuctl.cli.session import Session
from gpuctl.model import GatewaySettings, HostSettings, Profile, Workload
from tests.rig import gateway_build
from tests.rig.http import free_port
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program


class Host:
    """Directories, an applied profile, and the daemon that is started on it."""

    def __init__(self, folder: Path) -> None:
        # Root's own Python may be root's alone, and the gateway of root somebody else.
        self.environment = {
            **os.environ,
            **{
                f"GPUCTL_{name}_DIR": str(folder / "run") for name in ("CONFIG", "STATE", "RUNTIME")
            },
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "GPUCTL_GATEWAY_USER": "root" if os.geteuid() == 0 else "",
        }
        self.session = Session(environment=self.environment)
        self.port = free_port()
        background.prepare(self.session.own)
        self.children: list[subprocess.Popen[bytes]] = []

    def apply(self, *, gateway: bool = True, port: int | None = None) -> None:
        chat = Workload(name="chat", engine="container", image="i", gpus="none", port=18081)
        listen = GatewaySettings(listen=f"127.0.0.1:{port or self.port}")
        bring_up.apply(
            self.session,
            Profile(
                host=HostSettings(name="rig", runtime="docker"),
                workloads=(chat,),
                gateway=listen if gateway else None,
            ),
        )

    def daemon(self) -> subprocess.Popen[bytes]:
        with open(self.session.own.daemon_log, "ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "gpuctl", "daemon"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.children.append(child)
        return child

    def gateway(self, *, but: int | None = None) -> int:
        """Return the pid of the gateway, of another than *but*."""

        def look() -> int | None:
            pid = gateway_process.running(self.session.own)
            return pid if pid != but else None

        pid = wait_for(look, "a gateway", 20.0)
        gateway_build.check(pid, os.environ)
        return pid

    def status(self) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gpuctl", "status"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        if (pid := gateway_process.running(self.session.own)) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="gpuctl-kept-") as made:
        host = Host(Path(made))
        yield host
        host.end()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2.0) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 ")
    return False


def test_it_comes_back_and_outlives_the_daemon(host: Host) -> None:
    """Killed, it is started again; the daemon killed, it goes on, and is the next one's."""
    host.apply()
    daemon = host.daemon()
    first = host.gateway()
    os.kill(first, signal.SIGKILL)
    second = host.gateway(but=first)
    assert answers(host.port)
    daemon.kill()
    daemon.wait()
    assert answers(host.port)
    heir = host.daemon()
    wait_for(lambda: "daemon " + str(heir.pid) in host.status(), "the next daemon", 20.0)
    assert gateway_process.running(host.session.own) == second
    assert f"gateway 127.0.0.1:{host.port} · 0 in flight, 0 queued" in host.status()


def test_a_profile_without_a_gateway_ends_it(host: Host) -> None:
    """What is applied next may have none; and one again."""
    host.apply()
    daemon = host.daemon()
    first = host.gateway()
    host.apply(gateway=False)
    daemon.send_signal(signal.SIGHUP)
    wait_for(lambda: gateway_process.running(host.session.own) is None, "its end", 20.0)
    assert "gateway" not in host.status()
    host.apply()
    daemon.send_signal(signal.SIGHUP)
    assert host.gateway() != first


def test_the_command_is_the_gateway(host: Host) -> None:
    """`gpuctl gateway` becomes it: a second one is refused, and the first left alone."""
    host.apply()
    host.daemon()
    kept = host.gateway()
    by_hand = subprocess.run(
        [sys.executable, "-m", "gpuctl", "gateway"],
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (by_hand.returncode, "another gateway runs here" in by_hand.stderr) == (1, True)
    assert gateway_process.running(host.session.own) == kept
