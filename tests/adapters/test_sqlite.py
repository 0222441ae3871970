"""The store on real files: whole batches, what a kill and a full disk leave, and status.json."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.errors import StoreError
from gpuctl.history import History, fold, remember
from gpuctl.model import Event, EventKind
from tests.adapters.sqlite_bench import event_of, every_kind, ids, store, store_in, writing
from tests.make import AT, BOOT, NOW

__all__ = ["store"]


def test_a_batch_is_stored_as_a_whole_or_not_at_all(store: SqliteStore) -> None:
    """When the last event of a batch is refused, the first ones of it are not there either."""
    refused = event_of(at=float("nan"))  # SQLite has no NaN: NULL, which the column refuses
    with pytest.raises(StoreError, match=r"state\.db"):
        store.append([event_of(), event_of(), refused])
    assert store.events() == ()
    assert ids(store.append([event_of()])) == [1]


def test_threads_do_not_mix_their_batches(store: SqliteStore) -> None:
    """Two threads that append at once get each its own transaction, with ids in a row."""
    batches: list[tuple[Event, ...]] = []

    def append(name: str) -> None:
        batches.extend(store.append([event_of(subject=name)] * 5) for _ in range(20))

    threads = [threading.Thread(target=append, args=(f"chat-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(batches) == 80
    assert all(ids(batch) == list(range(batch[0].id, batch[0].id + 5)) for batch in batches)
    assert len(store.events()) == 400


def test_a_restarted_daemon_remembers_what_the_living_one_knew(tmp_path: Path) -> None:
    """History folded live, event by event, equals history folded from what was stored."""
    assert {event.kind for event in every_kind()} == set(EventKind)
    first, live = store_in(tmp_path), History()
    for event in every_kind():
        for stored in first.append([event]):
            live = fold(live, stored)
    first.close()
    second = store_in(tmp_path)
    later = NOW + 60
    again = remember(
        second.events(), boot_id=BOOT, boot_seconds=later, now=AT + 60, cautious=second.cautious
    )
    second.close()
    assert again == live


def test_what_was_appended_survives_the_kill_of_its_writer(tmp_path: Path) -> None:
    """After SIGKILL every acknowledged event is there, and no half of a batch."""
    with writing(tmp_path, 1_000_000) as told:
        acknowledged = [int(told.readline()) for _ in range(50)][-1]
    assert (tmp_path / "state.db-wal").exists()
    store = store_in(tmp_path)
    found = ids(store.events())
    assert not store.cautious
    store.close()
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acknowledged
    assert len(found) % 2 == 0


DIES_CREATING = """
import functools, os, signal, sqlite3, sys
from pathlib import Path
from gpuctl.adapters.sqlite import SqliteStore

class Dying(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_trace_callback(self.look)

    def look(self, statement):
        if "CREATE INDEX" in statement:
            os.kill(os.getpid(), signal.SIGKILL)

sqlite3.connect = functools.partial(sqlite3.connect, factory=Dying)
SqliteStore(Path(sys.argv[1], "state.db"), Path(sys.argv[1], "status.json"))
"""


def test_a_kill_while_the_journal_is_created_does_no_harm(tmp_path: Path) -> None:
    """All tables come in one transaction, so the next daemon finds none of them, or all."""
    died = subprocess.run([sys.executable, "-c", DIES_CREATING, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    store = store_in(tmp_path)
    assert (store.cautious, ids(store.append([event_of()]))) == (False, [1])
    store.close()


FILLS = """
import os, resource, sys
from pathlib import Path
from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.errors import StoreError
from gpuctl.model import Event, EventKind

directory, how = Path(sys.argv[1]), sys.argv[2]

def event(log):
    told = {"at": 1.0, "boot_id": "b", "boot_seconds": 1.0, "evidence": {"log": log}}
    return Event(kind=EventKind.EVIDENCE, subject="chat-0", **told)

def fill():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
        return
    with open(directory / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return

def free():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else:
        (directory / "filler").unlink()

def tried(act, *arguments):
    try:
        return act(*arguments)
    except StoreError as error:
        return "refused: " + error.hint

store = SqliteStore(directory / "state.db", directory / "status.json")
store.append([event("small")])
store.publish("before")
fill()
print(tried(store.append, [event("small"), event("x" * 200_000)]))
print(tried(store.publish, "x" * 200_000))
print([told.id for told in store.events()], (directory / "status.json").read_text())
free()
store.append([event("x" * 200_000)])
store.publish("after")
print([told.id for told in store.events()], (directory / "status.json").read_text())
store.close()
"""


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_full_disk_is_an_error_that_passes(tmp_path: Path, how: str) -> None:
    """Nothing of the refused batch is kept, the old status stays, and room again is enough."""
    command = [sys.executable, "-c", FILLS, str(tmp_path), how]
    if how == "tmpfs":
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, str(tmp_path), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (
        [
            "refused: is the disk full, or the file not ours to write?",
            "refused: is the disk full, or the directory not ours?",
            "[1] before",
            "[1, 2] after",
        ],
        "",
    )


def test_a_status_is_never_half_read(tmp_path: Path, store: SqliteStore) -> None:
    """A thousand reads while it is replaced all the time find a whole document each."""
    ended = threading.Event()

    def publish() -> None:
        sizes = (10, 40_000)
        while not ended.is_set():
            for size in sizes:
                store.publish(json.dumps({"size": size, "filler": "x" * size}))

    store.publish('{"size": 0, "filler": ""}')
    writer = threading.Thread(target=publish)
    writer.start()
    try:
        read = [json.loads((tmp_path / "status.json").read_text()) for _ in range(1000)]
    finally:
        ended.set()
        writer.join()
    assert all(len(document["filler"]) == document["size"] for document in read)
    assert len({document["size"] for document in read}) >= 2


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_both_files_are_for_the_owner_and_the_group(tmp_path: Path, umask: int) -> None:
    """Mode 0640 whatever the umask: the group reads, others see nothing, not for a moment."""
    before = os.umask(umask)
    try:
        store = store_in(tmp_path)
        store.append([event_of()])
        store.publish("{}")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    names = ("state.db", "state.db-shm", "state.db-wal", "status.json")
    assert modes == dict.fromkeys(names, 0o640)


def test_a_directory_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    """Neither a journal nor a status can be written to nowhere, in words with the path."""
    with pytest.raises(StoreError, match=r"gone/state\.db"):
        store_in(tmp_path / "gone")
    store = SqliteStore(tmp_path / "state.db", tmp_path / "gone" / "status.json")
    with pytest.raises(StoreError, match=r"gone/status\.json: cannot be written: No such file"):
        store.publish("{}")
    store.close()
