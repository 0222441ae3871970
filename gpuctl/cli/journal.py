"""`events` and `why`: the journal, as it is and as a story."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuctl import fast_status, printable
from gpuctl.cli import compose
from gpuctl.cli.session import Session, show
from gpuctl.errors import NotFound, UsageError

if TYPE_CHECKING:
    from gpuctl.model import Event
    from gpuctl.model.status import Status

#: An event is on the screen within this.
_EVERY_SECONDS = 0.5
#: The last thing done is among so many: a condition that comes and goes is told again and again.
_CHAIN_EVENTS = 2_000
#: What has events.
_KINDS = "replica, workload or GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events."""

    subject: str | None = None
    since: str | None = None  # such as "24h"
    kinds: tuple[str, ...] = ()
    tail: int | None = None  # only the newest
    after: int = 0  # only ids above this


def events(session: Session, wanted: Wanted, *, as_json: bool, follow: bool) -> None:
    """Print events, oldest first; with *follow*, go on until interrupted."""
    from gpuctl.views import journal

    names = _gpu_names(session)
    if wanted.subject and not follow:
        _heard_of(session, wanted.subject)
    while True:
        for event in read(session, wanted):
            line = printable.line(journal.line(event, names=names))
            show(json.dumps(journal.document(event)) if as_json else line, flush=follow)
            wanted = replace(wanted, after=event.id)
        if not follow:
            return
        wanted = replace(wanted, tail=None)
        time.sleep(_EVERY_SECONDS)


def read(session: Session, wanted: Wanted) -> Iterator[Event]:
    """Yield the events wanted, oldest first. Raises `StoreError`, `UsageError`."""
    start = since(session, wanted.since) if wanted.since else 0.0
    return compose.stream(
        session,
        after=wanted.after,
        limit=wanted.tail,
        kinds=kinds(wanted.kinds),
        subjects=(uuid(session, wanted.subject),) if wanted.subject else (),
        since=start,
    )


def since(session: Session, text: str) -> float:
    """Return the Unix seconds that `24h` ago was. Raises `UsageError`."""
    from gpuctl.quantities import parse_seconds

    try:
        return session.now() - parse_seconds(text)
    except ValueError as error:
        what = str(error).partition("; ")[0]
        raise UsageError(f"--since: {what}", "write it as 90m, 24h or 1h30m") from None


def kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds asked for. Raises `UsageError` for one that does not exist."""
    from gpuctl.model import EventKind

    known = [str(kind) for kind in EventKind]
    for name in names:
        if name not in known:
            raise UsageError(f"--kind: there is no kind {name!r}", f"one of {', '.join(known)}")
    return names


def why(session: Session, subject: str) -> None:
    """Print the chain behind the last thing done to a replica or GPU, then what is wrong now."""
    from gpuctl.views import chain, journal

    name = uuid(session, subject)
    concerned = {name, *_above(session, name), *_beside(session, name)}
    found = tuple(compose.stream(session, subjects=concerned, limit=_CHAIN_EVENTS))
    if not any(event.subject == name for event in found):
        _known(session, subject, name)
    names = _gpu_names(session)
    for line in chain.lines(name, chain.last(found, name)):
        show(journal.named(line, names))
    status = _status(session)
    if status is not None and fast_status.alive(status):
        for line in chain.present(name, status, session.now()):
            show(journal.named(line, names))


def uuid(session: Session, subject: str) -> str:
    """Return the UUID when *subject* names a GPU (`3`, `gpu3`), else the subject itself."""
    index = subject.lower().removeprefix("gpu").strip("- ")
    status = _status(session)
    if status is None or not index.isdigit():
        return subject
    return next((g["uuid"] for g in status["gpus"] if g["index"] == int(index)), subject)


def _gpu_names(session: Session) -> dict[str, str]:
    status = _status(session)
    return {gpu["uuid"]: f"gpu {gpu['index']}" for gpu in status["gpus"]} if status else {}


def _above(session: Session, name: str) -> tuple[str, ...]:
    """Return the subjects of Intents that concern a replica too: its workload, and everything."""
    status = _status(session)
    replicas = status["replicas"] if status else []
    return next(((r["workload"], "") for r in replicas if r["name"] == name), ())


def _beside(session: Session, name: str) -> set[str]:
    """Return the GPUs that a replica was last moved from, or the replicas moved from a GPU."""
    told = {e.subject: e for e in compose.events(session, kinds=("moved",), limit=_CHAIN_EVENTS)}
    left = {
        replica: {str(uuid) for uuid in event.evidence.get("from", ())}  # type: ignore[union-attr]
        for replica, event in told.items()
    }
    return left.get(name, {replica for replica, uuids in left.items() if name in uuids})


def _heard_of(session: Session, subject: str) -> None:
    """Refuse a name that has no events and is none here either. Raises `NotFound`."""
    from gpuctl.cli import intents

    name, status = uuid(session, subject), _status(session)
    if status is None or name in {gpu["uuid"] for gpu in status["gpus"]}:
        return
    if not compose.events(session, subject=name, limit=1):
        intents.subjects(status, subject, _KINDS)


def _known(session: Session, subject: str, name: str) -> None:
    from gpuctl.cli import intents

    status = _status(session)
    if status is None or name in {gpu["uuid"] for gpu in status["gpus"]}:
        return
    names = intents.subjects(status, subject, _KINDS)
    if names != frozenset({subject}):
        raise NotFound(
            f"{subject!r} is a workload of several replicas",
            f"ask for one: {', '.join(sorted(names))}",
        )


def _status(session: Session) -> Status | None:
    from gpuctl.errors import GpuctlError

    try:
        return session.status()
    except GpuctlError:
        return None
