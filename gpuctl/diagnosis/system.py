"""The kernel underneath: memory now, control groups, limits, the clock, who may read what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gpuctl.diagnosis.facts import Facts, ServiceFacts, SystemFacts
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn
from gpuctl.quantities import format_bytes, format_seconds

_SCARCE_RATIO = 0.05
#: A replica as a process opens a file for each connection and each part of its model.
_LEAST_OPEN_FILES = 4096
_UNLIMITED = -1
#: What NTP slews away unseen; more than this was set by hand or by a late first synchronisation.
_STEP_SECONDS = 2.0
_MEMORY_LINE = "add {} to GRUB_CMDLINE_LINUX in /etc/default/grub, `sudo update-grub`, and reboot"


def available(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge what host RAM is left at this moment."""
    total, free = system.memory_total_bytes, system.memory_available_bytes
    if not total or free is None:
        yield skip("ram", "the kernel does not tell", "not_reported")
    elif free < total * _SCARCE_RATIO:
        message = f"{format_bytes(free)} of {format_bytes(total)} left: the OOM killer is near"
        yield warn("ram", "ram_scarce", message, "ps aux --sort=-rss | head")
    else:
        yield ok("ram", f"{format_bytes(free)} of {format_bytes(total)} available")


def cgroups(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether a limit of memory has any effect."""
    version = system.cgroup_version
    if version is None:
        yield fail("cgroups", "no_cgroups", "no control groups are mounted", "sudo reboot")
    elif system.memory_controller is False:
        message = f"version {version} without the memory controller: limits have no effect"
        fix = _MEMORY_LINE.format("`cgroup_enable=memory swapaccount=1`")
        yield fail("cgroups", "no_memory_controller", message, fix)
    else:
        yield ok("cgroups", f"version {version}, with the memory controller")


def open_files(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the limit that replicas as processes inherit; containers have Docker's."""
    limit = system.open_files_limit
    if facts.in_docker or limit is None:
        yield skip("open_files", "containers have limits of their own")
    elif limit != _UNLIMITED and limit < _LEAST_OPEN_FILES:
        message = f"at most {limit} open files for each replica"
        fix = "`ulimit -Hn 65536` as root before `gpuctl up`, or run the unit: it has 65536"
        yield warn("open_files", "open_files_few", message, fix)
    else:
        yield ok("open_files", "no limit" if limit == _UNLIMITED else f"{limit}")


def clock(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether the clock follows others: events and certificates are compared by it."""
    if system.clock_synchronized is None:
        yield skip("clock", "the kernel does not tell", "not_reported")
    elif system.clock_synchronized:
        yield ok("clock", "synchronised")
    else:
        message = "it is not synchronised: times in reports drift from those of other hosts"
        yield warn("clock", "clock_unsynchronized", message, "sudo timedatectl set-ntp true")


def steps(service: ServiceFacts, facts: Facts) -> Iterator[Finding]:
    """Judge by recent events whether the clock was set while this host ran."""
    offsets = [at - boot_seconds for at, boot_seconds in service.moments]
    widest = max((abs(b - a) for a, b in pairwise(offsets)), default=0.0)
    if len(offsets) < 2:
        yield skip("clock_steps", "no two events of this boot to compare")
    elif widest > _STEP_SECONDS:
        message = f"the clock was set by {format_seconds(widest)} between two recent events"
        fix = "harmless to gpuctl, which counts by the boot clock; timedatectl timesync-status"
        yield warn("clock_steps", "clock_stepped", message, fix)
    else:
        yield ok("clock_steps", f"none among the last {len(offsets)} events")


def kernel_log(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether the Xids that the driver writes into the kernel's log can be seen."""
    if not facts.wants_gpus:
        yield skip("kernel_log", "no GPU, so no Xid")
    elif system.kernel_log is None:
        yield skip("kernel_log", "neither /dev/kmsg nor a journal here", "absent")
    elif system.kernel_log:
        yield ok("kernel_log", "readable")
    else:
        message = "neither /dev/kmsg nor the journal may be read: Xids come from NVML alone"
        fix = "sudo usermod -aG systemd-journal $USER, then log in again"
        yield warn("kernel_log", "kernel_log_closed", message, fix)


def security(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Tell of what may forbid a container its files or devices, whatever their mode."""
    if system.selinux_enforcing and facts.in_docker:
        message = "SELinux enforces: a mounted model directory must carry a container's label"
        fix = "sudo chcon -Rt container_file_t DIRECTORY; sudo setsebool -P container_use_devices 1"
        yield warn("security", "selinux_enforcing", message, fix)
    elif system.apparmor:
        yield ok("security", "AppArmor, with Docker's own profile")
    else:
        yield ok("security", "neither SELinux nor AppArmor enforces")


GROUP = Group(
    name="system",
    checks=(
        needing("system", "ram", available),
        needing("system", "cgroups", cgroups),
        needing("system", "open_files", open_files),
        needing("system", "clock", clock),
        needing("service", "clock_steps", steps),
        needing("system", "kernel_log", kernel_log),
        needing("system", "security", security),
    ),
)
