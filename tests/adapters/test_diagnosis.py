"""What the doctor reads of a host, from trees written by hand and from this machine."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.diagnosis import cdi, driver, gather, ports, system, toolkit
from gpuctl.adapters.diagnosis.deadline import said
from gpuctl.diagnosis.facts import (
    CdiFacts,
    CdiSpec,
    DeviceFile,
    DriverFacts,
    PortFacts,
    ToolkitFacts,
    Unread,
)

VERSION = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build
GCC version:  gcc version 12.3.0
"""
SPEC = """---
cdiVersion: 0.5.0
containerEdits:
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05
    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits: {}
  name: GPU-1
kind: nvidia.com/gpu
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def pci(root: Path, bus: str, kind: str, bound: str | None = None, vendor: str = "0x10de") -> None:
    folder = f"sys/bus/pci/devices/{bus}"
    write(root, {f"{folder}/vendor": f"{vendor}\n", f"{folder}/class": f"{kind}\n"})
    if bound:
        (root / "sys/bus/pci/drivers" / bound).mkdir(parents=True, exist_ok=True)
        (root / folder / "driver").symlink_to(root / "sys/bus/pci/drivers" / bound)


def test_a_host_with_nvidia_s_hardware(tmp_path: Path) -> None:
    """Cards with who has them, switches, both versions, daemons, device files and their links."""
    pci(tmp_path, "0000:01:00.0", "0x030000", "nvidia")
    pci(tmp_path, "0000:02:00.0", "0x030200", "nouveau")
    pci(tmp_path, "0000:03:00.0", "0x030200")
    pci(tmp_path, "0000:04:00.0", "0x068000")
    pci(tmp_path, "0000:05:00.0", "0x040300")  # a card's sound
    pci(tmp_path, "0000:06:00.0", "0x030000", vendor="0x1002")
    library = tmp_path / "usr/lib/x86_64-linux-gnu"
    write(
        tmp_path,
        {
            "proc/driver/nvidia/version": VERSION,
            "proc/812/comm": "nvidia-persiste\n",
            "proc/813/comm": "nv-fabricmanage\n",
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.10": "",
            "dev/nvidia0": "",
            "dev/nvidiactl": "",
            "dev/nvidia-uvm": "",
            "dev/nvidia-caps": "",
            "dev/char/0:0": "",
        },
    )
    (library / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.570.10")

    assert driver(tmp_path) == DriverFacts(
        cards={"0000:01:00.0": "nvidia", "0000:02:00.0": "nouveau", "0000:03:00.0": None},
        switches=1,
        module_version="580.95.05",
        library_version="570.10",
        persistence=True,
        fabric_manager=True,
        devices=(
            DeviceFile(path="/dev/nvidia-uvm", usable=True),
            DeviceFile(path="/dev/nvidia0", usable=True),
            DeviceFile(path="/dev/nvidiactl", usable=True),
        ),
        char_links=True,
    )


def test_a_host_without_any(tmp_path: Path) -> None:
    """An empty tree is a host that has nothing, and no device is no device with links."""
    assert driver(tmp_path) == DriverFacts()


def test_the_module_s_own_file_comes_first(tmp_path: Path) -> None:
    """Where the kernel has the version in sysfs, no sentence is taken apart."""
    write(tmp_path, {"sys/module/nvidia/version": "590.1\n", "proc/driver/nvidia/version": VERSION})
    assert driver(tmp_path).module_version == "590.1"


def test_the_toolkit(tmp_path: Path) -> None:
    """Its programs are found on the PATH, and the version is what it prints."""
    for name in ("nvidia-container-runtime-hook", "nvidia-ctk"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.17.8\n")
        program.chmod(0o755)
    found = toolkit({"PATH": str(tmp_path)})
    assert found == ToolkitFacts(
        hook=f"{tmp_path}/nvidia-container-runtime-hook",
        ctk=f"{tmp_path}/nvidia-ctk",
        version=(1, 17, 8),
    )


def test_cdi_specifications(tmp_path: Path) -> None:
    """YAML and JSON alike; another vendor's and other files are no concern of ours."""
    document = {"kind": "nvidia.com/gpu", "devices": [{"name": "GPU-2"}]}
    write(
        tmp_path,
        {
            "etc/nvidia.yaml": SPEC,
            "etc/notes.txt": "name: none",
            "etc/other.yml": "kind: vendor.com/nic\ndevices:\n- name: eth\n",
            "run/nvidia.json": json.dumps(document),
            "run/list.json": "[]",
            "run/torn.json": "{",
        },
    )
    for path in tmp_path.rglob("nvidia.*"):
        os.utime(path, (1000.0, 1000.0))
    folders = (f"{tmp_path}/etc", f"{tmp_path}/run", f"{tmp_path}/none")

    assert cdi(folders) == CdiFacts(
        directories=folders,
        specs=(
            CdiSpec(
                path=f"{tmp_path}/etc/nvidia.yaml",
                modified_at=1000.0,
                names=("0", "GPU-1"),
                driver_version="580.95.05",
            ),
            CdiSpec(path=f"{tmp_path}/run/nvidia.json", modified_at=1000.0, names=("GPU-2",)),
        ),
        unreadable=(f"{tmp_path}/run/list.json", f"{tmp_path}/run/torn.json"),
    )


