"""
state.db, the journal of Events, and status.json beside it: the Store port.

One process writes (it holds the lock on the state directory), any number read. A file that is
damaged is set aside and a new one begun with the mark `cautious`, never taken for an empty past.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpuctl.errors import StoreError
from gpuctl.model import Event, EventKind

SCHEMA = 1
#: Events kept: at 16 replicas and a bad day of 8 restarts each, more than a month.
EVENTS_KEPT = 50_000
_PRUNE_EVERY = 1_000
STATUS_MODE = 0o640

_CREATE = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    at REAL NOT NULL,
    boot_id TEXT NOT NULL,
    boot_seconds REAL NOT NULL
) STRICT;
CREATE INDEX event_subject ON event (subject, id);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_COLUMNS = "id, kind, subject, reason, evidence, at, boot_id, boot_seconds"
_INSERT = (
    "INSERT INTO event (kind, subject, reason, evidence, at, boot_id, boot_seconds)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class SqliteStore:
    """The daemon's own end; *status_path* is where `publish` writes."""

    def __init__(self, path: Path, status_path: Path) -> None:
        self._path, self._status_path = path, status_path
        self._appended = 0
        with _translated(path):
            self._database, set_aside = _opened(path)
            if set_aside is not None:
                self._set("cautious", set_aside.name)
            self._prune()

    @property
    def cautious(self) -> bool:
        """True when an earlier state.db was damaged and no `up` has come since."""
        with _translated(self._path):
            row = self._database.execute("SELECT 1 FROM meta WHERE name = 'cautious'").fetchone()
            return row is not None

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        with _translated(self._path):
            with self._database:
                stored = tuple(self._inserted(event) for event in events)
            self._appended += len(stored)
            if self._appended >= _PRUNE_EVERY:
                self._prune()
        return stored

    def events(self, *, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        with _translated(self._path):
            return _select(self._database, after, limit, (), None)

    def publish(self, status: str) -> None:
        temporary = self._status_path.with_suffix(".new")
        try:
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, STATUS_MODE
            )
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(status)
            os.replace(temporary, self._status_path)
        except OSError as error:
            raise StoreError(
                f"{self._status_path}: cannot be written: {error.strerror}",
                "is the disk full, or the directory not ours?",
            ) from error

    def close(self) -> None:
        """Fold the write-ahead log back, so that a reader without write access can still read."""
        with _translated(self._path):
            self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.close()

    def _inserted(self, event: Event) -> Event:
        row = self._database.execute(
            _INSERT,
            (
                event.kind.value,
                event.subject,
                event.reason,
                json.dumps(event.evidence, separators=(",", ":"), default=dict),
                event.at,
                event.boot_id,
                event.boot_seconds,
            ),
        ).lastrowid
        if event.kind is EventKind.INTENT and event.reason == "up":
            self._database.execute("DELETE FROM meta WHERE name = 'cautious'")
        return _with_id(event, row or 0)

    def _set(self, name: str, value: str) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _prune(self) -> None:
        self._appended = 0
        with self._database:
            self._database.execute(
                "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (EVENTS_KEPT,)
            )


def read_events(
    path: Path,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Iterable[EventKind] = (),
    subject: str | None = None,
) -> tuple[Event, ...]:
    """
    Return stored Events, oldest first, from any process; the newest *limit* of those that match.

    Raises `StoreError` when there is no journal, or it cannot be read.
    """
    if not path.exists():
        raise StoreError(f"{path}: there is no journal", "`gpuctl up` begins one")
    with _translated(path):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)
        try:
            return _select(database, after, limit, tuple(kinds), subject)
        finally:
            database.close()


def _select(
    database: sqlite3.Connection,
    after: int,
    limit: int | None,
    kinds: tuple[EventKind, ...],
    subject: str | None,
) -> tuple[Event, ...]:
    where, values = ["id > ?"], [after]
    parameters: list[object] = list(values)
    if kinds:
        where.append(f"kind IN ({', '.join('?' * len(kinds))})")
        parameters += [kind.value for kind in kinds]
    if subject is not None:
        where.append("subject = ?")
        parameters.append(subject)
    query = f"SELECT {_COLUMNS} FROM event WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
    rows = database.execute(query, (*parameters, -1 if limit is None else limit)).fetchall()
    return tuple(_event(row) for row in reversed(rows))


def _event(row: tuple[int, str, str, str, str, float, str, float]) -> Event:
    id_, kind, subject, reason, evidence, at, boot_id, boot_seconds = row
    return Event(
        id=id_,
        kind=EventKind(kind),
        subject=subject,
        reason=reason,
        evidence=json.loads(evidence),
        at=at,
        boot_id=boot_id,
        boot_seconds=boot_seconds,
    )


def _with_id(event: Event, id_: int) -> Event:
    return Event(
        id=id_,
        kind=event.kind,
        subject=event.subject,
        reason=event.reason,
        evidence=event.evidence,
        at=event.at,
        boot_id=event.boot_id,
        boot_seconds=event.boot_seconds,
    )


def _opened(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Return an open database, and where a damaged one was put if there was one."""
    try:
        return _connected(path), None
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
    number = sum(1 for _ in path.parent.glob(f"{path.name}.corrupt-*")) + 1
    corrupt = path.with_name(f"{path.name}.corrupt-{number}")
    path.rename(corrupt)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _connected(path), corrupt


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # Every commit reaches the disk: an attempt must be known before it begins.
        database.execute("PRAGMA synchronous = FULL")
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.executescript(f"{_CREATE}PRAGMA user_version = {SCHEMA};")
        elif version != SCHEMA:
            raise StoreError(
                f"{path}: written by another gpuctl (schema {version}, this one knows {SCHEMA})",
                "install the newer gpuctl again",
            )
        database.execute(f"SELECT {_COLUMNS} FROM event LIMIT 1")
    except BaseException:
        database.close()
        raise
    path.chmod(STATUS_MODE)
    return database


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: {error}", "is the disk full, or the file not ours to write?"
        ) from error
