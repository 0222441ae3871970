"""Events as rows: how they come back, and which of them a reader asks for."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore, Wanted, read_events, stream_events
from gpuctl.model import EventKind
from tests.adapters.sqlite_bench import event_of, ids, store, store_in
from tests.make import AT

__all__ = ["store"]


def test_events_come_back_as_they_were_stored(store: SqliteStore) -> None:
    """Every field survives, evidence to its last nested tuple, and the ids count from 1."""
    events = [
        event_of(EventKind.INTENT, "chat", reason="stop", evidence={"uid": 0, "pid": None}),
        event_of(
            EventKind.EVIDENCE,
            evidence={"log": ("a\n", "ü\x00"), "left": {"codes": (1, (2.5, True))}, "none": ()},
            at=AT + 0.125,
            boot_id="boot-2",
            boot_seconds=0.5,
        ),
    ]
    stored = store.append(events)
    assert stored == tuple(replace(event, id=n) for n, event in enumerate(events, start=1))
    assert store.events() == stored


def test_nothing_appended_is_nothing_stored(store: SqliteStore) -> None:
    """An empty batch is no error and leaves no row."""
    assert store.append([]) == ()
    assert store.events() == ()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        pytest.param({}, [1, 2, 3, 4, 5, 6], id="all, oldest first"),
        pytest.param({"after": 4}, [5, 6], id="after an id"),
        pytest.param({"after": 6}, [], id="after the last"),
        pytest.param({"limit": 2}, [5, 6], id="the newest, oldest first"),
        pytest.param({"limit": 0}, [], id="none asked for"),
        pytest.param({"after": 2, "limit": 3}, [4, 5, 6], id="the newest of those after an id"),
        pytest.param({"subject": "chat-1"}, [2, 4, 6], id="of one subject"),
        pytest.param({"kinds": [EventKind.FAILED]}, [3, 4], id="of one kind"),
        pytest.param(
            {"kinds": [EventKind.FAILED, EventKind.READY], "subject": "chat-0", "limit": 1},
            [5],
            id="the newest of what matches all",
        ),
    ],
)
def test_a_reader_asks_for_some_events(
    tmp_path: Path, store: SqliteStore, arguments: dict[str, Any], found: list[int]
) -> None:
    """Filters are joined by and; `limit` counts after they have been applied."""
    kinds = (EventKind.CONDITION, EventKind.FAILED, EventKind.READY)
    store.append([event_of(kind, subject) for kind in kinds for subject in ("chat-0", "chat-1")])
    assert ids(read_events(tmp_path / "state.db", **arguments)) == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param(Wanted(), [*range(1, 1201)], id="over many pages"),
        pytest.param(Wanted(limit=700), [*range(501, 1201)], id="the newest, over two pages"),
        pytest.param(Wanted(since=AT + 1190), [*range(1190, 1201)], id="since a moment"),
        pytest.param(
            Wanted(subjects=("chat-0", "chat-1"), limit=3), [1196, 1199, 1200], id="of some"
        ),
    ],
)
def test_any_number_of_events_is_read_a_few_at_a_time(
    tmp_path: Path, store: SqliteStore, wanted: Wanted, found: list[int]
) -> None:
    """Who stops half-way, at a pager, does not keep the write-ahead log from being emptied."""
    names = ("chat-0", "chat-2", "chat-2", "chat-1")
    store.append([event_of(subject=names[n % 4], at=AT + n) for n in range(1, 1201)])
    reader = stream_events(tmp_path / "state.db", wanted)
    first = next(reader)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert ids([first, *reader]) == found


def test_an_event_of_a_kind_not_known_here_is_passed_over(tmp_path: Path) -> None:
    """A newer gpuctl of the same schema may have stored more kinds; the others still count."""
    store = store_in(tmp_path)
    store.append([event_of(), event_of(EventKind.READY)])
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE event SET kind = 'teleported' WHERE id = 1")
    store = store_in(tmp_path)
    assert (store.cautious, ids(store.events()), ids(store.events(limit=1))) == (False, [2], [2])
    store.close()
