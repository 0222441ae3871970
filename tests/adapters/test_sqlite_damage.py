"""Every kind of damage to state.db, and what it leads to."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuctl.adapters.sqlite import read_events
from gpuctl.adapters.sqlite.rows import Wanted, select
from gpuctl.errors import StoreError
from gpuctl.model import Event, EventKind
from tests.adapters.sqlite_bench import event_of, store_in


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip(path: Path) -> None:
    """Turn the bits of the second page's head: the root of the table of events."""
    content = bytearray(path.read_bytes())
    content[4096:4112] = bytes(byte ^ 0xFF for byte in content[4096:4112])
    path.write_bytes(content)


def _flip_text(path: Path) -> None:
    """Turn one bit within an event's evidence: the pages are sound, what they say is not."""
    content = path.read_bytes()
    assert content.count(b'{"number":"199"}') == 1
    path.write_bytes(content.replace(b'{"number":"199"}', b'{"number":"199"\xfd'))


def _flip_json(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'{"number":"199"}', b'{"number":"199"]'))


def _text(path: Path) -> None:
    path.write_text("this was a database once\n" * 400)


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _flip_text, _flip_json, _text])
def test_a_damaged_journal_is_set_aside_and_means_caution(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It is kept under another name, never taken for an empty past, until the next `up`."""
    path = tmp_path / "state.db"
    store = store_in(tmp_path)
    told = [{"number": str(number)} for number in range(200)]
    store.append([event_of(EventKind.FAILED, evidence=evidence) for evidence in told])
    store.close()
    damage(path)
    damaged = path.read_bytes()

    store = store_in(tmp_path)
    assert (tmp_path / "state.db.corrupt-1").read_bytes() == damaged
    assert (store.cautious, store.events()) == (True, ())
    store.append([event_of(EventKind.INTENT, reason="run")])
    store.close()

    store = store_in(tmp_path)
    assert store.cautious
    store.append([event_of(EventKind.INTENT, "", reason="up")])
    assert not store.cautious
    store.close()

    store = store_in(tmp_path)
    assert not store.cautious
    store.close()


@pytest.mark.parametrize("damage", [_flip_text, _flip_json])
def test_no_past_is_given_up_for_a_word_that_nothing_rests_on(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """A damaged log or condition is shown as it is; the daemon remembers what it did."""
    store = store_in(tmp_path)
    told = [{"number": str(number)} for number in range(200)]
    store.append([event_of(evidence=evidence) for evidence in told])
    store.close()
    damage(tmp_path / "state.db")
    store = store_in(tmp_path)
    assert not store.cautious
    store.close()
    found = [event.evidence for event in read_events(tmp_path / "state.db")]
    assert found[:199] == told[:199]
    assert list(found[199]) == ["damaged"]


def test_no_past_is_given_up_for_what_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is locked while it is examined is refused as it is, and read the next time."""
    store = store_in(tmp_path)
    told = store.append([event_of(EventKind.FAILED)])
    store.close()

    def locked(database: sqlite3.Connection, wanted: Wanted) -> Iterator[Event]:
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            database.execute("PRAGMA busy_timeout = 0")
            yield from select(database, wanted)

    with monkeypatch.context() as patched:
        patched.setattr("gpuctl.adapters.sqlite.store.select", locked)
        with pytest.raises(StoreError, match="database is locked"):
            store_in(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["state.db"]

    store = store_in(tmp_path)
    assert (store.cautious, store.events()) == (False, told)
    store.close()


def test_every_damaged_journal_is_kept(tmp_path: Path) -> None:
    """The second does not overwrite the first, and no log of one is taken for the next's."""
    for _ in range(2):
        (tmp_path / "state.db").write_text("no database" * 100)
        (tmp_path / "state.db-wal").write_text("its log" * 1000)
        store_in(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state.db",
        "state.db.corrupt-1",
        "state.db.corrupt-2",
    ]


def test_a_kill_between_setting_aside_and_beginning_anew_leaves_caution(tmp_path: Path) -> None:
    """A daemon that finds only the damaged file still knows that a past was lost."""
    (tmp_path / "state.db.corrupt-1").write_text("no database")
    store = store_in(tmp_path)
    assert store.cautious
    store.close()


def test_the_journal_of_a_newer_gpuctl_is_refused_untouched(tmp_path: Path) -> None:
    """Its words are not guessed at, and it is neither set aside nor written to."""
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE event (name)")
        database.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 2, this one knows 1") as refused:
        store_in(tmp_path)
    assert refused.value.hint == "install the newer gpuctl again"
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["state.db"]
