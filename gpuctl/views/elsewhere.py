"""
How long replicas were on the CPU, and GPUs cordoned: Events in, spans out, for the report.

A span without an end goes on. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gpuctl.model import Event, EventKind

Span = dict[str, Any]


def on_cpu(events: Sequence[Event], since: float) -> list[Span]:
    """Return when each replica ran on the CPU for want of a GPU, as far as after *since*."""
    return _spans((e for e in events if e.kind is EventKind.MOVED), _to_cpu, since)


def cordoned(events: Sequence[Event], since: float) -> list[Span]:
    """Return when each GPU was cordoned, by whomever, as far as after *since*."""
    told = (e for e in events if e.kind is EventKind.CORDONED or _asked(e))
    return _spans(told, lambda e: e.reason != "uncordon", since)


def lasted(span: Span, since: float, now: float) -> float:
    """Return how many seconds of a span lie between *since* and *now*."""
    end = now if span["until"] is None else span["until"]
    return float(max(0.0, end - max(span["since"], since)))


def _to_cpu(event: Event) -> bool:
    gpus = event.evidence.get("gpus")
    # What `scale` puts on the CPU belongs there.
    return isinstance(gpus, tuple | list) and not gpus and event.reason != "scaled"


def _asked(event: Event) -> bool:
    return event.kind is EventKind.INTENT and event.reason in ("cordon", "uncordon")


def _spans(events: Iterator[Event], begins: Any, since: float) -> list[Span]:
    spans: list[Span] = []
    under_way: dict[str, Span] = {}
    for event in events:
        if begins(event):
            if event.subject not in under_way:
                reason = "operator" if _asked(event) else event.reason
                span = {"subject": event.subject, "reason": reason, "since": event.at}
                under_way[event.subject] = span | {"until": None}
                spans.append(under_way[event.subject])
        elif event.subject in under_way:
            under_way.pop(event.subject)["until"] = event.at
    return [span for span in spans if span["until"] is None or span["until"] > since]
