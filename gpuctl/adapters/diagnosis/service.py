"""The supervisor's own unit, daemon and directories."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuctl.adapters.diagnosis.deadline import said
from gpuctl.adapters.diagnosis.storage import step
from gpuctl.diagnosis.facts import ServiceFacts, Step

_UNIT = "gpuctl.service"
_PROPERTIES = "LoadState,UnitFileState,ActiveState,FragmentPath,NeedDaemonReload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things of gpuctl's are, and who published last."""

    version: str
    state: Path
    socket: Path
    shipped_unit: Path
    daemon_version: str | None = None
    daemon_alive: bool = False
    daemon_stopped: bool = False
    moments: tuple[tuple[float, float], ...] = ()


def service(
    places: Places,
    *,
    root: Path = Path("/"),
    ask: Callable[[Sequence[str]], str] = said,
) -> ServiceFacts:
    """Return what systemd and the file system tell. Source: `systemctl show`, stat(2)."""
    booted = (root / "run/systemd/system").is_dir()  # sd_booted(3)
    told = _shown(ask(["systemctl", "show", _UNIT, f"--property={_PROPERTIES}"])) if booted else {}
    loaded = told.get("LoadState") == "loaded"
    path = told.get("FragmentPath") or None
    socket = _step(places.socket)
    return ServiceFacts(
        version=places.version,
        user=_user(),
        uid=os.geteuid(),
        unit_path=path if loaded else None,
        unit_same=_same(path, places.shipped_unit) if loaded and path else None,
        unit_enabled=told.get("UnitFileState", ""),
        unit_active=told.get("ActiveState", ""),
        unit_reload=told.get("NeedDaemonReload") == "yes",
        shipped_unit=str(places.shipped_unit),
        daemon_version=places.daemon_version,
        daemon_alive=places.daemon_alive,
        daemon_stopped=places.daemon_stopped,
        state=_step(places.state),
        state_writable=os.access(places.state, os.W_OK | os.X_OK),
        socket=socket,
        socket_group=_group(socket.gid) if socket else "",
        socket_usable=os.access(places.socket, os.W_OK),
        moments=places.moments,
    )


def _shown(text: str) -> dict[str, str]:
    rows = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in rows}


def _same(path: str, shipped: Path) -> bool | None:
    try:
        return Path(path).read_bytes() == shipped.read_bytes()
    except OSError:
        return None


def _step(path: Path) -> Step | None:
    try:
        return step(path)
    except OSError:
        return None


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
