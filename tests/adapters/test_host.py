"""The machine as /proc tells it: on a /proc of our own, and once on the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gpuctl.adapters.host import SystemHost
from tests.fakes import FakeClock

ID = "3f" * 32
OUTER = "0a" * 32


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc without a process."""
    folder = tmp_path / "proc"
    folder.mkdir()
    return folder


def process(proc: Path, pid: int, *, cgroup: str = "0::/\n", comm: str = "python3\n") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cgroup").write_text(cgroup)
    (proc / str(pid) / "comm").write_text(comm)


def test_memory_and_load_are_read_in_base_units(proc: Path, tmp_path: Path) -> None:
    """`kB` of /proc/meminfo are 1,024 bytes; the load is a share of the host's CPUs."""
    (proc / "meminfo").write_text(
        "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\nHugePages_Total:  7\n"
    )
    (proc / "loadavg").write_text("3.00 2.00 1.00 1/100 4242\n")
    reading = SystemHost(tmp_path, FakeClock(seconds=77.0), proc=proc).read()
    assert reading.memory_total_bytes == 16384 * 1024
    assert reading.memory_available_bytes == 8192 * 1024
    assert reading.load_ratio == 3.0 / (os.cpu_count() or 1)
    assert reading.boot_seconds == 77.0


def test_swap_and_stalls_are_read(proc: Path, tmp_path: Path) -> None:
    """What tasks waited for memory in the last minute is a share of it, as the kernel writes it."""
    (proc / "meminfo").write_text("SwapTotal:  2048 kB\nSwapFree:  1024 kB\n")
    (proc / "pressure").mkdir()
    (proc / "pressure" / "memory").write_text(
        "some avg10=90.00 avg60=12.50 avg300=1.00 total=7\n"
        "full avg10=80.00 avg60=3.00 avg300=0.00 total=5\n"
    )
    reading = SystemHost(tmp_path, FakeClock(), proc=proc).read()
    assert reading.swap_total_bytes == 2048 * 1024
    assert reading.swap_free_bytes == 1024 * 1024
    assert reading.memory_stall_ratio == 0.125


@pytest.mark.parametrize(
    ("listed", "may"),
    [
        pytest.param("a *:* rwm\n", True, id="every device, as a privileged container has"),
        pytest.param("c 1:3 rwm\nc 195:* rwm\n", True, id="every device of NVIDIA's"),
        pytest.param("c 195:0 rw\nc 195:255 rw\n", True, id="one GPU and nvidiactl"),
        pytest.param("c *:* m\nb *:* m\nc 1:3 rwm\n", False, id="after a daemon-reload"),
        pytest.param("c 195:0 m\n", False, id="may make the node and not open it"),
        pytest.param("c 1195:0 rwm\n", False, id="another major number"),
    ],
)
def test_whether_a_process_may_open_gpus_is_told_by_its_cgroup(
    proc: Path, tmp_path: Path, listed: str, may: bool
) -> None:
    """cgroup v1 lists the devices of a container's own group."""
    process(proc, 7, cgroup=f"5:memory:/docker/{ID}\n4:devices:/docker/{ID}\n")
    group = tmp_path / "cgroup" / "devices" / "docker" / ID
    group.mkdir(parents=True)
    (group / "devices.list").write_text(listed)
    host = SystemHost(tmp_path, FakeClock(), proc=proc, cgroups=tmp_path / "cgroup")
    assert host.may_open_gpus(7) is may


@pytest.mark.parametrize(
    "cgroup", [f"4:devices:/docker/{ID}\n", f"0::/docker/{ID}\n", ""], ids=["gone", "v2", "ended"]
)
def test_where_no_cgroup_tells_it_is_not_known(proc: Path, tmp_path: Path, cgroup: str) -> None:
    """A group that cannot be read, one of version 2, and a process that has ended tell nothing."""
    process(proc, 7, cgroup=cgroup)
    host = SystemHost(tmp_path, FakeClock(), proc=proc, cgroups=tmp_path / "cgroup")
    assert host.may_open_gpus(7) is None


def test_what_cannot_be_read_is_unknown(proc: Path, tmp_path: Path) -> None:
    """A /proc that tells nothing is no error: each number is unknown by itself."""
    reading = SystemHost(tmp_path, FakeClock(), proc=proc).read()
    assert reading.memory_total_bytes is None
    assert reading.memory_available_bytes is None
    assert reading.load_ratio is None
    assert reading.memory_stall_ratio is None
    assert reading.disk_free_bytes is not None


