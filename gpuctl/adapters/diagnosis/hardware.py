"""NVIDIA's cards and driver as the kernel shows them, without NVML: also when that hangs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gpuctl.diagnosis.facts import DeviceFile, DriverFacts

_NVIDIA = "0x10de"
#: PCI classes. Source: pci.ids, class 03 (display controller) and 0680 (bridge, other).
_DISPLAY, _BRIDGE = "0x03", "0x0680"
_MODULE = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9.]+)")
_LIBRARY = re.compile(r"libnvidia-ml\.so\.([0-9]+\.[0-9.]+)$")
_LIBRARIES = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib64",
)
#: Names of processes, cut by the kernel to 15 characters.
_PERSISTENCE, _FABRIC = "nvidia-persiste", "nv-fabricmanage"


def driver(root: Path = Path("/")) -> DriverFacts:
    """
    Return what hangs on the bus, which driver has it, and which versions are loaded.

    Source: /sys/bus/pci/devices/*/{vendor,class,driver}, /sys/module/nvidia/version,
    /proc/driver/nvidia/version, the name that libnvidia-ml.so.1 links to, /proc/*/comm.
    """
    cards, switches = _pci(root / "sys/bus/pci/devices")
    running = {_text(path) for path in (root / "proc").glob("[0-9]*/comm")}
    files = _devices(root / "dev")
    return DriverFacts(
        cards=cards,
        switches=switches,
        module_version=_module(root),
        library_version=_library(root),
        persistence=_PERSISTENCE in running,
        fabric_manager=_FABRIC in running,
        devices=tuple(
            DeviceFile(path=f"/{path.relative_to(root)}", usable=os.access(path, os.R_OK | os.W_OK))
            for path in files
        ),
        char_links=bool(files) and all(_linked(path, root / "dev/char") for path in files),
    )


def _pci(folder: Path) -> tuple[dict[str, str | None], int]:
    """Return the cards by bus id with their bound driver, and the number of NVSwitches."""
    cards: dict[str, str | None] = {}
    switches = 0
    for device in sorted(folder.glob("*")):
        kind = _text(device / "class")
        if _text(device / "vendor") != _NVIDIA:
            continue
        if kind.startswith(_DISPLAY):
            link = device / "driver"
            cards[device.name] = link.resolve().name if link.exists() else None
        elif kind.startswith(_BRIDGE):
            switches += 1
    return cards, switches


def _module(root: Path) -> str | None:
    if version := _text(root / "sys/module/nvidia/version"):
        return version
    found = _MODULE.search(_text(root / "proc/driver/nvidia/version"))
    return found.group(1) if found else None


def _library(root: Path) -> str | None:
    for folder in _LIBRARIES:
        link = root / folder / "libnvidia-ml.so.1"
        if link.exists() and (found := _LIBRARY.search(link.resolve().name)):
            return found.group(1)
    return None


def _devices(folder: Path) -> list[Path]:
    names = ("nvidiactl", "nvidia-uvm", "nvidia[0-9]*")
    return sorted(path for name in names for path in folder.glob(name))


def _linked(path: Path, folder: Path) -> bool:
    """Return whether systemd could name the device: it looks for /dev/char/MAJOR:MINOR."""
    number = path.stat().st_rdev
    return (folder / f"{os.major(number)}:{os.minor(number)}").exists()


def _text(path: Path) -> str:
    # A process may end, and a device go, between listing and reading.
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
