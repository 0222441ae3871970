"""
What of state.db may go, so that it stays small: the store asks at its start and now and then.

1. the log lines of all but the latest few containers of each replica
2. the oldest events, above a number and above a size, but those that memory rests on
3. at the start, the room that this left in the file
"""

from __future__ import annotations

import sqlite3

from gpuctl.adapters.sqlite.rows import Wanted, select
from gpuctl.history import REMEMBERED
from gpuctl.retention import needed

#: Events kept: at 16 replicas and a bad day of 8 restarts each, more than a month.
EVENTS_KEPT = 50_000
#: Logs kept of each replica: of a crash loop the latest tell what the earlier ones did.
LOGS_KEPT = 5
#: Bytes of events kept, above what EVENTS_KEPT take without their logs (about 300 each).
BYTES_KEPT = 64 * 1024**2
#: Room worth the rewriting of the file; less is used again soon.
FREE_BYTES = 8 * 1024**2
#: What a row takes beside its evidence.
_ROW_BYTES = 150

#: Only this kind has a log, and nothing is remembered of it.
_DROP_LOGS = """
UPDATE event SET evidence = json_remove(evidence, '$.log')
WHERE kind = 'evidence'
AND id NOT IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY subject ORDER BY id DESC) AS place
        FROM event WHERE kind = 'evidence'
    ) WHERE place <= ?
)
AND CASE WHEN json_valid(evidence) THEN json_type(evidence, '$.log') END IS NOT NULL
"""


def drop_logs(database: sqlite3.Connection) -> None:
    """Drop the log lines of all but the latest few containers of each replica."""
    with database:
        database.execute(_DROP_LOGS, (LOGS_KEPT,))


def drop_events(database: sqlite3.Connection) -> None:
    """Drop the oldest events that are too many or too large, but none that memory rests on."""
    with database:
        first, newest = database.execute("SELECT min(id), max(id) FROM event").fetchone()
        if first is None:
            return
        last = max(newest - EVENTS_KEPT, _last_too_much(database))
        if first > last:
            return
        kept = needed(select(database, Wanted(kinds=REMEMBERED)))
        old = database.execute("SELECT id FROM event WHERE id <= ?", (last,)).fetchall()
        dropped = [row for row in old if row[0] not in kept]
        database.executemany("DELETE FROM event WHERE id = ?", dropped)


def shrink(database: sqlite3.Connection) -> None:
    """Give back the room that was left, within pages too, where it is worth it."""
    size = _file_bytes(database)
    if size <= FREE_BYTES:
        return
    sizes = f"SELECT total(length(CAST(evidence AS BLOB)) + {_ROW_BYTES}) FROM event"
    if size > FREE_BYTES + 2 * database.execute(sizes).fetchone()[0]:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _last_too_much(database: sqlite3.Connection) -> int:
    """Return the newest id at which the events from the newest on are too large; 0: none."""
    if _file_bytes(database) <= BYTES_KEPT:
        return 0
    held = 0
    sizes = "SELECT id, length(CAST(evidence AS BLOB)) FROM event ORDER BY id DESC"
    for id_, size in database.execute(sizes):
        held += size + _ROW_BYTES
        if held > BYTES_KEPT:
            return int(id_)
    return 0


def _file_bytes(database: sqlite3.Connection) -> int:
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)
