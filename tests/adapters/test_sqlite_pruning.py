"""What is dropped from a journal that has grown, and what memory rests on."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore, pruning
from gpuctl.adapters.sqlite import store as store_module
from gpuctl.history import REMEMBERED, History, fold, remember
from gpuctl.model import Event, EventKind
from tests import make
from tests.adapters.sqlite_bench import event_of, every_kind, ids, store, store_in
from tests.make import AT, BOOT, NOW

__all__ = ["store"]


def test_the_oldest_events_are_dropped_and_every_intent_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `stop` of long ago still holds after a restart, however much has happened since."""
    monkeypatch.setattr(pruning, "EVENTS_KEPT", 1500)
    store = store_in(tmp_path)
    store.append([event_of(), event_of(EventKind.INTENT, "chat-1", reason="stop"), event_of()])
    for _ in range(4):
        store.append([event_of()] * 1000)
    kept = ids(store.events())
    store.close()
    assert kept == [2, *range(4003 - 1500 + 1, 4003 + 1)]


def test_a_container_that_lives_long_is_known_however_much_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start, its READY and its baseline are kept, and what is remembered is the same."""
    monkeypatch.setattr(pruning, "EVENTS_KEPT", 1500)
    lived = [*make.served(), make.event("baseline", container="c1", vram_bytes=2**30)]
    store, live = store_in(tmp_path), History()
    for batch in (lived, *[[event_of()] * 1000] * 4):
        for stored in store.append(batch):
            live = fold(live, stored)
    kept = store.events()
    store.close()
    assert ids(kept) == [1, 2, 3, 4, *range(4004 - 1500 + 1, 4004 + 1)]
    told = remember(kept, boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=False)
    assert told == live


def _lives(count: int, log: Sequence[str], replicas: int = 4) -> Iterator[list[Event]]:
    """Yield the events of *count* restarts of each of some replicas, with what was left of each."""
    for number in range(count):
        for index in range(replicas):
            name, at = f"chat-{index}", NOW + number
            attempt: dict[str, Any] = {"attempt": f"{number}", "container": f"c{number}"}
            yield [
                make.failed(name, f"c{number - 1}", at=at, failures=number % 9 + 1),
                make.event("attempt", name, "exit_1", at, action="start", restart=True, **attempt),
                make.event("evidence", name, "exit_1", at, container=f"c{number}", log=log),
                make.event("done", name, "exit_1", at, action="start", **attempt),
                make.event("ready", name, at=at, container=f"c{number}"),
            ]


def _remembered(store: SqliteStore) -> History:
    return remember(
        store.remembered(), boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=store.cautious
    )


def test_the_logs_of_the_latest_few_lives_are_kept(tmp_path: Path) -> None:
    """Of each replica the latest tell what the earlier ones did; the rest of those stays."""
    store = store_in(tmp_path)
    store.append([event for life in _lives(8, ("last words",)) for event in life])
    store.close()
    store = store_in(tmp_path)
    left = [event for event in store.events() if event.kind is EventKind.EVIDENCE]
    store.close()
    assert len(left) == 32
    kept = [event.evidence["container"] for event in left if event.evidence.get("log")]
    assert kept == [f"c{number}" for number in range(3, 8) for _ in range(4)]
    assert left[0].evidence == {"container": "c0"}


def test_memory_is_read_without_what_nothing_rests_on(store: SqliteStore) -> None:
    """What is remembered of all events is remembered of these."""
    store.append(every_kind())
    found = tuple(store.remembered())
    assert {event.kind for event in found} == REMEMBERED
    everything = remember(
        store.events(), boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=store.cautious
    )
    assert _remembered(store) == everything


def test_the_journal_of_many_crash_loops_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    4,000 failures with 200 lines each are remembered when they have been pruned as before.

    The file, and what a daemon holds when it has opened it, stay far below the unit's MemoryMax.
    """
    monkeypatch.setattr(store_module, "_PRUNE_EVENTS", 2_000)
    store, live = store_in(tmp_path), History()
    lives = _lives(1_000, ("x" * 100,) * 200)
    while lived := list(islice(lives, 100)):
        for stored in store.append([event for life in lived for event in (life[0], life[2])]):
            live = fold(live, stored)
    assert _remembered(store) == live
    store.close()
    assert (tmp_path / "state.db").stat().st_size < 64 * 1024**2
    assert _remembered_after_opening(tmp_path) == live
    assert (tmp_path / "state.db").stat().st_size < 32 * 1024**2


def test_an_old_journal_of_any_size_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was never pruned is smaller once it was opened, and opening it takes no memory."""
    monkeypatch.setattr(store_module, "_PRUNE_EVENTS", math.inf)
    monkeypatch.setattr(store_module, "_PRUNE_BYTES", 2**40)
    store = store_in(tmp_path)
    store.append([event for life in _lives(250, ("x" * 100,) * 200) for event in life])
    before = _remembered(store)
    store.close()
    assert (tmp_path / "state.db").stat().st_size > 20 * 1000**2
    assert _remembered_after_opening(tmp_path) == before
    assert (tmp_path / "state.db").stat().st_size < 4 * 1000**2


def _remembered_after_opening(directory: Path) -> History:
    """Return what a daemon remembers that opens this journal, in little memory."""
    tracemalloc.start()
    try:
        store = store_in(directory)
        found = _remembered(store)
        store.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 0.8 MiB were measured; all events at once would take 4 MiB and more.
    assert peak < 2 * 1024**2
    return found


def test_too_many_bytes_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has grown large: the oldest go, but not what memory rests on."""
    monkeypatch.setattr(pruning, "BYTES_KEPT", 1024**2)
    store = store_in(tmp_path)
    store.append(make.served())
    before = _remembered(store)
    for _ in range(4):
        store.append([event_of(evidence={"told": "x" * 1000})] * 1000)
    kept = ids(store.events())
    assert kept[:3] == [1, 2, 3]
    assert 800 < len(kept) < 1000
    assert kept[-1] == 4003
    assert _remembered(store) == before
    store.close()


def test_events_that_cannot_be_dropped_do_not_fail_the_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    """What was stored was stored: a caller that is told otherwise would store it twice."""
    monkeypatch.setattr(pruning, "EVENTS_KEPT", 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute(
            "CREATE TRIGGER kept BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'kept'); END"
        )
    assert len(store.append([event_of()] * 1000)) == 1000
    assert len(store.events()) == 1000
