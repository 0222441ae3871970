"""The shipped units: what systemd's tools say of them, and what a real systemd does with them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl import paths
from tests.rig.dockerd import PrivateEngine
from tests.rig.systemd import Systemd, unit_text
from tests.rig.waiting import wait_for

PROGRAM = "/usr/local/bin/gpuctl"
UNITS = (
    *("gpuctl.service", "gpuctl-gateway.service"),
    *("gpuctl-report.service", "gpuctl-report.timer"),
)

#: A service that does what systemd asks of the daemon, through gpuctl's own adapter.
SERVICE = """
import os, signal, sys, time
from gpuctl.adapters.systemd import Systemd

systemd = Systemd.take(os.environ)
signal.signal(signal.SIGTERM, lambda *_: (systemd.tell("STOPPING=1"), sys.exit(0)))
print("asked to give a sign of life every", systemd.watchdog_seconds, "s")
print("left to the children:", sorted({"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(os.environ)))
for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
    with open(os.environ[name] + "/written", "w") as file:
        file.write("by the service")
systemd.tell("READY=1", "STATUS=2 of 2 replicas ready")
while True:
    systemd.tell("WATCHDOG=1")
    time.sleep(systemd.watchdog_seconds / 4)
"""

#: The unit's own numbers divided by ten, but for the program.
FASTER = f"""
[Service]
ExecStart=
ExecStart={sys.executable} -u /opt/rig/service.py
WatchdogSec=3
RestartSec=1
# What is tested may lie in /tmp.
PrivateTmp=no
"""


needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """The units in a folder of their own, with a program that is on every host."""
    for name in UNITS:
        (tmp_path / name).write_text(unit_text(name).replace(PROGRAM, "/bin/true"))
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@needs_analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(shipped: Path, name: str) -> None:
    """Every directive is known and has a value that systemd understands."""
    verified = analyze("verify", "--man=no", shipped / name)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        # 2.8: root, /dev, other users' files and loopback are what it is for.
        pytest.param("gpuctl.service", 28, id="daemon"),
        # 1.2: clients come by the network, and it has nothing else of the host.
        pytest.param("gpuctl-gateway.service", 12, id="gateway"),
        # 1.2: it reads two files and prints.
        pytest.param("gpuctl-report.service", 12, id="report"),
    ],
)
def test_the_sandbox_stays_closed(shipped: Path, name: str, threshold: int) -> None:
    """The exposure that systemd computes (0 to 100) does not rise unnoticed."""
    secured = analyze("security", "--offline=true", f"--threshold={threshold}", shipped / name)
    assert secured.returncode == 0, secured.stdout[-300:]


def values(name: str, key: str) -> list[str]:
    """Return every value of one directive."""
    return re.findall(rf"^{key}=(.*)$", unit_text(name), re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", f"{PROGRAM} daemon"),
        ("Restart", "always"),
        ("RestartSec", "10"),
        ("StartLimitIntervalSec", "0"),
        ("WatchdogSec", "30"),
        ("KillMode", "mixed"),
        ("RuntimeDirectoryPreserve", "yes"),
    ],
)
def test_the_daemon_is_kept_running(key: str, value: str) -> None:
    """What operators rely on: it comes back for ever, and takes nothing along when it goes."""
    assert values("gpuctl.service", key) == [value]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("ExecStart", f"{PROGRAM} gateway"),
        ("User", "gpuctl-gateway"),
        ("Group", "gpuctl"),
        ("Restart", "always"),
        ("WatchdogSec", "30"),
        ("StartLimitIntervalSec", "0"),
        ("TimeoutStopSec", "40"),
        ("RuntimeDirectory", "gpuctl-gateway"),
        ("RuntimeDirectoryMode", "0750"),
        ("EnvironmentFile", "-/etc/gpuctl/gateway.env"),
        ("LimitNOFILE", "65536"),
        ("CapabilityBoundingSet", ""),
        ("PrivateDevices", "yes"),
    ],
)
def test_the_gateway_is_kept_running(key: str, value: str) -> None:
    """It comes back for ever, drains before it ends, and is nobody of importance."""
    assert values("gpuctl-gateway.service", key) == [value]


def test_the_daemon_s_end_is_not_the_gateway_s() -> None:
    """It serves on while the daemon is away, and looks for its Status where that puts it."""
    for key in ("Requires", "BindsTo", "PartOf", "Requisite"):
        assert values("gpuctl-gateway.service", key) == []
    assert values("gpuctl-gateway.service", "Wants") == ["gpuctl.service"]
    named = dict(line.split("=") for line in values("gpuctl-gateway.service", "Environment"))
    assert paths.directories(named, root=False) == paths.directories({}, root=True)
    assert values("gpuctl-gateway.service", "UnsetEnvironment") == ["RUNTIME_DIRECTORY"]


def test_docker_s_end_is_not_the_daemon_s() -> None:
    """A unit that required Docker would be stopped with it."""
    for key in ("Requires", "BindsTo", "PartOf", "Requisite"):
        assert values("gpuctl.service", key) == []
    assert values("gpuctl.service", "Wants") == ["docker.service nvidia-persistenced.service"]


def test_the_cron_line_reports_once_and_knows_its_path() -> None:
    """Cron's own PATH lacks /usr/local/bin; mail goes to root; reports do not pile up."""
    *settings, line = [
        row for row in unit_text("gpuctl-report.cron").splitlines() if row and row[0] != "#"
    ]
    assert "MAILTO=root" in settings
    assert any(row.startswith("PATH=") and "/usr/local/bin" in row for row in settings)
    # crontab(5): minute, hour, day of month, month, day of week; then, in /etc/cron.d, the user.
    minute, hour, *days, user = line.split()[:6]
    assert (int(minute) in range(60), int(hour) in range(24)) == (True, True)
    assert (days, user) == (["*", "*", "*"], "root")
    assert line.endswith("gpuctl report --since 24h --quiet")
    assert "flock --nonblock " in line
    # To cron, a percent sign is a line break, and a last line without one is no line.
    assert "%" not in line
    assert unit_text("gpuctl-report.cron").endswith("\n")


@pytest.fixture(scope="module")
def systemd(engine: PrivateEngine) -> Iterator[Systemd]:
    with Systemd(engine) as machine:
        machine.write("/opt/rig/service.py", SERVICE)
        machine.install("gpuctl.service", unit_text("gpuctl.service"), drop_in=FASTER)
        yield machine


@pytest.fixture
def started(systemd: Systemd) -> Iterator[Systemd]:
    systemd.run("systemctl", "restart", "gpuctl")
    yield systemd
    systemd.run("systemctl", "stop", "gpuctl")


@pytest.mark.systemd
def test_ready_ends_the_start(started: Systemd) -> None:
    """`systemctl start` returns when READY has come, and `status` shows our line."""
    assert started.show("gpuctl", "SubState") == "running"
    assert started.show("gpuctl", "StatusText") == "2 of 2 replicas ready"
    journal = started.journal("gpuctl")
    assert "a sign of life every 3.0 s" in journal
    assert "left to the children: []" in journal


@pytest.mark.systemd
def test_a_killed_daemon_comes_back(started: Systemd) -> None:
    """SIGKILL: another process is ready after RestartSec."""
    before = started.show("gpuctl", "MainPID")
    started.run("systemctl", "kill", "--signal=SIGKILL", "gpuctl")
    after = _next(started, before)
    assert after != before
    assert int(started.show("gpuctl", "NRestarts")) == 1


@pytest.mark.systemd
def test_a_frozen_daemon_is_replaced(started: Systemd) -> None:
    """SIGSTOP: no sign of life for WatchdogSec, so systemd ends it and starts another."""
    before = started.show("gpuctl", "MainPID")
    started.run("kill", "-STOP", before)
    _next(started, before)
    assert "Watchdog timeout" in started.journal("gpuctl")


@pytest.mark.systemd
def test_a_stop_leaves_its_files(started: Systemd) -> None:
    """status.json outlives the daemon, so that readers can say what was last known."""
    started.run("systemctl", "stop", "gpuctl")
    assert started.show("gpuctl", "Result") == "success"
    for path in ("/run/gpuctl/written", "/var/lib/gpuctl/written"):
        assert started.run("cat", path) == "by the service"


def _next(systemd: Systemd, before: str) -> str:
    """Wait until another process is ready in the unit; return its pid."""

    def look() -> str | None:
        pid = systemd.show("gpuctl", "MainPID")
        running = systemd.show("gpuctl", "SubState") == "running"
        return pid if running and pid not in ("0", before) else None

    return wait_for(look, "the restart", 40.0)
