"""
Where gpuctl keeps its files: environment in, directories out. Imports only `os`, because
`gpuctl status` must start in the time of a few bare interpreters.

Precedence: systemd's `*_DIRECTORY`, then `GPUCTL_*_DIR`, then for a simulated host a directory
of its own, then the system's directories for root and the XDG base directories for a user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SYSTEM_CONFIG = "/etc/gpuctl"
SYSTEM_STATE = "/var/lib/gpuctl"
SYSTEM_RUNTIME = "/run/gpuctl"


class Directories:
    """The three directories and the files in them; a plain class, because dataclasses cost 5 ms."""

    __slots__ = ("config", "runtime", "state")

    def __init__(self, config: str, state: str, runtime: str) -> None:
        self.config = config
        self.state = state
        self.runtime = runtime

    @property
    def status(self) -> str:
        """status.json, which the daemon publishes."""
        return f"{self.runtime}/status.json"

    @property
    def socket(self) -> str:
        """The daemon's Unix socket for intents."""
        return f"{self.runtime}/gpuctl.sock"

    @property
    def gateway(self) -> str:
        """gateway.json, in a directory of its own: the gateway is another user."""
        return f"{self.runtime}-gateway/gateway.json"

    @property
    def gateway_lock(self) -> str:
        """What a gateway holds locked while it runs."""
        return f"{self.runtime}-gateway/gateway.lock"

    @property
    def gateway_log(self) -> str:
        """What a gateway writes that no unit looks after."""
        return f"{self.state}/gateway.log"

    @property
    def spawned(self) -> str:
        """Holds the pid of a daemon that `up` put in the background, and no unit looks after."""
        return f"{self.runtime}/spawned.pid"

    @property
    def keys(self) -> str:
        """keys.json, the API keys' digests: `gpuctl keys` writes it, the gateway reads it."""
        return f"{self.config}/keys.json"

    @property
    def database(self) -> str:
        """state.db, the events."""
        return f"{self.state}/state.db"

    @property
    def applied(self) -> str:
        """The applied profile, the only one the daemon reads."""
        return f"{self.state}/applied.json"

    @property
    def daemon_log(self) -> str:
        """What a daemon in the background writes."""
        return f"{self.state}/daemon.log"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Directories) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((self.config, self.state, self.runtime))

    def __repr__(self) -> str:
        return f"Directories({self.config!r}, {self.state!r}, {self.runtime!r})"


def directories(environment: Mapping[str, str], *, root: bool, simulate: str = "") -> Directories:
    """
    Return where this user's gpuctl writes.

    *simulate* names a simulated host, which never shares a directory with a real one.
    """
    default = _simulated(environment, simulate) if simulate else _default(environment, root)
    return Directories(
        _chosen(environment, "CONFIGURATION_DIRECTORY", "GPUCTL_CONFIG_DIR", default.config),
        _chosen(environment, "STATE_DIRECTORY", "GPUCTL_STATE_DIR", default.state),
        _chosen(environment, "RUNTIME_DIRECTORY", "GPUCTL_RUNTIME_DIR", default.runtime),
    )


def reading(
    environment: Mapping[str, str],
    *,
    root: bool,
    simulate: str = "",
    system: Directories | None = None,
) -> Directories:
    """
    Return where a reader looks: the user's own, or the system's when only that one is supervised.

    Whoever names a directory in the environment means it, and gets no other.
    """
    own = directories(environment, root=root, simulate=simulate)
    named = any(environment.get(name) for name in ("RUNTIME_DIRECTORY", "GPUCTL_RUNTIME_DIR"))
    if root or simulate or named or os.path.exists(own.status):
        return own
    system = system or Directories(SYSTEM_CONFIG, SYSTEM_STATE, SYSTEM_RUNTIME)
    return system if os.path.exists(system.status) else own


def denied(path: str) -> str:
    """Return the next step of somebody who may not open *path*, or may not look where it is."""
    for place in (path, os.path.dirname(path)):
        try:
            return next_step(os.stat(place))
        except OSError:
            continue
    return "use sudo"


def next_step(found: os.stat_result) -> str:
    """Return the next step of somebody who may not open what this is of: its group, or sudo."""
    import grp  # neither is needed by those who may
    import pwd

    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    # Nobody is told to join root's own group.
    through = f"join the group `{group}`, or " if found.st_gid and found.st_mode & 0o070 else ""
    return f"{through}use sudo: it belongs to {owner}:{group}"


def _chosen(environment: Mapping[str, str], systemd: str, gpuctl: str, default: str) -> str:
    # systemd.exec(5): several directories of one kind come colon-separated, the unit's first.
    from_systemd = environment.get(systemd, "").partition(":")[0]
    return from_systemd or environment.get(gpuctl) or default


def _default(environment: Mapping[str, str], root: bool) -> Directories:
    if root:
        return Directories(SYSTEM_CONFIG, SYSTEM_STATE, SYSTEM_RUNTIME)
    state = f"{_xdg(environment, 'XDG_STATE_HOME', '.local/state')}/gpuctl"
    # The XDG specification gives XDG_RUNTIME_DIR no default: without a login session, use state.
    runtime = environment.get("XDG_RUNTIME_DIR")
    return Directories(
        f"{_xdg(environment, 'XDG_CONFIG_HOME', '.config')}/gpuctl",
        state,
        f"{runtime}/gpuctl" if runtime else f"{state}/run",
    )


def _simulated(environment: Mapping[str, str], host: str) -> Directories:
    name = os.path.basename(host).removesuffix(".json").removesuffix(".toml") or "host"
    own = f"{_xdg(environment, 'XDG_STATE_HOME', '.local/state')}/gpuctl/simulated-{name}"
    config = f"{_xdg(environment, 'XDG_CONFIG_HOME', '.config')}/gpuctl"
    return Directories(config, own, f"{own}/run")


def _xdg(environment: Mapping[str, str], variable: str, below_home: str) -> str:
    home = environment.get("HOME") or os.path.expanduser("~")
    return environment.get(variable) or f"{home}/{below_home}"
