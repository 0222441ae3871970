"""The kernel's log: what is an Xid, what is the kernel's own, and a log that cannot be read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.kernel_log import (
    SystemKernelLog,
    bus_id,
    parse,
    parse_entry,
    parse_record,
    starved,
)
from gpuctl.model import Xid
from tests.rig.processes import lives
from tests.rig.waiting import wait_for

BUS = "00000000:06:00.0"
ID = "a" * 64
#: Linux 6.18, an OOM kill in a group of cgroup v1.
OOM = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg={limit},task_memcg={victim},task=python3,pid=15052,uid=0"
)
LINE = (
    "NVRM: Xid (PCI:0000:06:00): 79, pid=1234, name=python3, GPU has fallen off the bus."
)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "found"),
    [
        pytest.param(
            LINE,
            (79, BUS, 1234, "pid=1234, name=python3, GPU has fallen off the bus."),
            id="of-today",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:06:00): 119, pid='<unknown>', name=<unknown>, Timeout after 6s",
            (119, BUS, None, "pid='<unknown>', name=<unknown>, Timeout after 6s"),
            id="unknown-process",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:06:00): 13, pid='77', name=a, Graphics SM Warp Exception",
            (13, BUS, 77, "pid='77', name=a, Graphics SM Warp Exception"),
            id="quoted-process",
        ),
        pytest.param(
            "NVRM: Xid (0000:06:00): 31, Ch 00000010, engmask 00000101",
            (31, BUS, None, "Ch 00000010, engmask 00000101"),
            id="of-old",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:9D:00 GPU-I:05): 94, Contained memory error",
            (94, "00000000:9d:00.0", None, "Contained memory error"),
            id="of-an-instance",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:06:00): 154, GPU recovery action changed from 0x0 (None) to 0x1",
            (154, BUS, None, "GPU recovery action changed from 0x0 (None) to 0x1"),
            id="recovery",
        ),
        pytest.param("NVRM: Xid (PCI:0000:06:00): 43", (43, BUS, None, ""), id="bare"),
        pytest.param(
            "NVRM: GPU 0000:06:00.0: GPU has fallen off the bus.",
            (79, BUS, None, "GPU has fallen off the bus"),
            id="fallen",
        ),
        pytest.param(
            "NVRM: GPU at PCI:0000:06:00: GPU has fallen off the bus.",
            (79, BUS, None, "GPU has fallen off the bus"),
            id="fallen-of-old",
        ),
        pytest.param(
            "NVRM: The NVIDIA GPU 0000:06:00.0\nNVRM: (PCI ID: 10de:20b2) installed in this system"
            " has\nNVRM: fallen off the bus and is not responding to commands.",
            (79, BUS, None, "GPU has fallen off the bus"),
            id="fallen-on-three-lines",
        ),
        pytest.param("NVRM: loading NVIDIA UNIX x86_64 Kernel Module", None, id="another"),
        pytest.param("nvidia-nvswitch3: SXid (PCI:0000:06:00): 19084", None, id="a-switch's"),
        pytest.param(f"python3[12]: segfault, {LINE}", None, id="further-on"),
        pytest.param("NVRM: Xid (PCI:0000:06:00): soon", None, id="no-number"),
        pytest.param("", None, id="empty"),
    ],
)
def test_what_tells_an_xid(message: str, found: tuple[int, str, int | None, str] | None) -> None:
    """Number, bus id, process and words, in every form that the driver has; nothing else."""
    assert parse(message) == found


def test_a_long_message_is_cut() -> None:
    """What follows the words is a dump of registers."""
    told = parse(f"{LINE} {'0x00000000 ' * 100}")
    assert told is not None
    assert len(told[3]) == 300


@pytest.mark.parametrize(
    "written", ["0000:06:00", "0000:06:00.0", "00000000:06:00.0", "0000:06:00:", "0000:06:00."]
)
def test_a_bus_id_is_written_as_nvml_has_it(written: str) -> None:
    """Eight digits of domain, small letters, and a function."""
    assert bus_id(written) == BUS


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(f"3,124171,2500000,-;{LINE}\n", LINE, id="error"),
        pytest.param(f"6,124171,2500000,c;{LINE}\n DEVICE=+pci:0000:06:00.0\n", LINE, id="device"),
        pytest.param("4,1,2500000,-;two\\x0alines\n", "two\nlines", id="escaped"),
        pytest.param(f"12,1,2500000,-;{LINE}\n", None, id="a-user's"),
        pytest.param(f"30,1,2500000,-;{LINE}\n", None, id="a-daemon's"),
        pytest.param(f"x,1,2500000,-;{LINE}\n", None, id="no-priority"),
        pytest.param("3,1;short\n", None, id="no-time"),
        pytest.param("nothing", None, id="no-record"),
    ],
)
def test_a_record_of_the_kernels_own(record: str, message: str | None) -> None:
    """Facility 0 is the kernel's, which no user can write; its text comes unescaped."""
    line = parse_record(record.encode())
    assert (line and line.message) == message
    assert line is None or line.monotonic_seconds == 2.5


