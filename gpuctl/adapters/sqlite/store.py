"""
state.db, the journal of Events, and status.json beside it: the Store port.

One process writes (it holds the lock on the state directory), any number read. A file that is
damaged is set aside and a new one begun with the mark `cautious`, never taken for an empty past.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from gpuctl.adapters.sqlite.pruning import drop_events, drop_logs, shrink
from gpuctl.adapters.sqlite.rows import Wanted, insert, select, translated
from gpuctl.errors import StoreError
from gpuctl.history import REMEMBERED
from gpuctl.model import Event, EventKind

SCHEMA = 1
#: After so many events what may go is dropped, after so many bytes of them logs alone.
_PRUNE_EVENTS, _PRUNE_BYTES = 1_000, 8 * 1024**2
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
_WRITING = "is the disk full, or the file not ours to write?"


class SqliteStore:
    """The daemon's own end; *status_path* is where `publish` writes."""

    def __init__(self, path: Path, status_path: Path) -> None:
        self._path, self._status_path = path, status_path
        self._one_at_a_time = threading.Lock()  # a connection has one transaction
        self._appended, self._appended_bytes = 0, 0
        with translated(path, _WRITING):
            self._database = _opened(path)
            self._tidy(drop_logs, drop_events, shrink)

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
            if self._appended >= _PRUNE_EVENTS:
                self._tidy(drop_logs, drop_events)
            elif self._appended_bytes >= _PRUNE_BYTES:
                self._tidy(drop_logs)
        return stored

    def events(self, *, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        with self._using():
            return tuple(select(self._database, Wanted(after=after, limit=limit)))

    def remembered(self) -> Iterator[Event]:
        """Yield the events that memory is made of, oldest first; few of them are held at once."""
        found = select(self._database, Wanted(kinds=REMEMBERED))
        while True:
            with self._using():
                event = next(found, None)
            if event is None:
                return
            yield event

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
        with self._one_at_a_time, translated(self._path, _WRITING):
            yield

    def _inserted(self, event: Event) -> Event:
        id_, size = insert(self._database, event)
        self._appended_bytes += size
        if event.kind is EventKind.INTENT and event.reason == "up":
            self._database.execute("DELETE FROM meta WHERE name = 'cautious'")
        return replace(event, id=id_)

    def _tidy(self, *steps: Callable[[sqlite3.Connection], None]) -> None:
        """Make it smaller; what prevents it now leaves it as it is until the next time."""
        self._appended_bytes = 0
        if drop_events in steps:
            self._appended = 0
        for step in steps:
            with suppress(sqlite3.Error):
                step(self._database)


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
        database.execute(f"PRAGMA journal_size_limit = {_PRUNE_BYTES}")
        if version == 0:
            # Level-triggered: a kill after the damaged file was put aside forgets nothing.
            lost = any(path.parent.glob(f"{path.name}.corrupt-*"))
            database.executescript(_CREATE.format(meta=_CAUTIOUS * lost, schema=SCHEMA))
    except BaseException:
        database.close()
        raise
    return database


def _examine(database: sqlite3.Connection) -> None:
    """
    Raise `DatabaseError` for what is damaged: a page, or words that memory is made of.

    A past is not given up for the others: they are for people. Nor is it for what may pass, a
    lock or a disk that cannot be read: those are `OperationalError`, as everywhere.
    """
    if (found := database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
        raise sqlite3.DatabaseError(f"quick_check: {found[0]}")
    try:
        for _ in select(database, Wanted(kinds=REMEMBERED)):
            pass
    except sqlite3.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):  # SQLite's own: damage is no OperationalError there
            raise
        # The module's own, which has no code: text that is not UTF-8.
        raise sqlite3.DatabaseError(str(error)) from error
