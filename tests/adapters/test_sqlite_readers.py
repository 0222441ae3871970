"""Who reads the journal beside its writer, with no leave to write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.adapters.sqlite import read_events
from gpuctl.errors import StoreError
from tests.adapters.sqlite_bench import event_of, ids, store_in, writing


def test_a_reader_in_another_process_sees_whole_batches_while_one_writes(tmp_path: Path) -> None:
    """Readers never wait for the writer, never block it, and see each transaction whole."""
    with writing(tmp_path, 300) as told:
        told.readline()
        seen = [len(read_events(tmp_path / "state.db")) for _ in range(60)]
        rest = told.read().split()
    assert rest[-1] == "600"
    assert seen == sorted(seen)
    assert all(count % 2 == 0 for count in seen)
    assert len(read_events(tmp_path / "state.db")) == 600


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user can look into; a test's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-test-") as made:
        yield Path(made)


@contextlib.contextmanager
def _without_write_permission(directory: Path) -> Iterator[None]:
    """Look at a directory as one who may only read it; root must become somebody else."""
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


def test_a_closed_journal_needs_no_write_permission(shared: Path) -> None:
    """After a clean close it is one file in mode DELETE, which a mere reader can open."""
    store = store_in(shared)
    store.append([event_of()])
    store.close()
    assert [path.name for path in shared.iterdir()] == ["state.db"]
    with _without_write_permission(shared):
        assert ids(read_events(shared / "state.db")) == [1]
    with contextlib.closing(sqlite3.connect(shared / "state.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_journal_in_use_needs_no_write_permission(shared: Path) -> None:
    """A member of the group reads what the running daemon has stored."""
    store = store_in(shared)
    store.append([event_of()])
    with _without_write_permission(shared):
        assert ids(read_events(shared / "state.db")) == [1]
    store.close()


def test_a_killed_daemon_s_journal_needs_no_write_permission(shared: Path) -> None:
    """What a SIGKILL left in the write-ahead log is read without folding it back."""
    with writing(shared, 1_000_000) as told:
        told.readline()
    with _without_write_permission(shared):
        assert len(read_events(shared / "state.db")) >= 2


def test_a_reader_at_work_does_not_keep_a_daemon_from_closing(tmp_path: Path) -> None:
    """The switch out of WAL needs the file for itself; without it the close is clean as well."""
    store = store_in(tmp_path)
    store.append([event_of()])
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as reader:
        rows = reader.execute("SELECT id FROM event")
        assert rows.fetchone() == (1,)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        store.close()
        reader.rollback()
    assert ids(read_events(tmp_path / "state.db")) == [1]


def test_no_journal_is_said_in_words(tmp_path: Path) -> None:
    """A reader before the first `up` learns how one comes to be, and makes none."""
    with pytest.raises(StoreError, match="there is no journal") as missing:
        read_events(tmp_path / "state.db")
    assert missing.value.hint == "`gpuctl up` begins one"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_a_damaged_journal_gets_words(tmp_path: Path) -> None:
    """Only the daemon sets a damaged file aside; who reads is told and changes nothing."""
    (tmp_path / "state.db").write_text("no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        read_events(tmp_path / "state.db")
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]


def test_a_directory_of_any_name_can_be_read(tmp_path: Path) -> None:
    """Characters with a meaning in a URI are taken as they are."""
    directory = tmp_path / "a?mode=rw#100%25"
    directory.mkdir()
    store = store_in(directory)
    store.append([event_of()])
    assert ids(read_events(directory / "state.db")) == [1]
    store.close()
