"""gpuctl itself: its daemon, its unit, its directories, and what this user may do with them."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.diagnosis.facts import Facts, ServiceFacts, SystemFacts, Unread
from gpuctl.diagnosis.finding import Finding, Group, fail, needing, ok, skip, warn

#: `ProtectKernelLogs=` is the newest setting of the unit's. Source: NEWS of systemd 244.
_LEAST_SYSTEMD = 244


def daemon(service: ServiceFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether one lives, and is of this program's version."""
    if service.daemon_version is None or (service.daemon_stopped and not service.daemon_alive):
        yield skip("daemon", "none runs, and none is meant to")
    elif not service.daemon_alive:
        message = "it published a status and is gone: nobody looks after the replicas"
        fix = "sudo systemctl restart gpuctl" if service.unit_path else "gpuctl up"
        yield fail("daemon", "daemon_dead", message, fix)
    elif service.daemon_version != service.version:
        message = f"it is {service.daemon_version}, and this program {service.version}"
        fix = "sudo systemctl restart gpuctl (no replica is restarted)"
        yield warn("daemon", "daemon_version", message, fix)
    else:
        yield ok("daemon", f"it runs, {service.daemon_version}")


def unit(service: ServiceFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether the unit is there, as it is shipped, and starts at boot."""
    system = facts.system
    if isinstance(system, Unread) or system.systemd_version is None:
        yield skip("unit", "systemd does not run this host")
    elif service.unit_path is None:
        message = "gpuctl.service is not installed: nothing supervises after a boot"
        fix = (
            f"sudo install -m 0644 {service.shipped_unit} /etc/systemd/system/ && "
            "sudo systemctl daemon-reload && sudo systemctl enable gpuctl.service"
        )
        yield warn("unit", "unit_missing", message, fix)
    elif service.unit_active == "failed":
        yield fail("unit", "unit_failed", "it has failed", "systemctl status gpuctl")
    elif service.unit_reload:
        message = f"{service.unit_path} is newer than what systemd has read"
        fix = "sudo systemctl daemon-reload (see daemon_reload first)"
        yield warn("unit", "unit_not_read", message, fix)
    elif service.unit_same is False:
        message = f"{service.unit_path} is another than the one that is shipped"
        fix = (
            f"diff {service.unit_path} {service.shipped_unit}; own settings: systemctl edit gpuctl"
        )
        yield warn("unit", "unit_differs", message, fix)
    elif service.unit_enabled not in ("enabled", ""):
        message = f"it is {service.unit_enabled}: nothing supervises after a boot"
        yield warn("unit", "unit_disabled", message, "sudo systemctl enable gpuctl.service")
    else:
        yield ok("unit", f"{service.unit_path}, {service.unit_active or 'installed'}")


def systemd(system: SystemFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether it knows what the units ask of it."""
    version = system.systemd_version
    if version is None:
        yield skip("systemd", "it does not run this host")
    elif version < _LEAST_SYSTEMD:
        message = f"version {version} ignores settings of the unit that came by {_LEAST_SYSTEMD}"
        yield warn("systemd", "systemd_old", message, "upgrade the distribution")
    else:
        yield ok("systemd", f"version {version}")


def state(service: ServiceFacts, facts: Facts) -> Iterator[Finding]:
    """Judge the directory of what must never be lost, nor be written by others."""
    found = service.state
    if found is None:
        yield skip("state_directory", "it is made by the first `gpuctl up`")
    elif found.mode & 0o002:
        message = f"{found.path}: everybody may write there (mode {found.mode:04o})"
        yield fail("state_directory", "state_open", message, f"sudo chmod 0750 {found.path}")
    elif not service.state_writable:
        message = f"{found.path} belongs to uid {found.uid}, and {service.user} may not write there"
        yield fail("state_directory", "state_denied", message, "use sudo, or GPUCTL_STATE_DIR")
    else:
        yield ok("state_directory", f"{found.path}, mode {found.mode:04o}")


def control(service: ServiceFacts, facts: Facts) -> Iterator[Finding]:
    """Judge whether this user may act: `stop`, `restart` and so on go through the socket."""
    found, group = service.socket, service.socket_group
    if found is None:
        yield skip("control_socket", "no daemon listens")
    elif service.socket_usable:
        yield ok("control_socket", f"{found.path}, group {group}")
    else:
        message = f"{service.user} may look and not act: {found.path} is for the group {group}"
        joined = f"sudo usermod -aG {group} {service.user}, then log in again"
        yield warn("control_socket", "socket_denied", message, joined if found.gid else "use sudo")


GROUP = Group(
    name="gpuctl",
    checks=(
        needing("service", "daemon", daemon),
        needing("service", "unit", unit),
        needing("system", "systemd", systemd),
        needing("service", "state_directory", state),
        needing("service", "control_socket", control),
    ),
)
