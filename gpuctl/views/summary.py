"""
What a Status says in one line, and whether all is well. Imports only `words`: the fast path
of `gpuctl status` uses it too.
"""

from __future__ import annotations

from gpuctl.views import words

TYPE_CHECKING = False  # `typing` would cost the fast path 4 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gpuctl.model.status import ReplicaStatus, Status

#: A replica in one of these is as its operator wants it; stopped means on purpose.
WELL = ("ready", "busy", "stopped")

#: Older than this many intervals, and never less than `_LEAST_SECONDS`, a Status is stale.
_STALE_INTERVALS = 3
_LEAST_SECONDS = 10.0

#: A gateway tells of itself every second; five missed are one that is not there.
_GATEWAY_SECONDS = 5.0


def all_well(status: Status) -> bool:
    """Return True when every replica serves, or is stopped on purpose."""
    return all(well(replica) for replica in status["replicas"])


def well(replica: ReplicaStatus) -> bool:
    """Return True for a replica that is as its operator wants it."""
    return replica["phase"] in WELL


def stale(status: Status, now: float) -> bool:
    """Return True when a living daemon would have published again by *now* (Unix seconds)."""
    limit = max(_LEAST_SECONDS, _STALE_INTERVALS * status["daemon"]["interval_seconds"])
    return now - status["at"] > limit


def header(status: Status, *, alive: bool, now: float) -> str:
    """Return the line above the table: whose status this is, how old, and what it amounts to."""
    parts = [status["profile"], phases(status["replicas"])]
    if status["mode"] == "observe":
        parts.append("OBSERVE ONLY")
    parts.append(daemon(status, alive=alive, now=now))
    if status["simulated"]:
        parts.insert(0, "SIMULATED")
    return " · ".join(parts)


def phases(replicas: Sequence[ReplicaStatus]) -> str:
    """Return how many replicas are in which phase: `16 replicas: 15 ready, 1 backoff`."""
    counts: dict[str, int] = {}
    for replica in replicas:
        counts[replica["phase"]] = counts.get(replica["phase"], 0) + 1
    each = ", ".join(f"{count} {phase}" for phase, count in counts.items())
    total = words.counted(len(replicas), "replica")
    return f"{total}: {each}" if each else total


def daemon(status: Status, *, alive: bool, now: float) -> str:
    """Return who published this and how long ago; loud when nobody supervises any more."""
    old = words.age(now - status["at"])
    if status.get("stopping"):
        return f"DAEMON STOPPED {old} ago"
    if not alive:
        return f"DAEMON DEAD, last seen {old} ago"
    if stale(status, now):
        return f"DAEMON SILENT, status {old} old"
    about = status["daemon"]
    return f"daemon {about['pid']} ({about['version']}) · {old} old"


def gateway(status: Status, told: Mapping[str, Any], now: float) -> str:
    """
    Return where the profile's gateway listens and what it has to do, by its gateway.json.

    Of a simulated host nothing is said unless one runs: nothing starts it there.
    """
    listen = (status["gateway"] or {}).get("listen", "")
    if not _fresh(told, now):
        return "" if status["simulated"] else f"gateway {listen} · NOT RUNNING"
    work = f"{told.get('in_flight', 0)} in flight, {told.get('queued', 0)} queued"
    return f"gateway {told.get('listen', listen) or 'that ends'} · {work}"


def gateway_well(status: Status, told: Mapping[str, Any], now: float) -> bool:
    """
    Return False where a gateway should listen, and does not by its gateway.json.

    A simulated host has none, and a `down` has ended it with the replicas.
    """
    if not status.get("gateway") or status["simulated"]:
        return True
    if any(each["phase"] == "stopped" and each["reason"] == "down" for each in status["replicas"]):
        return True
    return _fresh(told, now) and bool(told.get("listen"))


def _fresh(told: Mapping[str, Any], now: float) -> bool:
    at = told.get("at")
    return isinstance(at, float | int) and abs(now - at) <= _GATEWAY_SECONDS


def names(replica: ReplicaStatus) -> str:
    """Return the indexes of a replica's GPUs: `3`, `2,3`, or `cpu`."""
    return ",".join(str(gpu["index"]) for gpu in replica["gpus"]) or "cpu"


def restarts(replica: ReplicaStatus) -> str:
    """Return the restarts of the last hour and day: `1/4`."""
    return f"{replica['restarts_1h']}/{replica['restarts_24h']}"


def stage(replica: ReplicaStatus) -> str:
    """Return how far a replica that loads has come, in words; "" where that is not told."""
    return (replica.get("stage") or "").replace("_", " ")


def why(replica: ReplicaStatus, now: float) -> str:
    """Return the reason for a phase, with the time of the next attempt where there is one."""
    parts = [part for part in (stage(replica), replica["reason"]) if part]
    moved = replica.get("moved", "")
    if moved not in ("", "scaled", replica["reason"]):
        parts.append(f"moved: {moved}")
    if replica["next_attempt_at"] is not None:
        left = replica["next_attempt_at"] - now
        parts.append(f"next in {words.age(left)}" if left >= 1 else "next now")
    if replica["outdated"]:
        parts.append("outdated: `gpuctl up` renews it")
    return ", ".join(parts)