def test_the_disk_is_that_of_the_nearest_directory_there_is(tmp_path: Path) -> None:
    """Before the first `up` the state directory is not there, and its disk is known."""
    reading = SystemHost(tmp_path / "not" / "yet", FakeClock()).read()
    disk = os.statvfs(tmp_path)
    assert reading.disk_free_bytes is not None
    # Other programs write to this disk as well: the same disk to within 1 GiB.
    assert abs(reading.disk_free_bytes - disk.f_bavail * disk.f_frsize) < 1024**3
    assert reading.disk_total_bytes == disk.f_blocks * disk.f_frsize


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        pytest.param(f"0::/system.slice/docker-{ID}.scope\n", ID, id="v2, systemd driver"),
        pytest.param(f"0::/docker/{ID}\n", ID, id="v2, cgroupfs driver"),
        pytest.param(f"12:cpu:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", ID, id="v1"),
        pytest.param(f"12:cpuset:/\n3:memory:/docker/{ID}\n", ID, id="v1, one controller only"),
        pytest.param(f"0::/docker/{ID}/init.scope\n", ID, id="a child of the container's cgroup"),
        pytest.param(f"0::/docker/{OUTER}/docker/{ID}\n", ID, id="a container in a container"),
        pytest.param("0::/user.slice/user-1000.slice/session-3.scope\n", None, id="a stranger"),
        pytest.param(f"0::/docker/{ID}0\n", None, id="65 digits are no id"),
        pytest.param(f"0::/docker/{ID[:-1]}\n", None, id="63 digits are no id"),
        pytest.param("", None, id="a process that has just ended"),
    ],
)
def test_the_container_of_a_process_is_in_its_cgroup(
    proc: Path, tmp_path: Path, cgroup: str, container: str | None
) -> None:
    """A process in a container is known by the 64 digits, whatever the cgroup driver."""
    process(proc, 42, cgroup=cgroup)
    assert SystemHost(tmp_path, FakeClock(), proc=proc).container_of(42) == container


def test_a_process_of_ours_is_known_before_its_cgroup(proc: Path, tmp_path: Path) -> None:
    """When gpuctl runs in a container, that is no answer to whose an engine it started is."""
    process(proc, 42, cgroup=f"0::/docker/{OUTER}\n")
    process(proc, 43, cgroup=f"0::/docker/{ID}\n")
    process(proc, 44)
    host = SystemHost(tmp_path, FakeClock(), {42: "process-1"}.get, proc=proc)
    assert [host.container_of(pid) for pid in (42, 43, 44)] == ["process-1", ID, None]


def test_the_name_is_the_programs(proc: Path, tmp_path: Path) -> None:
    """The name comes without its line end."""
    process(proc, 42, comm="llama-server\n")
    assert SystemHost(tmp_path, FakeClock(), proc=proc).name_of(42) == "llama-server"


def test_a_process_that_is_gone_has_neither_name_nor_container(proc: Path, tmp_path: Path) -> None:
    """A process may end between NVML's answer and ours."""
    host = SystemHost(tmp_path, FakeClock(), proc=proc)
    assert (host.name_of(42), host.container_of(42)) == (None, None)


def test_the_real_host_is_read(tmp_path: Path) -> None:
    """On this machine every number is known and makes sense, and our own name is found."""
    host = SystemHost(tmp_path, FakeClock())
    reading = host.read()
    assert reading.memory_total_bytes is not None
    assert reading.memory_available_bytes is not None
    assert 0 < reading.memory_available_bytes <= reading.memory_total_bytes
    assert reading.load_ratio is not None
    assert reading.load_ratio >= 0
    assert host.name_of(os.getpid()) == Path("/proc/self/comm").read_text().strip()


def test_the_numbers_are_those_psutil_reads(tmp_path: Path) -> None:
    """Another program's reading of the same sources agrees; what moves may differ by a little."""
    reading = SystemHost(tmp_path, FakeClock()).read()
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(tmp_path))
    assert reading.memory_total_bytes == memory.total
    assert reading.memory_available_bytes == pytest.approx(memory.available, rel=0.2)
    assert reading.disk_free_bytes == pytest.approx(disk.free, rel=0.05)
    load = psutil.getloadavg()[0] / (psutil.cpu_count() or 1)
    assert reading.load_ratio == pytest.approx(load, abs=0.5)


def test_a_name_that_is_no_text_is_read_all_the_same(tmp_path: Path) -> None:
    """A program may call itself anything, and the kernel cuts it within a character."""
    renames = "open('/proc/self/comm', 'wb').write(b'caf\\xc3'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", renames], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        name = SystemHost(tmp_path, FakeClock()).name_of(process.pid)
        process.kill()
    assert name == "caf\N{REPLACEMENT CHARACTER}"


def test_a_path_that_cannot_be_has_no_disk(tmp_path: Path) -> None:
    """A name longer than the file system allows is unknown, and not an error."""
    assert SystemHost(tmp_path / ("x" * 300), FakeClock()).read().disk_free_bytes is None
