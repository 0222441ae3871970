"""
Events as text: one line each, their evidence as words. Used by `events`, `why`, `top`, `report`.

Times are shown in *zone*; `None` is the zone of whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from gpuctl.model import Event, EventKind
from gpuctl.views import words

#: Names within the machinery: of use to the daemon, noise to a reader.
_SILENT = frozenset(
    {
        *("attempt", "instance", "digest", "spec_digest", "boot_id", "seq"),
        *("worked_boot_seconds", "worked_cpu_seconds"),
    }
)

#: Evidence that is lines of a log, shown below and not in a line.
LOG = "log"

_UNITS = (
    ("_bytes", words.size),
    ("_seconds", words.lasted),
    ("_ratio", words.share),
    ("_celsius", words.degrees),
    ("_watts", words.watts),
)


def line(event: Event, zone: tzinfo | None = None, names: Mapping[str, str] | None = None) -> str:
    """
    Return one event on one line: when, about what, what, why, with which evidence.

    A GPU is called as *names* calls its UUID.
    """
    subject = named(event.subject, names or {})
    words_of_it = [f"{name} {value}" for name, value in details(event.evidence, zone)]
    if event.kind is EventKind.MOVED and not event.evidence.get("gpus"):
        words_of_it.insert(0, whither(event))  # which no list of GPUs tells
    told = ", ".join(words_of_it)
    parts = [
        moment(event.at, zone),
        f"{subject or 'everything':12}",
        f"{event.kind:10}",
        event.reason,
        f"({told})" if told else "",
    ]
    return named("  ".join(part for part in parts if part).rstrip(), names or {})


def whither(moved: Event) -> str:
    """Return where a replica was moved, in words."""
    gpus = moved.evidence.get("gpus")
    if not isinstance(gpus, tuple | list):
        return "moved back" if moved.evidence.get("home") else "taken away"
    return f"moved to {', '.join(map(str, gpus))}" if gpus else "moved to the CPU"


def named(text: str, names: Mapping[str, str]) -> str:
    """Return a text with every GPU's UUID written as *names* calls it: `gpu 3`."""
    for uuid, name in names.items():
        text = text.replace(uuid, name)
    return text


def document(event: Event) -> dict[str, Any]:
    """Return one event as `events --json` prints it."""
    return {
        "schema": 1,
        "id": event.id,
        "at": event.at,
        "kind": str(event.kind),
        "subject": event.subject,
        "reason": event.reason,
        "evidence": dict(event.evidence),
    }


def details(evidence: Mapping[str, Any], zone: tzinfo | None = None) -> Iterator[tuple[str, str]]:
    """Yield evidence as pairs of words, units written out; log lines are left out."""
    for name, value in evidence.items():
        if name in _SILENT or name == LOG or value in (None, "", (), [], {}):
            continue
        yield _detail(name, value, zone)


def log_lines(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the last lines of the container's log, oldest first."""
    lines = evidence.get(LOG) or ()
    return tuple(lines.splitlines()) if isinstance(lines, str) else tuple(map(str, lines))


def moment(at: float, zone: tzinfo | None = None) -> str:
    """Return a moment to the second, with its date."""
    return datetime.fromtimestamp(at, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _detail(name: str, value: Any, zone: tzinfo | None) -> tuple[str, str]:
    measured = isinstance(value, int | float) and not isinstance(value, bool)
    if measured and name.endswith("_at"):
        return name.removesuffix("_at").replace("_", " ") + " at", moment(value, zone)
    if measured and name == "seconds":
        return "took", words.lasted(value)
    for suffix, write in _UNITS:
        if measured and name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " "), write(value)
    return name.replace("_", " "), _plain(name, value, zone)


def _plain(name: str, value: Any, zone: tzinfo | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(" ".join(_detail(str(key), item, zone)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(name, item, zone) for item in value)
    # Docker's own short form of an id is twelve digits.
    return str(value)[:12] if name == "container" else str(value)