MEMINFO = "MemTotal:  1024 kB\nMemAvailable:  512 kB\nSwapTotal:  256 kB\nHugePages_Total: 0\n"
V1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t12\t{}\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"sys/fs/cgroup/cgroup.controllers": "cpu memory\n"}, (2, True), id="v2"),
        pytest.param({"sys/fs/cgroup/cgroup.controllers": "cpu\n"}, (2, False), id="v2 without"),
        pytest.param(
            {"sys/fs/cgroup/memory/tasks": "", "proc/cgroups": V1.format(1)}, (1, True), id="v1"
        ),
        pytest.param(
            {"sys/fs/cgroup/cpu/tasks": "", "proc/cgroups": V1.format(0)}, (1, False), id="v1 off"
        ),
        pytest.param({}, (None, None), id="none"),
    ],
)
def test_control_groups(
    tmp_path: Path, files: dict[str, str], expected: tuple[int | None, bool | None]
) -> None:
    """The version, and whether memory is limited by it."""
    write(tmp_path, files)
    found = system(tmp_path)
    assert (found.cgroup_version, found.memory_controller) == expected


def test_memory_and_who_enforces(tmp_path: Path) -> None:
    """Bytes of kilobytes; what is not there is None, and enforces nothing."""
    write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "sys/fs/selinux/enforce": "1",
            "sys/module/apparmor/parameters/enabled": "Y\n",
        },
    )
    found = system(tmp_path)
    assert (found.memory_total_bytes, found.memory_available_bytes, found.swap_total_bytes) == (
        1024 * 1024,
        512 * 1024,
        256 * 1024,
    )
    assert (found.selinux_enforcing, found.apparmor) == (True, True)
    assert (found.systemd_version, found.shm_total_bytes, found.kernel_log) == (None, None, None)


def test_this_machine_s_kernel() -> None:
    """On a real kernel the numbers are those of its own interfaces."""
    found = system()
    assert found.memory_total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.cgroup_version in (1, 2)
    assert isinstance(found.clock_synchronized, bool)
    assert found.open_files_limit is not None


def test_the_kernel_s_log(tmp_path: Path) -> None:
    """A journal that may be read is enough, and one that is there and closed is not."""
    write(tmp_path, {"var/log/journal/abc/system.journal": ""})
    assert system(tmp_path).kernel_log is True
    write(tmp_path / "kmsg", {"dev/kmsg": ""})
    assert system(tmp_path / "kmsg").kernel_log is True


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_ports(taken: int) -> None:
    """A port that somebody has is told with who; ours is not asked for."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    found = ports({free: "a-0", taken: "b-0"}, ours=())
    assert [replace(each, holder="") for each in found] == [
        PortFacts(number=free, owner="a-0", state="free"),
        PortFacts(number=taken, owner="b-0", state="taken"),
    ]
    assert found[1].holder.endswith(f"(pid {os.getpid()})")
    assert ports({taken: "b-0"}, ours={taken}) == (
        PortFacts(number=taken, owner="b-0", state="ours"),
    )


def test_sources_are_gathered_with_a_deadline() -> None:
    """What answers is kept; what refuses, fails or hangs is data, and holds nobody up."""
    hung = threading.Event()

    def refuse() -> None:
        raise PermissionError(13, "Permission denied")

    def fail() -> None:
        raise OSError(5, "Input/output error")

    told: list[tuple[str, float | None]] = []
    found = gather(
        {"well": lambda: 7, "closed": refuse, "broken": fail, "hung": hung.wait},
        0.2,
        lambda name, ratio: told.append((name, ratio)),
    )
    hung.set()
    assert found == {
        "well": 7,
        "closed": Unread(
            reason="no_permission", message="[Errno 13] Permission denied", hint="use sudo"
        ),
        "broken": Unread(reason="no_answer", message="[Errno 5] Input/output error"),
        "hung": Unread(reason="no_answer", message="hung: no answer within 0.2 s"),
    }
    assert told == [("well", 0.0), ("closed", 0.25), ("broken", 0.5), ("hung", 0.75)]


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that ends without an answer is a bug, and no finding of the host's."""
    monkeypatch.setattr(threading, "excepthook", lambda told: None)

    def bug() -> None:
        raise ValueError("a bug")

    with pytest.raises(RuntimeError, match="odd: it ended without an answer"):
        gather({"odd": bug}, 5.0)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(["echo", "well"], "well\n", id="says"),
        pytest.param(["false"], "", id="fails"),
        pytest.param(["/no/such/program"], "", id="is not there"),
        pytest.param(["sleep", "5"], "", id="hangs"),
    ],
)
def test_programs(command: list[str], expected: str) -> None:
    """A program that does not answer in time has said nothing."""
    assert said(command, 0.3) == expected
