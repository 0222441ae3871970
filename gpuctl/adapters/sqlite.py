"""
state.db, the journal of Events, and status.json beside it: the Store port.

One process writes (it holds the lock on the state directory), any number read. A file that is
damaged is set aside and a new one begun with the mark `cautious`, never taken for an empty past.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from gpuctl.errors import NothingStored, StoreError
from gpuctl.history import REMEMBERED
from gpuctl.model import Event, EventKind
from gpuctl.retention import needed

SCHEMA = 1
#: Events kept: at 16 replicas and a bad day of 8 restarts each, more than a month.
EVENTS_KEPT = 50_000
_PRUNE_EVERY = 1_000
#: Of both files: the group gpuctl reads them.
MODE = 0o640

_CREATE = """
BEGIN;
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
{meta}
PRAGMA user_version = {schema};
COMMIT;
"""
_CAUTIOUS = "INSERT INTO meta VALUES ('cautious', 'until the next up');"
_COLUMNS = "id, kind, subject, reason, evidence, at, boot_id, boot_seconds"
_INSERT = (
    "INSERT INTO event (kind, subject, reason, evidence, at, boot_id, boot_seconds)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_WRITING = "is the disk full, or the file not ours to write?"
_READING = (
    "read it as root or as a member of the group gpuctl;"
    " a damaged one is set aside when the daemon starts"
)


class SqliteStore:
    """The daemon's own end; *status_path* is where `publish` writes."""

    def __init__(self, path: Path, status_path: Path) -> None:
        self._path, self._status_path = path, status_path
        self._one_at_a_time = threading.Lock()  # a connection has one transaction
        self._appended = 0
        with _translated(path, _WRITING):
            self._database = _opened(path)
            self._prune()

    @property
    def cautious(self) -> bool:
        """True when an earlier state.db was damaged and no `up` has come since."""
        with self._using():
            row = self._database.execute("SELECT 1 FROM meta WHERE name = 'cautious'").fetchone()
            return row is not None

    def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        with self._using():
            with self._database:
                stored = tuple(self._inserted(event) for event in events)
            self._appended += len(stored)
            if self._appended >= _PRUNE_EVERY:
                self._prune()
        return stored

    def events(self, *, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        with self._using():
            return _select(self._database, after, limit, (), None)

    def publish(self, status: str) -> None:
        temporary = self._status_path.with_suffix(".new")
        try:
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE
            )
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, MODE)  # whatever the umask
                file.write(status)
            os.replace(temporary, self._status_path)
        except OSError as error:
            raise StoreError(
                f"{self._status_path}: cannot be written: {error.strerror}",
                "is the disk full, or the directory not ours?",
            ) from error

    def close(self) -> None:
        """Fold the write-ahead log back, so that a reader without write access can still read."""
        with self._using():
            try:
                # Refused while somebody reads: then it stays in WAL mode, which harms no data.
                with suppress(sqlite3.OperationalError):
                    self._database.execute("PRAGMA journal_mode = DELETE")
            finally:
                self._database.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._one_at_a_time, _translated(self._path, _WRITING):
            yield

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
        return replace(event, id=row or 0)

    def _prune(self) -> None:
        """
        Drop the oldest events but those that memory rests on, however long ago they were.

        What prevents it now leaves them until the next time.
        """
        self._appended = 0
        with suppress(sqlite3.Error), self._database:
            ids = self._database.execute("SELECT min(id), max(id) - ? FROM event", (EVENTS_KEPT,))
            first, last = ids.fetchone()
            if first is None or first > last:
                return
            kept = needed(_select(self._database, 0, None, tuple(REMEMBERED), None))
            old = self._database.execute("SELECT id FROM event WHERE id <= ?", (last,)).fetchall()
            dropped = [row for row in old if row[0] not in kept]
            self._database.executemany("DELETE FROM event WHERE id = ?", dropped)


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

    Raises `NothingStored` when there is no journal, `StoreError` when it cannot be read.
    """
    with _translated(path, _READING):
        if not path.exists():
            raise NothingStored(f"{path}: there is no journal", "`gpuctl up` begins one")
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
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
    # Of the kinds known here: a newer gpuctl may have stored others.
    asked = [kind.value for kind in kinds or EventKind]
    where = ["id > ?", f"kind IN ({', '.join('?' * len(asked))})"]
    parameters: list[object] = [after, *asked]
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
        evidence=_evidence(evidence),
        at=at,
        boot_id=boot_id,
        boot_seconds=boot_seconds,
    )


def _evidence(text: str) -> Any:
    """Return evidence as it was before JSON made lists of its tuples."""
    try:
        told = json.loads(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"damaged evidence: {error}") from error
    return _with_tuples(told) if "[" in text else told


def _with_tuples(value: Any) -> Any:
    match value:
        case list():
            return tuple(_with_tuples(item) for item in value)
        case dict():
            return {name: _with_tuples(item) for name, item in value.items()}
    return value


def _opened(path: Path) -> sqlite3.Connection:
    """Return an open database; a damaged one is put aside first and a new one begun."""
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
    aside = next(
        name
        for number in count(1)
        if not (name := path.with_name(f"{path.name}.corrupt-{number}")).exists()
    )
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
    elif path.stat().st_size == 0:
        raise sqlite3.DatabaseError("it is empty")
    database = sqlite3.connect(path, timeout=2.0, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA):
            raise StoreError(
                f"{path}: written by another gpuctl (schema {version}, this one knows {SCHEMA})",
                "install the newer gpuctl again",
            )
        if version == SCHEMA:
            _examine(database)
        path.chmod(MODE)  # before SQLite makes the write-ahead log, which takes it over
        database.execute("PRAGMA journal_mode = WAL")
        # Every commit reaches the disk: an attempt must be known before it begins.
        database.execute("PRAGMA synchronous = FULL")
        if version == 0:
            # Level-triggered: a kill after the damaged file was put aside forgets nothing.
            lost = any(path.parent.glob(f"{path.name}.corrupt-*"))
            database.executescript(_CREATE.format(meta=_CAUTIOUS * lost, schema=SCHEMA))
    except BaseException:
        database.close()
        raise
    return database


def _examine(database: sqlite3.Connection) -> None:
    """Raise `DatabaseError` for what is damaged: a page, or the words on one."""
    if (found := database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
        raise sqlite3.DatabaseError(f"quick_check: {found[0]}")
    try:
        for (evidence,) in database.execute("SELECT evidence FROM event"):
            _evidence(evidence)
    except sqlite3.OperationalError as error:  # text that is not UTF-8
        raise sqlite3.DatabaseError(str(error)) from error


@contextmanager
def _translated(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}", hint) from error
