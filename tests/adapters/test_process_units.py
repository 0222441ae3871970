"""The process runtime where systemd is PID 1: engines are transient units."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.dockerd import PrivateEngine
from tests.rig.systemd import Systemd, unit_text
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.systemd

ROOT = "/var/lib/gpuctl/processes"

#: One call of the runtime, as the daemon or the CLI would make it; the answer is JSON.
CALL = f"""
import dataclasses, json, os, sys
from pathlib import Path
from gpuctl.adapters.process import ProcessRuntime, container_of
from gpuctl.model import ContainerSpec
runtime = ProcessRuntime(Path(os.environ.get("RIG_ROOT", {ROOT!r})))
verb, *rest = sys.argv[1:]
if verb == "create":
    spec = ContainerSpec(image="", host_port=0, container_port=0, **json.loads(rest[1]))
    answer = runtime.create("gpuctl-" + rest[0], spec, {{"gpuctl.replica": rest[0]}})
elif verb == "container_of":
    answer = container_of(int(rest[0]))
elif verb == "list":
    answer = [dataclasses.asdict(reading) for reading in runtime.list()]
elif verb == "logs":
    answer = runtime.logs(rest[0], int(rest[1]))
else:
    answer = getattr(runtime, verb)(*rest)
print(json.dumps(answer))
"""

#: A daemon that starts an engine and goes on; with the sandbox of the shipped unit.
DAEMON = """
import os, subprocess, sys, time
from gpuctl.adapters.systemd import Systemd
systemd = Systemd.take(os.environ)
subprocess.run([sys.executable, "/opt/rig/call.py", "start", open("/opt/rig/container").read()],
               check=True)
systemd.tell("READY=1")
while True:
    systemd.tell("WATCHDOG=1")
    time.sleep(1)
"""


USER = 1000
USER_ROOT = f"/home/{USER}/processes"
#: What a command needs to be the user's, and to speak to the user's own systemd.
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env"),
    *(f"XDG_RUNTIME_DIR=/run/user/{USER}", f"RIG_ROOT={USER_ROOT}"),
)

#: A unit as a user would write it: what is in its cgroup ends with it.
USER_UNIT = f"""
[Service]
Type=notify
Environment=RIG_ROOT={USER_ROOT}
ExecStart={sys.executable} /opt/rig/daemon.py
"""


@pytest.fixture(scope="module")
def systemd(engine: PrivateEngine) -> Iterator[Systemd]:
    with Systemd(engine) as machine:
        machine.write("/opt/rig/call.py", CALL)
        machine.write("/opt/rig/daemon.py", DAEMON)
        machine.install(
            "gpuctl.service",
            unit_text("gpuctl.service"),
            # The environment of the tests may lie in /tmp, which the unit must then see.
            drop_in=f"[Service]\nPrivateTmp=no\nExecStart=\n"
            f"ExecStart={sys.executable} /opt/rig/daemon.py\n",
        )
        yield machine


@pytest.fixture(autouse=True)
def cleared(systemd: Systemd) -> Iterator[None]:
    yield
    for found in call(systemd, "list"):
        call(systemd, "signal", found["id"], "SIGKILL")
        if found["state"] == "running":
            ended(systemd, found["id"])
        call(systemd, "remove", found["id"])


def call(systemd: Systemd, verb: str, *arguments: str | int) -> Any:
    words = map(str, arguments)
    return json.loads(systemd.run(sys.executable, "/opt/rig/call.py", verb, *words))


def create(systemd: Systemd, script: str, **spec: object) -> str:
    wanted = json.dumps({"command": ["sh", "-c", script], **spec})
    return str(call(systemd, "create", "chat-0", wanted))


def read(systemd: Systemd, container: str) -> dict[str, Any]:
    (found,) = [found for found in call(systemd, "list") if found["id"] == container]
    return dict(found)


def ended(systemd: Systemd, container: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = read(systemd, container)
        return found if found["state"] == "exited" else None

    return wait_for(look, f"the end of {container}")


def unit_of(systemd: Systemd, container: str) -> str:
    """Return the unit that an engine runs in, as its cgroup tells."""
    groups = systemd.run("cat", f"/proc/{read(systemd, container)['pid']}/cgroup")
    return next(w for w in groups.replace("\n", "/").split("/") if w.endswith(".service"))


def test_an_engine_is_a_unit_with_its_limits(systemd: Systemd) -> None:
    """The unit carries the container's id, and the plan's limits of memory and processes."""
    container = create(
        systemd, "exec sleep 600", memory_bytes=64 << 20, memory_swap_bytes=96 << 20, pids_limit=50
    )
    call(systemd, "start", container)
    unit = unit_of(systemd, container)
    assert container in unit
    names = ("MemoryMax", "MemorySwapMax", "TasksMax", "NoNewPrivileges", "Description")
    assert [systemd.show(unit, name) for name in names] == [
        str(64 << 20),
        str(32 << 20),
        "50",
        "yes",
        "gpuctl gpuctl-chat-0",
    ]


def test_a_worker_is_told_by_its_unit(systemd: Systemd) -> None:
    """A process without our variable is ours by its cgroup; PID 1 is a stranger."""
    container = create(systemd, "env -i sleep 600 & echo $!; wait")
    call(systemd, "start", container)
    (worker,) = wait_for(lambda: call(systemd, "logs", container, 1), "the worker's pid")
    assert call(systemd, "container_of", worker) == container
    assert call(systemd, "container_of", "1") is None


def test_engines_outlive_the_daemon_s_unit(systemd: Systemd) -> None:
    """Stop, SIGKILL and start again of gpuctl.service: the same process serves through it all."""
    container = create(systemd, "exec sleep 600")
    systemd.write("/opt/rig/container", container)
    systemd.run("systemctl", "start", "gpuctl")
    before = read(systemd, container)
    systemd.run("systemctl", "kill", "--signal=SIGKILL", "gpuctl")
    systemd.run("systemctl", "restart", "gpuctl")
    systemd.run("systemctl", "stop", "gpuctl")
    after = read(systemd, container)
    assert before["state"] == "running"
    assert (after["pid"], after["started_at"]) == (before["pid"], before["started_at"])


def test_an_engine_outlives_its_shim_in_a_unit(systemd: Systemd) -> None:
    """SIGKILL of the unit's main process, the shim, leaves the engine running."""
    container = create(systemd, "exec sleep 600")
    call(systemd, "start", container)
    unit, before = unit_of(systemd, container), read(systemd, container)
    systemd.run("kill", "-KILL", systemd.show(unit, "MainPID"))
    wait_for(lambda: systemd.show(unit, "ActiveState") != "active", "the unit's end")
    assert read(systemd, container)["pid"] == before["pid"]


