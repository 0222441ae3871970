"""Disks, kernel, clock and the supervisor itself, judged both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.diagnosis import Facts
from gpuctl.diagnosis.facts import Step, Unread
from gpuctl.model import GIB, MIB
from tests.diagnosis.make import AT, DISK, SERVICE, SYSTEM, finding, host, judged, wanted


def system(**changes: Any) -> Facts:
    return host(system=replace(SYSTEM, **changes))


def service(**changes: Any) -> Facts:
    return host(service=replace(SERVICE, **changes))


def disk(**changes: Any) -> Facts:
    return host(disks=(replace(DISK, **changes),))


def process(**changes: Any) -> Facts:
    return replace(system(**changes), wanted=wanted(runtime="process"))


OPEN = Step(path="/var/lib/gpuctl", uid=0, gid=0, mode=0o757)
ROOTS = Step(path="/run/gpuctl/gpuctl.sock", uid=0, gid=0, mode=0o660)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(disk(free_bytes=100 * MIB), ("space", "fail", "disk_full"), id="full"),
        pytest.param(disk(free_bytes=10 * GIB), ("space", "warn", "disk_scarce"), id="scarce"),
        pytest.param(
            disk(free_bytes=10 * GIB, total_bytes=40 * GIB), ("space", "ok", "ok"), id="small disk"
        ),
        pytest.param(disk(free_bytes=0, written=False), ("space", "ok", "ok"), id="only read"),
        pytest.param(
            disk(free_bytes=0, total_bytes=0), ("space", "fail", "disk_full"), id="no size"
        ),
        pytest.param(disk(inodes_free=4), ("inodes", "warn", "inodes_scarce"), id="few inodes"),
        pytest.param(disk(inodes_free=0), ("inodes", "fail", "inodes_scarce"), id="no inode"),
        pytest.param(disk(inodes_total=0), ("inodes", "skip", "not_applicable"), id="uncounted"),
        pytest.param(
            system(memory_available_bytes=GIB), ("ram", "warn", "ram_scarce"), id="no RAM"
        ),
        pytest.param(
            system(memory_available_bytes=None), ("ram", "skip", "not_reported"), id="RAM untold"
        ),
        pytest.param(system(cgroup_version=None), ("cgroups", "fail", "no_cgroups"), id="none"),
        pytest.param(
            system(memory_controller=False),
            ("cgroups", "fail", "no_memory_controller"),
            id="no memory controller",
        ),
        pytest.param(
            system(cgroup_version=1, memory_controller=True),
            ("cgroups", "ok", "ok"),
            id="version 1",
        ),
        pytest.param(
            process(open_files_limit=1024), ("open_files", "warn", "open_files_few"), id="few files"
        ),
        pytest.param(process(), ("open_files", "ok", "ok"), id="files enough"),
        pytest.param(process(open_files_limit=-1), ("open_files", "ok", "ok"), id="no limit"),
        pytest.param(
            process(open_files_limit=None), ("open_files", "skip", "not_applicable"), id="untold"
        ),
        pytest.param(
            system(clock_synchronized=False), ("clock", "warn", "clock_unsynchronized"), id="adrift"
        ),
        pytest.param(
            system(clock_synchronized=None), ("clock", "skip", "not_reported"), id="clock untold"
        ),
        pytest.param(
            service(moments=((AT, 100.0), (AT + 3605, 105.0), (AT + 3610, 110.0))),
            ("clock_steps", "warn", "clock_stepped"),
            id="an hour's step",
        ),
        pytest.param(
            service(moments=((AT, 100.0),)),
            ("clock_steps", "skip", "not_applicable"),
            id="one event",
        ),
        pytest.param(
            system(kernel_log=False), ("kernel_log", "warn", "kernel_log_closed"), id="log closed"
        ),
        pytest.param(system(kernel_log=None), ("kernel_log", "skip", "absent"), id="no log"),
        pytest.param(
            replace(host(gpus=(), driver=Unread(reason="not_looked")), wanted=None),
            ("kernel_log", "skip", "not_applicable"),
            id="no Xid to come",
        ),
        pytest.param(
            system(selinux_enforcing=True), ("security", "warn", "selinux_enforcing"), id="SELinux"
        ),
        pytest.param(
            process(selinux_enforcing=True), ("security", "ok", "ok"), id="SELinux, processes"
        ),
        pytest.param(system(apparmor=True), ("security", "ok", "ok"), id="AppArmor"),
    ],
)
def test_the_host(facts: Facts, expected: tuple[str, str, str]) -> None:
    """What every program on the host would suffer from."""
    assert judged(facts, expected[0]) == [expected]


def test_a_step_of_the_clock_says_how_far() -> None:
    """Wall time against boot time, between two events: the hour is what was set."""
    found = finding(service(moments=((AT, 100.0), (AT + 3605, 105.0))), "clock_steps")
    assert found.message == "the clock was set by 1 h between two recent events"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            service(daemon_version=None, daemon_alive=False),
            ("daemon", "skip", "not_applicable"),
            id="never one",
        ),
        pytest.param(
            service(daemon_alive=False, daemon_stopped=True),
            ("daemon", "skip", "not_applicable"),
            id="ended on purpose",
        ),
        pytest.param(service(daemon_alive=False), ("daemon", "fail", "daemon_dead"), id="dead"),
        pytest.param(
            service(daemon_version="0.0.9"), ("daemon", "warn", "daemon_version"), id="an older one"
        ),
        pytest.param(service(unit_path=None), ("unit", "warn", "unit_missing"), id="no unit"),
        pytest.param(service(unit_active="failed"), ("unit", "fail", "unit_failed"), id="failed"),
        pytest.param(service(unit_reload=True), ("unit", "warn", "unit_not_read"), id="not read"),
        pytest.param(service(unit_same=False), ("unit", "warn", "unit_differs"), id="changed"),
        pytest.param(
            service(unit_enabled="disabled"), ("unit", "warn", "unit_disabled"), id="disabled"
        ),
        pytest.param(
            service(unit_same=None, unit_enabled="", unit_active=""),
            ("unit", "ok", "ok"),
            id="untold",
        ),
        pytest.param(
            system(systemd_version=None), ("unit", "skip", "not_applicable"), id="no systemd"
        ),
        pytest.param(
            host(system=Unread(reason="no_answer")), ("unit", "skip", "not_applicable"), id="unread"
        ),
        pytest.param(system(systemd_version=237), ("systemd", "warn", "systemd_old"), id="237"),
        pytest.param(
            system(systemd_version=None), ("systemd", "skip", "not_applicable"), id="other init"
        ),
        pytest.param(
            service(state=None), ("state_directory", "skip", "not_applicable"), id="not made yet"
        ),
        pytest.param(
            service(state=OPEN), ("state_directory", "fail", "state_open"), id="open to everybody"
        ),
        pytest.param(
            service(state_writable=False),
            ("state_directory", "fail", "state_denied"),
            id="another's",
        ),
        pytest.param(
            service(socket=None), ("control_socket", "skip", "not_applicable"), id="no socket"
        ),
        pytest.param(
            service(socket_usable=False),
            ("control_socket", "warn", "socket_denied"),
            id="no member",
        ),
    ],
)
def test_the_supervisor(facts: Facts, expected: tuple[str, str, str]) -> None:
    """What keeps gpuctl itself from its work, or this user from gpuctl."""
    assert judged(facts, expected[0]) == [expected]


def test_the_way_into_a_group() -> None:
    """A socket of a group's has a group to join; nobody is told to join root's own."""
    joined = finding(service(socket_usable=False, user="anna"), "control_socket")
    assert joined.fix == "sudo usermod -aG gpuctl anna, then log in again"
    alone = finding(service(socket_usable=False, socket=ROOTS), "control_socket")
    assert alone.fix == "use sudo"


def test_a_dead_daemon_is_brought_back_as_it_was_started() -> None:
    """A unit by systemd, one in the background by `up`."""
    assert finding(service(daemon_alive=False), "daemon").fix == "sudo systemctl restart gpuctl"
    spawned = service(daemon_alive=False, unit_path=None)
    assert finding(spawned, "daemon").fix == "gpuctl up"
