"""
Rows of state.db ↔ Events, for the daemon that writes them and for any process that reads.

Rows are read a few at a time: a journal may be larger than what a daemon may hold.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuctl.errors import NothingStored, StoreError
from gpuctl.history import REMEMBERED
from gpuctl.model import Event, EventKind

#: Evidence is read as bytes: of text that is damaged SQLite gives nothing at all.
_COLUMNS = "id, kind, subject, reason, CAST(evidence AS BLOB), at, boot_id, boot_seconds"
_INSERT = (
    "INSERT INTO event (kind, subject, reason, evidence, at, boot_id, boot_seconds)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PAGE_EVENTS = 500
_READING = (
    "read it as root or as a member of the group gpuctl;"
    " a damaged one is set aside when the daemon starts"
)


def insert(database: sqlite3.Connection, event: Event) -> tuple[int, int]:
    """Store an Event; return its id and about how many bytes it takes."""
    evidence = json.dumps(event.evidence, separators=(",", ":"), default=dict)
    row = database.execute(
        _INSERT,
        (
            event.kind.value,
            event.subject,
            event.reason,
            evidence,
            event.at,
            event.boot_id,
            event.boot_seconds,
        ),
    ).lastrowid
    return row or 0, len(evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events; the newest *limit* of those that match all the rest."""

    after: int = 0  # ids above this
    limit: int | None = None
    kinds: Collection[EventKind] = ()  # none: all of them
    subjects: Collection[str] = ()  # likewise
    since: float = 0.0  # Unix seconds


def select(database: sqlite3.Connection, wanted: Wanted) -> Iterator[Event]:
    """
    Yield Events, oldest first, as they are asked for.

    They are read in pages: a reader that pauses keeps no transaction open, which would keep the
    write-ahead log from being folded back.
    """
    after = _last_before(database, wanted)
    while True:
        where, parameters = _conditions(replace(wanted, after=after))
        query = f"SELECT {_COLUMNS} FROM event WHERE {where} ORDER BY id LIMIT {_PAGE_EVENTS}"
        page = tuple(map(_event, database.execute(query, parameters)))
        yield from page
        if len(page) < _PAGE_EVENTS:
            return
        after = page[-1].id


def _last_before(database: sqlite3.Connection, wanted: Wanted) -> int:
    """Return the id after which there are no more than *limit* that match."""
    if wanted.limit is None:
        return wanted.after
    where, parameters = _conditions(wanted)
    query = f"SELECT id FROM event WHERE {where} ORDER BY id DESC LIMIT 1 OFFSET ?"
    found = database.execute(query, (*parameters, wanted.limit)).fetchone()
    return int(found[0]) if found else wanted.after


def _conditions(wanted: Wanted) -> tuple[str, tuple[object, ...]]:
    # Of the kinds known here: a newer gpuctl may have stored others.
    kinds = [kind.value for kind in wanted.kinds or EventKind]
    where = ["id > ?", f"kind IN ({', '.join('?' * len(kinds))})", "at >= ?"]
    parameters = (wanted.after, *kinds, wanted.since, *wanted.subjects)
    if wanted.subjects:
        where.append(f"subject IN ({', '.join('?' * len(wanted.subjects))})")
    return " AND ".join(where), parameters


def stream_events(path: Path, wanted: Wanted) -> Iterator[Event]:
    """
    Yield stored Events as `select` does, from any process.

    Raises `NothingStored` when there is no journal, `StoreError` when it cannot be read.
    """
    with translated(path, _READING):
        if not path.exists():
            raise NothingStored(f"{path}: there is no journal", "`gpuctl up` begins one")
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as database:
            yield from select(database, wanted)


def read_events(
    path: Path,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Collection[EventKind] = (),
    subject: str | None = None,
) -> tuple[Event, ...]:
    """
    Return stored Events, oldest first; the newest *limit* of those that match.

    Raises `NothingStored` when there is no journal, `StoreError` when it cannot be read.
    """
    subjects = () if subject is None else (subject,)
    wanted = Wanted(after=after, limit=limit, kinds=kinds, subjects=subjects)
    return tuple(stream_events(path, wanted))


def evidence(text: bytes) -> Any:
    """
    Return evidence as it was before JSON made lists of its tuples.

    Raises `DatabaseError` for what is damaged.
    """
    try:
        told = json.loads(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"damaged evidence: {error}") from error
    return _with_tuples(told) if b"[" in text else told


@contextmanager
def translated(path: Path, hint: str) -> Iterator[None]:
    """Turn what SQLite or the file system says into words for an operator."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}", hint) from error


def _event(row: tuple[int, str, str, str, bytes, float, str, float]) -> Event:
    id_, kind, subject, reason, told, at, boot_id, boot_seconds = row
    return Event(
        id=id_,
        kind=EventKind(kind),
        subject=subject,
        reason=reason,
        evidence=_read(EventKind(kind), told),
        at=at,
        boot_id=boot_id,
        boot_seconds=boot_seconds,
    )


def _read(kind: EventKind, told: bytes) -> Any:
    """Return an Event's evidence; of those that no decision rests on, a damaged one as text."""
    if kind in REMEMBERED:
        return evidence(told)
    try:
        return evidence(told)
    except sqlite3.DatabaseError:
        return {"damaged": told.decode("utf-8", "replace")}


def _with_tuples(value: Any) -> Any:
    match value:
        case list():
            return tuple(_with_tuples(item) for item in value)
        case dict():
            return {name: _with_tuples(item) for name, item in value.items()}
    return value
