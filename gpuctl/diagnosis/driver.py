"""Does NVIDIA's driver run, and answer?"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.diagnosis.facts import DriverFacts, Facts, Unread
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn

_REBOOT = "sudo reboot"
_INSTALL = (
    "install NVIDIA's driver (Ubuntu: `sudo ubuntu-drivers install`; "
    "Debian: `sudo apt-get install nvidia-driver`), then reboot"
)
#: NVML's own word → what mends it.
_FIXES = {
    "version_mismatch": _REBOOT,
    "driver_not_loaded": "sudo modprobe nvidia",
    "library_missing": "install the driver's libraries of the same version (Debian: "
    "`sudo apt-get install libnvidia-ml1`)",
    "no_permission": "give this user /dev/nvidiactl, /dev/nvidia0 and so on, or use sudo",
    "no_answer": "sudo dmesg | grep -E 'NVRM|Xid'; a GPU that hangs its driver needs a reboot",
    "nvml_failed": "nvidia-smi; sudo dmesg | grep NVRM",
}
_NOUVEAU = (
    "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | "
    "sudo tee /etc/modprobe.d/blacklist-nouveau.conf, "
    "then `sudo update-initramfs -u` (Red Hat: `sudo dracut --force`) and reboot"
)


def nvml(facts: Facts) -> Iterator[Finding]:
    """Judge what NVML answers, beside what hangs on the PCI bus."""
    found = facts.gpus
    if isinstance(found, Unread):
        if found.reason in _FIXES:
            message = f"{found.message}{_versions(facts.driver)}"
            yield fail("nvml", found.reason, message, _FIXES[found.reason])
        else:
            yield skip("nvml", found.message, found.reason, found.hint)
    elif found:
        versions = [gpu.facts for gpu in found if gpu.facts is not None]
        told = versions[0] if versions else None
        driver = f"driver {told.driver_version}" if told and told.driver_version else "it answers"
        cuda = ", CUDA {}.{}".format(*told.cuda_version) if told and told.cuda_version else ""
        yield ok("nvml", f"{driver}{cuda}")
    elif not isinstance(facts.driver, Unread) and facts.driver.cards:
        cards = ", ".join(facts.driver.cards)
        yield fail("nvml", "driver_missing", f"NVIDIA cards without a driver: {cards}", _INSTALL)
    elif facts.wants_gpus:
        fix = "is the card seated and powered? `lspci | grep -i nvidia` lists what the bus has"
        yield fail("nvml", "no_gpu", "the profile wants GPUs, and this host shows none", fix)
    else:
        yield skip("nvml", "no NVIDIA GPU on this host, and none is wanted")


def nouveau(driver: DriverFacts, facts: Facts) -> Iterator[Finding]:
    """Judge who has the cards: the free driver runs no CUDA."""
    if not driver.cards:
        yield skip("nouveau", "no NVIDIA card on the PCI bus")
        return
    bound = [card for card, name in driver.cards.items() if name == "nouveau"]
    if bound:
        message = f"nouveau has {', '.join(bound)}: CUDA needs NVIDIA's own driver"
        yield fail("nouveau", "nouveau_loaded", message, _NOUVEAU)
    else:
        yield ok("nouveau", "it has none of the cards")


def persistence(driver: DriverFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether cards stay initialised while nothing runs on them."""
    if driver.module_version is None:
        yield skip("persistence", "NVIDIA's driver is not loaded")
    elif driver.persistence:
        yield ok("persistence", "nvidia-persistenced runs")
    else:
        message = "nvidia-persistenced does not run: the first use of an idle card takes seconds"
        fix = "sudo systemctl enable --now nvidia-persistenced"
        yield warn("persistence", "persistence_off", message, fix)


def fabric(driver: DriverFacts, facts: Facts) -> Iterator[Finding]:
    """Judge what joins NVSwitches: without it CUDA does not start (error 802)."""
    if not driver.switches:
        yield skip("fabric_manager", "no NVSwitch on this host")
    elif driver.fabric_manager:
        yield ok("fabric_manager", f"it runs, for {driver.switches} NVSwitches")
    else:
        message = f"{driver.switches} NVSwitches and no fabric manager: CUDA cannot start (802)"
        fix = "sudo systemctl enable --now nvidia-fabricmanager"
        yield fail("fabric_manager", "fabric_manager_down", message, fix)


def devices(driver: DriverFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the device files: who may open them, and the one that CUDA needs and NVML does not."""
    if driver.module_version is None:
        yield skip("device_files", "NVIDIA's driver is not loaded")
        return
    denied = [each.path for each in driver.devices if not each.usable]
    if denied:
        message = f"this user may not open {', '.join(denied)}"
        fix = f"ls -l {denied[0]}; join its group, or use sudo"
        yield fail("device_files", "device_denied", message, fix)
    elif not any(each.path == "/dev/nvidia-uvm" for each in driver.devices):
        message = "/dev/nvidia-uvm is missing: CUDA cannot start"
        yield warn("device_files", "uvm_missing", message, "sudo nvidia-modprobe -u -c=0")
    else:
        yield ok("device_files", f"{len(driver.devices)} of them, all usable")


def _versions(driver: DriverFacts | Unread) -> str:
    if isinstance(driver, Unread) or not (driver.module_version and driver.library_version):
        return ""
    return f" (kernel module {driver.module_version}, library {driver.library_version})"


GROUP = Group(
    name="driver",
    checks=(
        nvml,
        needing("driver", "nouveau", nouveau),
        needing("driver", "persistence", persistence),
        needing("driver", "fabric_manager", fabric),
        needing("driver", "device_files", devices),
    ),
)