def test_an_engine_out_of_memory_is_told_from_a_killed_one(systemd: Systemd) -> None:
    """Above MemoryMax the kernel kills it: 137, with oom_killed, which a plain SIGKILL has not."""
    eat = "import time; held = bytearray(b'x') * (200 << 20); time.sleep(600)"
    container = create(
        systemd,
        f'exec {sys.executable} -c "{eat}"',
        memory_bytes=48 << 20,
        memory_swap_bytes=48 << 20,
    )
    call(systemd, "start", container)
    found = ended(systemd, container)
    assert (found["exit_code"], found["oom_killed"]) == (137, True)


def test_a_plain_kill_is_no_lack_of_memory(systemd: Systemd) -> None:
    """SIGKILL by somebody: 137, and not oom_killed; the unit is gone and can come again."""
    container = create(systemd, "exec sleep 600")
    for _ in range(2):
        call(systemd, "start", container)
        call(systemd, "signal", container, "SIGKILL")
        found = ended(systemd, container)
        assert (found["exit_code"], found["oom_killed"]) == (137, False)


def test_systemctl_stop_ends_an_engine_gracefully(systemd: Systemd) -> None:
    """The unit's SIGTERM goes to the shim, which hands it on; the exit code is kept."""
    container = create(systemd, "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    call(systemd, "start", container)
    systemd.run("systemctl", "stop", unit_of(systemd, container))
    assert ended(systemd, container)["exit_code"] == 5


#: Who is logged in needs no password here.
PAM = """
account required pam_permit.so
session required pam_permit.so
session optional pam_systemd.so
"""


@pytest.fixture
def lingering(systemd: Systemd) -> Systemd:
    """A user's own systemd, which goes on when the user is not logged in."""
    systemd.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nrig:x:{USER}:{USER}::/home/{USER}:\n")
    systemd.write("/etc/group", f"root:x:0:\nrig:x:{USER}:\n")
    systemd.write("/etc/systemd/user/gpuctl.service", USER_UNIT)
    systemd.run("install", "-d", f"--owner={USER}", f"/home/{USER}")
    systemd.write("/etc/pam.d/systemd-user", PAM)
    systemd.run("loginctl", "enable-linger", "rig")
    wait_for(lambda: systemd.show(f"user@{USER}", "ActiveState") == "active", "the user's systemd")
    return systemd


def as_user(systemd: Systemd, verb: str, *arguments: str) -> Any:
    command = (*AS_USER, sys.executable, "/opt/rig/call.py", verb, *arguments)
    return json.loads(systemd.run(*command))


@pytest.mark.skipif(
    not Path("/usr/lib/systemd/user/dbus.socket").exists() or shutil.which("loginctl") is None,
    reason="dbus-user-session or libpam-systemd is not installed",
)
def test_engines_outlive_a_user_s_daemon(lingering: Systemd) -> None:
    """A stop of the daemon in a user's systemd, not root's, leaves the engine where it is."""
    wanted = json.dumps({"command": ["sh", "-c", "exec sleep 600"]})
    container = as_user(lingering, "create", "chat-0", wanted)
    lingering.write("/opt/rig/container", container)
    lingering.run(*AS_USER, "systemctl", "--user", "start", "gpuctl")
    (before,) = as_user(lingering, "list")
    groups = lingering.run("cat", f"/proc/{before['pid']}/cgroup")
    lingering.run(*AS_USER, "systemctl", "--user", "stop", "gpuctl")
    (after,) = as_user(lingering, "list")
    as_user(lingering, "signal", container, "SIGKILL")
    assert f"user@{USER}.service/app.slice/gpuctl-{container}" in groups
    assert before["state"] == "running"
    assert (after["pid"], after["started_at"]) == (before["pid"], before["started_at"])
