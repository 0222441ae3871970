"""What is thought of the readings and done about it: Verdict, Condition, Action, Event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Json = str | int | float | bool | None | tuple["Json", ...] | Mapping[str, "Json"]
Evidence = Mapping[str, Json]

State = Literal["ok", "degraded", "failed", "unknown"]
Remedy = Literal["none", "restart", "avoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One check on one subject (a replica, a GPU by UUID, or "host")."""

    check: str
    subject: str
    state: State
    reason: str = ""  # a stable code, such as `health_refused`
    evidence: Evidence = field(default_factory=dict)
    remedy: Remedy = "none"
    drain: bool = False  # of `avoid`: what runs there runs well, and leaves in its own time
    patience_seconds: float = 0.0  # how long it must hold before the remedy is due
    patience_readings: int = 1  # and over how many distinct readings
    reading_boot_seconds: float | None = None  # when its evidence was read
    streak: str = ""  # verdicts of one streak count as one: hard failures of different kinds, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A verdict with how long it has held."""

    verdict: Verdict
    since: float  # Unix seconds
    since_boot_seconds: float
    readings: int = 1  # distinct readings that said so

    def due(self, boot_seconds: float) -> bool:
        """True when the remedy's patience is used up."""
        return (
            self.verdict.state == "failed"
            and boot_seconds - self.since_boot_seconds >= self.verdict.patience_seconds
            and self.readings >= self.verdict.patience_readings
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start a container; before that, where it was found missing, fetch its image."""

    replica: str
    reason: str
    step: Literal["fetch", "start"] = "start"
    restart: bool = False  # after a failure that is held against it
    attempt: str = ""  # the id of an attempt that was interrupted, to be taken up again
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Take it out of the routes and let what is in flight finish."""

    replica: str
    container: str
    reason: str
    deadline_seconds: float
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One step of stopping a container: ask (SIGTERM), then kill, then remove."""

    replica: str
    container: str
    reason: str
    step: Literal["terminate", "kill", "remove"]
    attempt: str = ""  # as of a Start
    evidence: Evidence = field(default_factory=dict)


Action = Start | Drain | Stop


class EventKind(StrEnum):
    """What happened; `history.fold` gives the ones it remembers their meaning."""

    DAEMON = "daemon"  # reason started | stopped
    #: reason run | stop | renew | cordon | uncordon | scale | failover | up | down
    INTENT = "intent"
    ATTEMPT = "attempt"  # an action begins; evidence: attempt, action, container
    EVIDENCE = "evidence"  # what a container left behind: its last log lines, its exit
    DONE = "done"  # an action ended well; evidence: attempt, seconds, container
    UNDONE = "undone"  # an action ended badly; reason says how
    ADOPTED = "adopted"  # a container that ran before this daemon did
    FAILED = "failed"  # a replica's container failed, with the reason and the evidence
    READY = "ready"
    BASELINE = "baseline"  # the VRAM a ready replica holds
    HOST_FAULT = "host_fault"  # many failed at once: starts are held
    HOST_OK = "host_ok"
    CONDITION = "condition"  # a condition appeared, changed or went
    XID = "xid"  # of a GPU; reason: its number
    CORDONED = "cordoned"  # a GPU, by the daemon itself; an operator's is an intent
    MOVED = "moved"  # a replica got other GPUs; evidence: gpus (UUIDs, () is the CPU), voluntary
    CUDA_OOM = "cuda_oom"  # a failed container's last words: it ran out of VRAM
    MEASURED = "measured"  # the VRAM that a model took; subject: what `planning` looks it up by
    #: For a failover of a workload; reason fetching | fetched | not_fetched; evidence: image
    IMAGE = "image"
    PEAK = "peak"  # the highest readings of a GPU within an hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, append-only; wall time for people, boot time for arithmetic."""

    kind: EventKind
    subject: str  # a replica, a workload, a GPU's UUID, "host" or "daemon"
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)
    at: float
    boot_id: str
    boot_seconds: float
    id: int = 0  # the store's row; 0 until stored
