"""
The shipped units with the real daemon, on a real systemd that uses a real Docker Engine.

What an operator does by hand is done here: install the units, write a profile, `gpuctl up`. Then
the daemon is killed, frozen, stopped and started again, and no container notices.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from docker import APIClient

from gpuctl.model import Mount
from tests.e2e.host import GPUSIM, tag_programs
from tests.rig.dockerd import PrivateEngine
from tests.rig.images import rig_mounts
from tests.rig.systemd import Systemd, unit_text
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.systemd, pytest.mark.timeout(180)]

#: Where the engine's socket is inside; the rig has a tmpfs over /tmp and /run.
SOCKET = "/opt/docker.sock"
DOCKER_HOST = f"unix://{SOCKET}"
STATUS = "/run/gpuctl/status.json"
GPUCTL = (sys.executable, "-m", "gpuctl")
GROUP_ID = 990

#: The unit's own numbers divided by five or more, and a program that is here.
DROP_IN = f"""
[Service]
ExecStart=
ExecStart={" ".join(GPUCTL)} daemon
Environment=DOCKER_HOST={DOCKER_HOST}
Group=gpuctl
RestartSec=1
WatchdogSec=6
# What is tested may lie in /tmp.
PrivateTmp=no
"""

REPORT_DROP_IN = f"""
[Service]
ExecStart=
ExecStart={" ".join(GPUCTL)} report --since 24h
PrivateTmp=no
"""

#: Every three seconds instead of once a day.
TIMER_DROP_IN = """
[Timer]
OnCalendar=
OnCalendar=*:*:0/3
RandomizedDelaySec=0
AccuracySec=100ms
"""

PROFILE = f"""
schema = 1
[host]
name = "unit"
runtime = "docker"
[watchdog]
interval = "1s"
load_spacing = "100ms"
[workloads.chat]
engine = "container"
image = "{GPUSIM}"
gpus = "none"
replicas = 2
port = 18181
container_port = 8080
args = ["--host", "0.0.0.0", "--port", "8080"]
mounts = {json.dumps([f"{m.source}:{m.target}:ro" for m in rig_mounts()])}
"""


class Machine:
    """A machine with gpuctl under systemd, and its containers as the engine sees them."""

    def __init__(self, systemd: Systemd, client: APIClient) -> None:
        self.systemd, self.client = systemd, client

    def gpuctl(self, *arguments: str) -> tuple[int, str]:
        return self.systemd.attempt(
            *GPUCTL, *arguments, environment={"DOCKER_HOST": DOCKER_HOST, "NO_COLOR": "1"}
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.systemd.run("cat", STATUS))
        return found

    def containers(self) -> Mapping[str, tuple[str, str]]:
        """Return replica → (id, StartedAt) of every running container of ours."""
        rows = self.client.containers(filters={"label": "gpuctl.replica"})
        return {
            row["Labels"]["gpuctl.replica"]: (
                row["Id"],
                self.client.inspect_container(row["Id"])["State"]["StartedAt"],
            )
            for row in rows
        }

    def pid(self) -> str:
        return self.systemd.show("gpuctl", "MainPID")

    def wait_next(self, before: str) -> None:
        """Wait until another process than *before* is ready, and has published its Status."""

        def look() -> bool:
            # A command inside costs more than what it waits for: not fifty of them a second.
            self.systemd.run("sleep", "0.2")
            if self.systemd.show("gpuctl", "SubState") != "running":
                return False
            pid = self.pid()
            return pid not in ("0", before) and str(self.status()["daemon"]["pid"]) == pid

        wait_for(look, "the next daemon", 40.0)

    def attempts(self) -> list[str]:
        """Return every action that was ever begun."""
        _, out = self.gpuctl("events", "--kind", "attempt")
        return out.splitlines()


@pytest.fixture(scope="module")
def machine(engine: PrivateEngine) -> Iterator[Machine]:
    """Everything installed and brought up, as docs/operations.md says."""
    client = engine.client()
    tag_programs(client)
    # Not its folder: this machine's own root lies in it, and every mount would double.
    socket = Mount(source=str(engine.socket), target=SOCKET, read_only=False)
    with Systemd(engine, mounts=(socket,), network="host") as systemd:
        systemd.write("/etc/group", f"root:x:0:\ngpuctl:x:{GROUP_ID}:\n")
        systemd.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        systemd.install("gpuctl.service", unit_text("gpuctl.service"), drop_in=DROP_IN)
        report = unit_text("gpuctl-report.service")
        systemd.install("gpuctl-report.service", report, drop_in=REPORT_DROP_IN)
        timer = unit_text("gpuctl-report.timer")
        systemd.install("gpuctl-report.timer", timer, drop_in=TIMER_DROP_IN)
        systemd.write("/etc/gpuctl/profile.toml", PROFILE)
        systemd.run("systemctl", "enable", "gpuctl")
        made = Machine(systemd, client)
        code, out = made.gpuctl("up", "--timeout", "60")
        assert code == 0, f"{out}\n{systemd.journal('gpuctl')}"
        yield made
        systemd.attempt("systemctl", "stop", "gpuctl")
    for row in client.containers(all=True, filters={"label": "gpuctl.replica"}):
        client.remove_container(row["Id"], force=True)
    client.close()


@pytest.fixture
def untouched(machine: Machine) -> Iterator[Machine]:
    """Whatever the test does to the daemon: the same containers run on, and nothing was begun."""
    machine.systemd.run("systemctl", "start", "gpuctl")
    before, attempts = machine.containers(), machine.attempts()
    yield machine
    assert machine.containers() == before
    assert sorted(before) == ["chat-0", "chat-1"]
    assert machine.attempts() == attempts


def test_up_starts_the_unit(machine: Machine) -> None:
    """`up` hands over to the enabled unit, and no daemon of its own is left running."""
    assert machine.systemd.show("gpuctl", "ActiveState") == "active"
    assert machine.pid() == str(machine.status()["daemon"]["pid"])
    assert machine.systemd.attempt("test", "-e", "/run/gpuctl/spawned.pid")[0] == 1


def test_its_files_are_for_the_group(machine: Machine) -> None:
    """Who is in the group of the drop-in may look and act, and nobody else."""
    shown = machine.systemd.run(
        *("stat", "-c", "%g %a %n", STATUS, "/run/gpuctl/gpuctl.sock", "/var/lib/gpuctl"),
    )
    assert shown.splitlines() == [
        f"{GROUP_ID} 640 {STATUS}",
        f"{GROUP_ID} 660 /run/gpuctl/gpuctl.sock",
        f"{GROUP_ID} 750 /var/lib/gpuctl",
    ]


#: Print the unit's state and whether its Status is there, until it is active.
WATCH = f"""
while :; do
    state=$(systemctl is-active gpuctl)
    if [ -e {STATUS} ]; then echo "$state published"; else echo "$state nothing"; fi
    [ "$state" = active ] && exit 0
