"""
`gpuctl status`, in the time of a few bare interpreters: reads status.json, prints it, judges it.

Called by `__main__` before typer is imported, so nothing heavy may be imported here: the test
on `-X importtime` names what. `read` and `alive` serve the other commands as well.
"""

from __future__ import annotations

import json
import os
import sys
import time

from gpuctl import paths, printable
from gpuctl.errors import DaemonDown, GpuctlError, StatusDamaged
from gpuctl.views import summary, words

TYPE_CHECKING = False  # `typing` would cost 4 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gpuctl.model.status import Status

_HEADINGS = (
    "REPLICA", "PHASE", "GPU", "PORT", "SINCE", "RESTARTS 1h/24h", "IN FLIGHT", "RAM", "VRAM", "WHY"
)  # fmt: skip

#: Without these it is not what a daemon publishes.
_KEYS = {"at", "profile", "seq", "mode", "simulated", "daemon", "replicas", "gpus", "conditions",
         "warnings"}  # fmt: skip

#: Of 512 replicas gateway.json has some 80 KiB.
_GATEWAY_BYTES = 1024 * 1024


def options(arguments: Sequence[str]) -> tuple[bool, str | None] | None:
    """Return (--json, --simulate) of a plain `status` call, `None` for any other command line."""
    as_json, simulate, command = False, None, None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--simulate":
            simulate = next(rest, None)
            if simulate is None:
                return None
        elif argument.startswith("--simulate="):
            simulate = argument.partition("=")[2]
        elif argument == "--json" and command:
            as_json = True
        elif argument == "status" and command is None:
            command = argument
        else:
            return None
    return (as_json, simulate) if command else None


def main(as_json: bool, simulate: str, environment: Mapping[str, str]) -> int:
    """Print the status, and return the exit code: 0 all ready, 3 otherwise or no daemon."""
    directories = paths.reading(environment, root=os.geteuid() == 0, simulate=simulate)
    try:
        if simulate:
            refuse_unknown(simulate)
            sys.stderr.write(f"gpuctl: simulated host {simulate}: none of this is real\n")
        text, status = read(directories.status)
    except GpuctlError as error:
        sys.stderr.write(printable.text(f"error: {error.message}\nhint: {error.hint}\n"))
        return error.exit_code
    if simulate and not status["simulated"]:
        whose = f"warning: {directories.status} is of a real host, not of simulated {simulate}\n"
        sys.stderr.write(printable.text(whose))
    now, living = time.time(), alive(status)
    told = gateway(directories.gateway) if status.get("gateway") else {}
    code = exit_code(status, alive=living, now=now, gateway=told)
    if as_json:
        sys.stdout.write(text.rstrip() + "\n")
        return code
    front = summary.gateway(status, told, now) if status.get("gateway") else ""
    if sys.stdout.isatty():
        _rich(status, living, now, front)
    else:
        shown = plain(status, alive=living, now=now, gateway=front)
        sys.stdout.write(printable.text(shown) + "\n")
    return code


def refuse_unknown(host: str) -> None:
    """
    Refuse a simulated host that is not there; what its file says is for others to read.

    Raises:
        NotFound: no host of that name is shipped.
        UsageError: there is no such file.
    """
    if "/" not in host and os.path.exists(f"{os.path.dirname(__file__)}/data/hosts/{host}.json"):
        return
    from gpuctl import host_state  # 20 ms, which a shipped name need not pay

    path = host_state.find(host)
    if not os.path.exists(path):
        host_state.read(path)


def read(path: str) -> tuple[str, Status]:
    """
    Return status.json as text and as a document.

    Raises:
        DaemonDown: nothing has published one here.
        StatusDamaged: it is there, and is none.
        GpuctlError: it may not be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        status: Status = json.loads(text)
        if not isinstance(status, dict) or status.get("schema") != 1 or _KEYS - status.keys():
            raise ValueError("it is no status of this gpuctl's")
        return text, status
    except FileNotFoundError:
        raise DaemonDown(
            f"nothing is supervised here: there is no {path}",
            "start with `gpuctl up`, or see it work with `gpuctl demo`",
        ) from None
    except PermissionError:
        raise GpuctlError(f"{path}: permission denied", paths.denied(path)) from None
    except (OSError, ValueError) as error:
        raise StatusDamaged(
            f"{path}: damaged: {error}", "`gpuctl up` has the daemon write it anew"
        ) from None


def alive(status: Status) -> bool:
    """
    Return True while the daemon that published *status* runs.

    The daemon holds a file lock for life, so a process of its number without any lock is another
    program that got the number later. Source: /proc/locks, proc_locks(5).
    """
    pid = status["daemon"]["pid"]
    if status.get("stopping") or not os.path.exists(f"/proc/{pid}"):
        return False
    try:
        with open("/proc/locks", encoding="ascii") as file:
            return any(line.split()[4] == str(pid) for line in file if "->" not in line)
    except OSError:
        return True


def gateway(path: str) -> Mapping[str, Any]:
    """Return gateway.json, empty where there is none: another user writes it, whatever it likes."""
    try:
        # A pipe in its place would keep a reader for ever.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            document = json.loads(f.read(_GATEWAY_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def gateway_line(status: Status, path: str, now: float) -> str:
    """Return the line about the gateway; without one in the profile it is "", and costs nothing."""
    return summary.gateway(status, gateway(path), now) if status.get("gateway") else ""


def exit_code(status: Status, *, alive: bool, now: float, gateway: Mapping[str, Any]) -> int:
    """Return 0 when all is ready, somebody looks after it and its gateway listens, else 3."""
    kept = alive and not summary.stale(status, now)
    ready = summary.all_well(status) and summary.gateway_well(status, gateway, now)
    return 0 if kept and ready else 3


def plain(status: Status, *, alive: bool, now: float, gateway: str = "") -> str:
    """Return the status as aligned plain text, one line a replica, conditions below."""
    lines = [summary.header(status, alive=alive, now=now), *([gateway] if gateway else [])]
    lines += _aligned([_HEADINGS, *(_row(status, index, now) for index in _indexes(status))])
    names = {gpu["uuid"]: f"gpu {gpu['index']}" for gpu in status["gpus"]}
    for condition in status["conditions"]:
        since = words.age(now - condition["since"])
        subject = names.get(condition["subject"], condition["subject"])
        lines.append(f"{condition['state']}: {subject}: {condition['reason']} for {since}")
    lines += [f"warning: {warning}" for warning in status["warnings"]]
    return "\n".join(lines)


def _indexes(status: Status) -> range:
    return range(len(status["replicas"]))


def _row(status: Status, index: int, now: float) -> tuple[str, ...]:
    replica = status["replicas"][index]
    since = replica["since"]
    return (
        replica["name"],
        replica["phase"],
        summary.names(replica),
        str(replica["port"]),
        words.short_age(None if since is None else now - since),
        summary.restarts(replica),
        words.number(replica["in_flight"]),
        words.size(replica["memory_bytes"]),
        words.size(replica["vram_bytes"]),
        summary.why(replica, now),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _rich(status: Status, living: bool, now: float, gateway: str) -> None:
    from gpuctl.views.terminal import show_status

    show_status(status, alive=living, now=now, gateway=gateway)
