"""What `up`, `down` and the intents show while they wait: a live table, or lines of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpuctl.model.status import ReplicaStatus, Status
from gpuctl.views import summary, words
from gpuctl.views.tables import PHASE_STYLES, Columns, styled

_STYLES: Mapping[str, str] = PHASE_STYLES


def live(status: Status, now: float, elapsed_seconds: float) -> Group:
    """Return the replicas with their phases, and a bar of how many are as they should be."""
    made = Columns("replica", "gpu", "phase", "for>", "why", spare=("gpu",), wrap=False)
    for replica in status["replicas"]:
        made.add_row(
            replica["name"],
            summary.names(replica),
            styled(replica["phase"], _STYLES),
            _since(replica, now),
            summary.why(replica, now),
        )
    return Group(made, Text(), _bar(status, elapsed_seconds))


def changes(before: Status | None, after: Status, elapsed_seconds: float) -> Iterator[str]:
    """Yield one line for each replica whose phase or reason is new, for a log."""
    known = {replica["name"]: told(replica) for replica in before["replicas"]} if before else {}
    for replica in after["replicas"]:
        if known.get(replica["name"]) != (now := told(replica)):
            yield f"{words.age(elapsed_seconds):>8}  {now}"


def trouble(replica: ReplicaStatus, reason: str, log: tuple[str, ...]) -> Iterator[str]:
    """Yield what a replica failed of, its last words, and what to do."""
    yield f"{replica['name']}: {replica['phase']}: {reason or replica['reason'] or 'no reason yet'}"
    yield from (f"    | {text}" for text in log[-10:])
    yield f"    see `gpuctl why {replica['name']}` and `gpuctl logs {replica['name']} --previous`"


def _bar(status: Status, elapsed_seconds: float) -> Table:
    well = sum(summary.well(replica) for replica in status["replicas"])
    total = len(status["replicas"])
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total=max(1, total), completed=well, width=30),
        f"{well} of {total}",
        words.age(elapsed_seconds),
    )
    return row


def told(replica: ReplicaStatus) -> str:
    """Return how a replica is, in few words: `chat-1: backoff (killed)`."""
    told = ", ".join(part for part in (summary.stage(replica), replica["reason"]) if part)
    return f"{replica['name']}: {replica['phase']}" + (f" ({told})" if told else "")


def _since(replica: ReplicaStatus, now: float) -> str:
    since = replica["since"]
    return words.age(None if since is None else now - since)
