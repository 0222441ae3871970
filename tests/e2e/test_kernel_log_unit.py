"""What the shipped unit's hardening leaves of the kernel's log: the journal, and nothing else."""

from __future__ import annotations

import json
import sys

import pytest

from tests.rig.dockerd import PrivateEngine
from tests.rig.systemd import Systemd, unit_text
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.systemd, pytest.mark.timeout(180)]

#: Follows the log as the daemon does, then reads the journal for what the unit itself wrote.
PROBE = """
import json, subprocess, time
from gpuctl.adapters.kernel_log import SystemKernelLog
try:
    open("/dev/kmsg").close()
    closed = ""
except OSError as error:
    closed = error.strerror
log = SystemKernelLog()
log.read()
time.sleep(2)
own = subprocess.run(["journalctl", "-o", "json", "-n", "50", "--no-pager"], capture_output=True)
print("PROBED " + json.dumps({
    "closed": bool(closed), "fault": log.fault(), "entries": len(own.stdout.splitlines()) > 0,
}), flush=True)
log.close()
"""

DROP_IN = f"""
[Service]
Type=oneshot
WatchdogSec=0
Restart=no
ExecStart=
ExecStart={sys.executable} /opt/probe.py
PrivateTmp=no
"""


def test_the_journal_is_followed_under_the_units_hardening(engine: PrivateEngine) -> None:
    """/dev/kmsg is closed by ProtectKernelLogs; `journalctl -k -f` runs, and reads the journal."""
    with Systemd(engine) as systemd:
        systemd.run("systemctl", "start", "systemd-journald")
        systemd.write("/opt/probe.py", PROBE)
        systemd.install("gpuctl.service", unit_text("gpuctl.service"), drop_in=DROP_IN)
        systemd.run("systemctl", "start", "--no-block", "gpuctl")
        told = wait_for(lambda: _probed(systemd), "the probe", seconds=60)
    assert told == {"closed": True, "fault": "", "entries": True}


def _probed(systemd: Systemd) -> dict[str, object]:
    lines = [line for line in systemd.journal("gpuctl").splitlines() if line.startswith("PROBED ")]
    return dict(json.loads(lines[-1].removeprefix("PROBED "))) if lines else {}