def entry(**changes: Any) -> bytes:
    fields = {
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": "0",
        "_SOURCE_MONOTONIC_TIMESTAMP": "2500000",
        "__MONOTONIC_TIMESTAMP": "2600000",
        "MESSAGE": LINE,
    }
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        pytest.param(entry(), 2.5, id="the-kernel's-time"),
        pytest.param(entry(_SOURCE_MONOTONIC_TIMESTAMP=None), 2.6, id="the-journal's-time"),
        pytest.param(entry(_TRANSPORT="syslog"), None, id="syslog"),
        pytest.param(entry(SYSLOG_FACILITY="1"), None, id="a-user's"),
        pytest.param(entry(MESSAGE=[78, 86]), None, id="bytes"),
        pytest.param(entry(MESSAGE=None), None, id="too-long"),
        pytest.param(entry(_SOURCE_MONOTONIC_TIMESTAMP="soon"), None, id="no-time"),
        pytest.param(b'{"MESSAGE": "x"}', None, id="no-transport"),
        pytest.param(b"[]", None, id="no-entry"),
        pytest.param(b"{", None, id="no-json"),
    ],
)
def test_an_entry_of_the_kernels_own(line: bytes, seconds: float | None) -> None:
    """The journal has what users write to /dev/kmsg too, with a facility of theirs."""
    found = parse_entry(line)
    assert (found and found.monotonic_seconds) == seconds


def clocks() -> tuple[float, float, float]:
    """1,000 s after the boot, of which it was suspended for 300."""
    return 5000.0, 1000.0, 700.0


XID = Xid(
    number=79,
    pci_bus_id=BUS,
    source="kernel",
    pid=1234,
    message="pid=1234, name=python3, GPU has fallen off the bus.",
    at=4500.0,
    boot_seconds=500.0,
)


def journal(folder: Path, *lines: bytes, code: int = 0, stay: bool = True) -> tuple[str, ...]:
    """Return the command of a journal that tells these lines, and stays or ends."""
    told = folder / "journal"
    told.write_bytes(b"".join(line + b"\n" for line in lines))
    wait = "sys.stdout.flush(); time.sleep(3600)" if stay else f"sys.exit({code})"
    program = (
        "import os, sys, time; open(f'{sys.argv[1]}.pid', 'w').write(str(os.getpid()));"
        f"sys.stdout.write(open(sys.argv[1]).read()); {wait}"
    )
    return (sys.executable, "-S", "-c", program, str(told))


def heard(log: SystemKernelLog, count: int = 1) -> list[Xid]:
    found: list[Xid] = []

    def enough() -> bool:
        found.extend(log.read())
        return len(found) >= count

    wait_for(enough, "the log")
    return found


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """What stands for /dev/kmsg, and where a test writes to it."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    both = os.open(path, os.O_RDWR)
    yield path, both
    os.close(both)


def test_what_the_kernel_says_is_told_with_its_time(pipe: tuple[Path, int]) -> None:
    """Its clock stands still in a suspend; ours, and the wall's, do not."""
    path, both = pipe
    with closing(SystemKernelLog(kmsg=path, clocks=clocks)) as log:
        log.read()
        os.write(both, f"3,1,200000000,-;{LINE}\n".encode())
        assert heard(log) == [XID]
        assert (log.read(), log.fault()) == ((), "")


def test_the_journal_is_followed_where_the_device_is_closed(tmp_path: Path) -> None:
    """Its lines are the same Xids, and other lines are none."""
    lines = (
        entry(MESSAGE="usb 1-1: new device", _SOURCE_MONOTONIC_TIMESTAMP="200000000"),
        entry(_SOURCE_MONOTONIC_TIMESTAMP="200000000"),
        entry(SYSLOG_FACILITY="1"),
        b"NVRM",
    )
    log = SystemKernelLog(
        kmsg=tmp_path / "absent", journal=journal(tmp_path, *lines), clocks=clocks
    )
    with closing(log):
        assert heard(log) == [XID]
        assert (log.read(), log.fault()) == ((), "")