done
"""


def test_ready_means_that_a_status_is_published(untouched: Machine) -> None:
    """The start goes on until the first Status: never active without one."""
    systemd = untouched.systemd
    systemd.run("systemctl", "stop", "gpuctl")
    systemd.run("rm", STATUS)
    systemd.run("systemctl", "start", "--no-block", "gpuctl")
    seen = systemd.run("timeout", "30", "sh", "-c", WATCH).splitlines()
    assert "activating nothing" in seen
    assert "active nothing" not in seen
    assert seen[-1] == "active published"


def test_a_killed_daemon_is_replaced(untouched: Machine) -> None:
    """SIGKILL: the next one is there after RestartSec, and adopts what runs."""
    before = untouched.pid()
    restarts = int(untouched.systemd.show("gpuctl", "NRestarts"))
    untouched.systemd.run("systemctl", "kill", "--signal=SIGKILL", "gpuctl")
    untouched.wait_next(before)
    assert int(untouched.systemd.show("gpuctl", "NRestarts")) == restarts + 1
    assert untouched.gpuctl("status")[0] == 0


def test_a_frozen_daemon_is_replaced(untouched: Machine) -> None:
    """SIGSTOP: no turn of the loop for WatchdogSec, so systemd ends it and starts another."""
    before = untouched.pid()
    untouched.systemd.run("kill", "-STOP", before)
    untouched.wait_next(before)
    assert "Watchdog timeout" in untouched.systemd.journal("gpuctl")
    assert untouched.gpuctl("status")[0] == 0


def test_a_stop_leaves_the_replicas_running(untouched: Machine) -> None:
    """After `systemctl stop` the Status says that nobody looks; `start` takes up where it was."""
    untouched.systemd.run("systemctl", "stop", "gpuctl")
    assert untouched.systemd.show("gpuctl", "Result") == "success"
    code, out = untouched.gpuctl("status")
    assert (code, "DAEMON STOPPED" in out) == (3, True)
    assert untouched.status()["stopping"] is True
    assert sorted(untouched.containers()) == ["chat-0", "chat-1"]
    untouched.systemd.run("systemctl", "start", "gpuctl")
    assert untouched.gpuctl("status")[0] == 0


def test_the_report_is_made_once(untouched: Machine) -> None:
    """The timer's service writes a report into the journal, and ends well on a healthy host."""
    wait_for(lambda: untouched.gpuctl("status")[0] == 0, "all to be ready")
    untouched.systemd.run("systemctl", "start", "gpuctl-report")
    assert untouched.systemd.show("gpuctl-report", "Result") == "success"
    journal = untouched.systemd.journal("gpuctl-report")
    assert journal.count("gpuctl report: unit: healthy") == 1


