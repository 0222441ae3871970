"""
The gateway's unit beside the daemon's, on a real systemd: two processes of two users.

What docs/operations.md has an operator do is done here, then either of them is killed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from gpuctl.model import Mount
from tests.e2e.host import GPUSIM, tag_programs
from tests.e2e.test_unit import DROP_IN, GPUCTL, GROUP_ID, SOCKET, Machine
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import free_port
from tests.rig.images import rig_mounts
from tests.rig.systemd import Systemd, unit_text
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.systemd, pytest.mark.timeout(180)]

USER_ID = 989
GATEWAY = "gpuctl-gateway"

#: A program that is here, and may lie in root's home or in /tmp; it is missed sooner.
GATEWAY_DROP_IN = f"""
[Service]
ExecStart=
ExecStart={" ".join(GPUCTL)} gateway
WatchdogSec=3
ProtectHome=no
PrivateTmp=no
"""

PROFILE = """
schema = 1
[host]
name = "unit"
runtime = "docker"
[watchdog]
interval = "1s"
[workloads.chat]
engine = "container"
image = "{image}"
gpus = "none"
port = 18281
container_port = 8080
args = ["--host", "0.0.0.0", "--port", "8080"]
mounts = {mounts}
[gateway]
listen = "127.0.0.1:{port}"
"""

#: Ask for a path; print the status.
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"


class GatewayMachine(Machine):
    """A machine with both units; *port* is the gateway's."""

    port: int

    def gateway_pid(self) -> str:
        return self.systemd.show(GATEWAY, "MainPID")

    def answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/health"
        return self.systemd.attempt(sys.executable, "-c", ASK, url)[1].strip() == "200"


@pytest.fixture(scope="module")
def machine(engine: PrivateEngine) -> Iterator[GatewayMachine]:
    client = engine.client()
    tag_programs(client)
    socket = Mount(source=str(engine.socket), target=SOCKET, read_only=False)
    mounts = json.dumps([f"{m.source}:{m.target}:ro" for m in rig_mounts()])
    with Systemd(engine, mounts=(socket,), network="host") as systemd:
        systemd.write("/etc/group", f"root:x:0:\ngpuctl:x:{GROUP_ID}:\n")
        user = f"{GATEWAY}:x:{USER_ID}:{GROUP_ID}::/nonexistent:/usr/sbin/nologin"
        systemd.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\n{user}\n")
        systemd.install("gpuctl.service", unit_text("gpuctl.service"), drop_in=DROP_IN)
        unit = unit_text("gpuctl-gateway.service")
        systemd.install("gpuctl-gateway.service", unit, drop_in=GATEWAY_DROP_IN)
        made = GatewayMachine(systemd, client)
        made.port = free_port()
        text = PROFILE.format(image=GPUSIM, mounts=mounts, port=made.port)
        systemd.write("/etc/gpuctl/profile.toml", text)
        systemd.run("systemctl", "enable", "gpuctl", GATEWAY)
        code, out = made.gpuctl("up", "--timeout", "60")
        assert code == 0, f"{out}\n{systemd.journal('gpuctl')}\n{systemd.journal(GATEWAY)}"
        assert f"the gateway listens on 127.0.0.1:{made.port}" in out, systemd.journal(GATEWAY)
        yield made
        made.gpuctl("down")
        systemd.attempt("systemctl", "stop", "gpuctl")
    for row in client.containers(all=True, filters={"label": "gpuctl.replica"}):
        client.remove_container(row["Id"], force=True)
    client.close()


def test_it_is_another_user(machine: GatewayMachine) -> None:
    """It reads the daemon's Status as a member of its group, and has no capability at all."""
    lines = machine.systemd.run("cat", f"/proc/{machine.gateway_pid()}/status").splitlines()
    told = dict(line.split(":", 1) for line in lines)
    assert told["Uid"].split() == [str(USER_ID)] * 4
    assert told["Gid"].split() == [str(GROUP_ID)] * 4
    assert {told[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert machine.answers()


def test_status_tells_of_it(machine: GatewayMachine) -> None:
    """Its line stands below the daemon's."""
    _, out = machine.gpuctl("status")
    assert f"gateway 127.0.0.1:{machine.port} · 0 in flight, 0 queued" in out


def test_it_is_started_again(machine: GatewayMachine) -> None:
    """SIGKILL: systemd starts another, which listens where the one before did."""
    before = machine.gateway_pid()
    machine.systemd.run("systemctl", "kill", "--signal=SIGKILL", GATEWAY)
    wait_for(lambda: machine.gateway_pid() not in ("0", before), "another gateway", 30.0)
    wait_for(machine.answers, "its answer", 30.0)


def test_one_that_is_frozen_is_replaced(machine: GatewayMachine) -> None:
    """SIGSTOP: no sign of life from its loop for WatchdogSec, so systemd ends it."""
    before = machine.gateway_pid()
    machine.systemd.run("kill", "-STOP", before)
    wait_for(lambda: machine.gateway_pid() not in ("0", before), "another gateway", 60.0)
    assert "Watchdog timeout" in machine.systemd.journal(GATEWAY)
    wait_for(machine.answers, "its answer", 30.0)


def test_it_outlives_the_daemon(machine: GatewayMachine) -> None:
    """The daemon killed, or stopped for good: the gateway goes on."""
    before, daemon = machine.gateway_pid(), machine.pid()
    machine.systemd.run("systemctl", "kill", "--signal=SIGKILL", "gpuctl")
    assert machine.answers()
    machine.wait_next(daemon)
    machine.systemd.run("systemctl", "stop", "gpuctl")
    assert machine.answers()
    machine.systemd.run("systemctl", "start", "gpuctl")
    assert machine.gateway_pid() == before


def test_down_ends_it_and_up_starts_it(machine: GatewayMachine) -> None:
    """The daemon stays, as its unit keeps it; the gateway has nothing to do."""
    code, out = machine.gpuctl("down")
    assert (code, "stays, and starts nothing" in out) == (0, True)
    assert machine.systemd.show(GATEWAY, "ActiveState") == "inactive"
    assert machine.systemd.show(GATEWAY, "Result") == "success"
    code, out = machine.gpuctl("up", "--timeout", "60")
    assert (code, f"the gateway listens on 127.0.0.1:{machine.port}" in out) == (0, True)
    assert machine.answers()