@pytest.mark.parametrize(
    ("group", "container"),
    [
        pytest.param(f"/docker/{ID}", ID, id="cgroupfs"),
        pytest.param(f"/system.slice/docker-{ID}.scope", ID, id="systemd"),
        pytest.param(f"/docker/{'b' * 64}/docker/{ID}", ID, id="docker-in-docker"),
        pytest.param("/user.slice", None, id="no-container"),
        pytest.param(f"/{'a' * 70}", None, id="no-id"),
    ],
)
def test_whose_limit_was_reached(group: str, container: str | None) -> None:
    """The kernel names the group whose limit it was, which may be around the victim's own."""
    assert starved(OOM.format(limit=group, victim="/docker/" + "c" * 64)) == container


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(f"python3: {OOM.format(limit=f'/docker/{ID}', victim='/')}", id="further-on"),
        pytest.param("oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null)", id="the-whole-host"),
        pytest.param("Memory cgroup out of memory: Killed process 7 (a)", id="another-line"),
        pytest.param("", id="empty"),
    ],
)
def test_what_tells_of_no_limit(message: str) -> None:
    """What a program calls itself, a host without memory, and lines that name no group."""
    assert starved(message) is None


def test_an_oom_kill_is_told_once(pipe: tuple[Path, int]) -> None:
    """To whoever asks about its container; a second life may end in another way."""
    path, both = pipe
    told = OOM.format(limit=f"/docker/{ID}", victim=f"/docker/{ID}")
    with closing(SystemKernelLog(kmsg=path, clocks=clocks)) as log:
        assert log.starved(ID) is False
        log.read()
        os.write(both, f"6,1,200000000,-;{told}\n".encode())
        wait_for(lambda: log.starved(ID), "the line")
        assert [log.starved(ID), log.read()] == [False, ()]


def test_the_journal_tells_of_an_oom_kill_and_keeps_the_newest(tmp_path: Path) -> None:
    """Of as many containers as may die before anybody asks, however many die in each."""
    ids = [f"{number:064x}" for number in range(300)]
    twice = (each for each in ids for _ in range(2))
    lines = [entry(MESSAGE=OOM.format(limit=f"/docker/{each}", victim="/")) for each in twice]
    log = SystemKernelLog(
        kmsg=tmp_path / "absent", journal=journal(tmp_path, *lines, code=1, stay=False)
    )
    with closing(log):
        log.read()
        wait_for(log.fault, "the end of the journal")
        assert [log.starved(each) for each in ids] == [False] * 44 + [True] * 256


def test_a_log_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """Both ways, each in its own words."""
    absent = tmp_path / "absent"
    with closing(SystemKernelLog(kmsg=absent, journal=(str(tmp_path / "no"),))) as log:
        log.read()
        wait_for(log.fault, "the fault")
        missing = "No such file or directory"
        assert log.fault() == f"{absent}: {missing}; {tmp_path}/no: {missing}"


def test_a_journal_that_ends_is_a_fault(tmp_path: Path) -> None:
    """A user who may not read it is told by its exit code; what it told before is kept."""
    absent, command = tmp_path / "absent", journal(tmp_path, entry(), code=1, stay=False)
    with closing(SystemKernelLog(kmsg=absent, journal=command)) as log:
        log.read()
        wait_for(log.fault, "the fault")
        assert log.fault().endswith(f"; {sys.executable} ended with 1")
        assert len(log.read()) == 1


def test_a_flood_leaves_the_newest(tmp_path: Path) -> None:
    """Ten thousand lines are read, and 256 of them kept until they are asked for."""
    lines = [entry(MESSAGE=f"NVRM: Xid (PCI:0000:06:00): {number}, x") for number in range(10_000)]
    log = SystemKernelLog(
        kmsg=tmp_path / "absent", journal=journal(tmp_path, *lines, code=1, stay=False)
    )
    with closing(log):
        log.read()
        wait_for(log.fault, "the end of the flood")
        kept = log.read()
    assert [kept[0].number, kept[-1].number, len(kept)] == [9744, 9999, 256]


def test_close_ends_the_journal(tmp_path: Path) -> None:
    """No process is left behind; what was never begun, or has ended, needs no end."""
    log = SystemKernelLog(kmsg=tmp_path / "absent", journal=journal(tmp_path, entry()))
    heard(log)
    log.close()
    log.close()
    SystemKernelLog(kmsg=tmp_path).close()
    assert not lives(int((tmp_path / "journal.pid").read_text()))


def test_the_real_device_is_followed_where_it_may_be() -> None:
    """What is there is read to its end without a fault."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        pytest.skip("this user may not read /dev/kmsg")
    with closing(SystemKernelLog(journal=("false",))) as log:
        log.read()
        assert log.fault() == ""
