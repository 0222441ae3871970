"""
The health report: Status and Events in, one document out, and its text and Markdown forms.

Uptime counts the time in which a replica was known to serve, from its first event on; a stop on
purpose is neither up nor down and does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from gpuctl.model import Event, EventKind
from gpuctl.model.status import GpuStatus, ReplicaStatus, Status
from gpuctl.views import elsewhere, journal, summary, words

Report = dict[str, Any]

_REPLICA_COLUMNS = ("replica", "phase", "uptime", "restarts", "failures")
_GPU_COLUMNS = ("gpu", "name", "state", "peak VRAM", "peak heat", "peak use", "peak power")
_PEAKS = ("memory_used_bytes", "temperature_celsius", "utilization_ratio", "power_watts")


def report(
    status: Status, events: Sequence[Event], *, since: float, now: float, alive: bool
) -> Report:
    """Return what happened between *since* and *now* (Unix seconds); *events* are all there are."""
    within = [event for event in events if event.at >= since]
    supervised = alive and not summary.stale(status, now)
    return {
        "schema": 1,
        "at": now,
        "since": since,
        "profile": status["profile"],
        "simulated": status["simulated"],
        "healthy": supervised and summary.all_well(status) and not status["conditions"],
        "daemon": summary.daemon(status, alive=alive, now=now),
        "replicas": [_replica(one, events, since, now) for one in status["replicas"]],
        "gpus": [_gpu(one, within, fresh=status["at"] >= since) for one in status["gpus"]],
        "conditions": status["conditions"],
        "on_cpu": elsewhere.on_cpu(events, since),
        "cordons": elsewhere.cordoned(events, since),
        "host_faults": sum(event.kind is EventKind.HOST_FAULT for event in within),
        "warnings": status["warnings"],
    }


def text(made: Report, zone: tzinfo | None = None) -> str:
    """Return the report as plain text."""
    lines = [_title(made), f"{_span(made, zone)} · {made['daemon']}", ""]
    lines += _aligned([_REPLICA_COLUMNS, *(_replica_cells(each) for each in made["replicas"])])
    if made["gpus"]:
        lines += ["", *_aligned([_GPU_COLUMNS, *(_gpu_cells(gpu) for gpu in made["gpus"])])]
    found = _found(made)
    return "\n".join([*lines, "", *found] if found else lines)


def markdown(made: Report, zone: tzinfo | None = None) -> str:
    """Return the report as Markdown, for a mail or a ticket."""
    lines = [f"# {_title(made)}", "", f"{_span(made, zone)}. {made['daemon']}.", ""]
    lines += _piped(_REPLICA_COLUMNS, [_replica_cells(each) for each in made["replicas"]])
    if made["gpus"]:
        lines += ["", *_piped(_GPU_COLUMNS, [_gpu_cells(gpu) for gpu in made["gpus"]])]
    found = _found(made)
    return "\n".join([*lines, "", *(f"- {each}" for each in found)] if found else lines)


def _replica(replica: ReplicaStatus, events: Sequence[Event], since: float, now: float) -> Report:
    own = [event for event in events if event.subject == replica["name"]]
    failures = [e for e in own if e.kind is EventKind.FAILED and e.at >= since]
    restarts = [
        e for e in own
        if e.kind is EventKind.ATTEMPT and e.evidence.get("restart") and e.at >= since
    ]  # fmt: skip
    return {
        "name": replica["name"],
        "phase": replica["phase"],
        "uptime_ratio": uptime(own, replica, since, now),
        "restarts": len(restarts),
        "failures": dict(Counter(event.reason for event in failures)),
        "reason": replica["reason"],
        "next_attempt_at": replica["next_attempt_at"],
    }


def uptime(
    events: Sequence[Event], replica: ReplicaStatus, since: float, now: float
) -> float | None:
    """Return the part of the known time in which it served (0-1), `None` when none is known."""
    up = down = 0.0
    for start, end, serving in _spans(events, replica, now):
        seconds = max(0.0, end - max(start, since))
        if serving:
            up += seconds
        else:
            down += seconds
    return up / (up + down) if up + down else None


def _spans(
    events: Sequence[Event], replica: ReplicaStatus, now: float
) -> Iterator[tuple[float, float, bool]]:
    """Yield (start, end, serving) in Unix seconds, without the times it was stopped on purpose."""
    serving: bool | None = None
    at = 0.0
    for event in events:
        known, becomes = _turn(event)
        if not known:
            continue
        if serving is not None:
            yield at, event.at, serving
        serving, at = becomes, event.at
    if serving is not None:
        yield at, now, serving
    elif replica["phase"] in ("ready", "busy") and replica["since"] is not None:
        yield replica["since"], now, True


def _turn(event: Event) -> tuple[bool, bool | None]:
    """Return whether an event changes serving, and to what; `None` is stopped on purpose."""
    match event.kind:
        case EventKind.READY:
            return True, True
        case EventKind.FAILED:
            return True, False
        case EventKind.INTENT if event.reason in ("stop", "down"):
            return True, None
        case EventKind.ATTEMPT if event.evidence.get("action") == "start":
            return True, False
    return False, None


def _gpu(gpu: GpuStatus, events: Sequence[Event], *, fresh: bool) -> Report:
    """Return a GPU with its peaks: by the hour, and of one that is partly within all of it."""
    seen: list[Mapping[str, Any]] = [e.evidence for e in events if e.subject == gpu["uuid"]]
    if fresh:
        seen += [gpu, gpu.get("peaks", {})]

    def peak(field: str) -> float | None:
        values = (told.get(field) for told in seen)
        return max((v for v in values if isinstance(v, int | float)), default=None)

    return {
        "index": gpu["index"],
        "uuid": gpu["uuid"],
        "name": gpu["name"],
        "state": gpu["state"],
        "memory_total_bytes": gpu["memory_total_bytes"],
        "peaks": {field: peak(field) for field in _PEAKS},
    }


def _title(made: Report) -> str:
    verdict = "healthy" if made["healthy"] else "NOT HEALTHY"
    simulated = " (SIMULATED)" if made["simulated"] else ""
    return f"gpuctl report: {made['profile']}{simulated}: {verdict}"


def _span(made: Report, zone: tzinfo | None) -> str:
    return f"{journal.moment(made['since'], zone)} to {journal.moment(made['at'], zone)}"


def _replica_cells(replica: Report) -> tuple[str, ...]:
    return (
        replica["name"],
        replica["phase"],
        words.share(replica["uptime_ratio"]),
        str(replica["restarts"]),
        ", ".join(f"{count}× {reason}" for reason, count in replica["failures"].items())
        or words.NONE,
    )


def _gpu_cells(gpu: Report) -> tuple[str, ...]:
    peaks = gpu["peaks"]
    return (
        str(gpu["index"]),
        gpu["name"],
        gpu["state"],
        _vram(gpu),
        words.degrees(peaks["temperature_celsius"]),
        words.share(peaks["utilization_ratio"]),
        words.watts(peaks["power_watts"]),
    )


def _vram(gpu: Report) -> str:
    """Return the highest, of how much; of a card that could not be asked, what it is."""
    peak, total = gpu["peaks"]["memory_used_bytes"], gpu["memory_total_bytes"]
    if peak is not None:
        return words.size(peak) if total is None else f"{words.size(peak)} of {words.size(total)}"
    if gpu["state"] not in ("lost", "missing"):
        return words.NONE
    return str(gpu["state"]) if total is None else f"{gpu['state']}, had {words.size(total)}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _piped(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for row in (headings, ("---",) * len(headings), *rows):
        yield f"| {' | '.join(row)} |"


def _subject(made: Report, subject: str) -> str:
    return next((f"gpu {g['index']}" for g in made["gpus"] if g["uuid"] == subject), subject)


def _found(made: Report) -> list[str]:
    """Return what is to be said in words, a line each."""
    return [
        *_unwell(made),
        *_conditions(made),
        *_elsewhere(made, "on_cpu", "on the CPU"),
        *_elsewhere(made, "cordons", "cordoned"),
        *(f"warning: {each}" for each in made["warnings"]),
    ]


def _elsewhere(made: Report, key: str, where: str) -> Iterator[str]:
    for span in made[key]:
        seconds = elsewhere.lasted(span, made["since"], made["at"])
        verb = "has been" if span["until"] is None else "was"
        subject = _subject(made, span["subject"])
        yield f"{subject} {verb} {where} for {words.age(seconds)} ({span['reason']})"


def _unwell(made: Report) -> Iterator[str]:
    for one in made["replicas"]:
        if one["phase"] not in summary.WELL:
            left = (one["next_attempt_at"] or 0.0) - made["at"]
            told = (one["reason"], f"next in {words.age(left)}" if left >= 1 else "")
            why = ", ".join(filter(None, told))
            yield f"{one['phase']}: {one['name']}" + (f": {why}" if why else "")


def _conditions(made: Report) -> list[str]:
    return [
        f"{one['state']}: {_subject(made, one['subject'])}: {one['reason']} ({one['check']}) "
        f"for {words.age(made['at'] - one['since'])}"
        for one in made["conditions"]
    ]