def reports(machine: Machine, verdict: str) -> int:
    """Return how many reports in the journal begin with that verdict."""
    return machine.systemd.journal("gpuctl-report").count(f"gpuctl report: unit: {verdict}")


@pytest.fixture
def ticking(untouched: Machine) -> Iterator[Machine]:
    """A machine whose timer fires every three seconds for the length of a test."""
    wait_for(lambda: untouched.gpuctl("status")[0] == 0, "all to be ready")
    untouched.systemd.run("systemctl", "start", "gpuctl-report.timer")
    yield untouched
    untouched.systemd.run("systemctl", "stop", "gpuctl-report.timer")


def test_the_timer_makes_reports(ticking: Machine) -> None:
    """It fires by itself, again and again, and each time there is one more report."""
    before = reports(ticking, "healthy")
    wait_for(lambda: reports(ticking, "healthy") >= before + 2, "two reports")
    assert ticking.systemd.show("gpuctl-report", "Result") == "success"
    assert ticking.systemd.show("gpuctl-report.timer", "Result") == "success"


def starts(machine: Machine) -> int:
    """Return how often systemd has begun to make a report."""
    return machine.systemd.journal("gpuctl-report").count("Starting gpuctl-report.service")


def test_a_degraded_host_fails_the_report_and_nothing_else(ticking: Machine) -> None:
    """Exit code 3 is shown among the failed units; only the timer starts another report."""
    systemd = ticking.systemd
    systemd.run("systemctl", "stop", "gpuctl")
    wait_for(lambda: systemd.show("gpuctl-report", "ExecMainStatus") == "3", "a failed report")
    systemd.run("systemctl", "stop", "gpuctl-report.timer")
    wait_for(lambda: systemd.show("gpuctl-report", "ActiveState") == "failed", "its end")
    began = starts(ticking)
    # A restart, if there were any, would come after 0.1 s: systemd.service(5), RestartSec.
    systemd.run("sleep", "2")
    assert (starts(ticking), systemd.show("gpuctl-report", "NRestarts")) == (began, "0")
    assert "gpuctl-report.service" in systemd.run("systemctl", "--failed", "--plain")
    before = reports(ticking, "healthy")
    systemd.run("systemctl", "start", "gpuctl-report.timer", "gpuctl")
    wait_for(lambda: reports(ticking, "healthy") > before, "a healthy report")
