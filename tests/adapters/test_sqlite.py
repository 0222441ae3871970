"""state.db and status.json on real files: what is kept, and what every kind of damage leads to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore, Wanted, pruning, read_events, stream_events
from gpuctl.adapters.sqlite import store as store_module
from gpuctl.errors import StoreError
from gpuctl.history import REMEMBERED, History, fold, remember
from gpuctl.model import Event, EventKind
from tests import make
from tests.make import AT, BOOT, NOW


def _event(kind: EventKind = EventKind.CONDITION, subject: str = "chat-0", **fields: Any) -> Event:
    told: dict[str, Any] = {"at": AT, "boot_id": BOOT, "boot_seconds": NOW, **fields}
    return Event(kind=kind, subject=subject, **told)


def _open(directory: Path) -> SqliteStore:
    return SqliteStore(directory / "state.db", directory / "status.json")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = _open(tmp_path)
    yield opened
    opened.close()


def _ids(events: Sequence[Event]) -> list[int]:
    return [event.id for event in events]


def test_events_come_back_as_they_were_stored(store: SqliteStore) -> None:
    """Every field survives, evidence to its last nested tuple, and the ids count from 1."""
    events = [
        _event(EventKind.INTENT, "chat", reason="stop", evidence={"uid": 0, "pid": None}),
        _event(
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
    store.append([_event(kind, subject) for kind in kinds for subject in ("chat-0", "chat-1")])
    assert _ids(read_events(tmp_path / "state.db", **arguments)) == found


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
    store.append([_event(subject=names[n % 4], at=AT + n) for n in range(1, 1201)])
    reader = stream_events(tmp_path / "state.db", wanted)
    first = next(reader)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert _ids([first, *reader]) == found


def test_a_batch_is_stored_as_a_whole_or_not_at_all(store: SqliteStore) -> None:
    """When the last event of a batch is refused, the first ones of it are not there either."""
    refused = _event(at=float("nan"))  # SQLite has no NaN: NULL, which the column refuses
    with pytest.raises(StoreError, match=r"state\.db"):
        store.append([_event(), _event(), refused])
    assert store.events() == ()
    assert _ids(store.append([_event()])) == [1]


def test_threads_do_not_mix_their_batches(store: SqliteStore) -> None:
    """Two threads that append at once get each its own transaction, with ids in a row."""
    batches: list[tuple[Event, ...]] = []

    def append(name: str) -> None:
        batches.extend(store.append([_event(subject=name)] * 5) for _ in range(20))

    threads = [threading.Thread(target=append, args=(f"chat-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(batches) == 80
    assert all(_ids(batch) == list(range(batch[0].id, batch[0].id + 5)) for batch in batches)
    assert len(store.events()) == 400


def _every_kind() -> list[Event]:
    """A replica's life with each kind of event that history remembers, in its daemon's words."""
    told: list[tuple[EventKind, str, str, dict[str, Any]]] = [
        (EventKind.DAEMON, "daemon", "started", {"pid": 7, "instance": "i"}),
        (EventKind.INTENT, "", "up", {"uid": 0, "pid": 1}),
        (EventKind.ADOPTED, "chat-1", "", {"container": "c0"}),
        (EventKind.ATTEMPT, "chat-0", "wanted", {"attempt": "a", "action": "start"}),
        (EventKind.DONE, "chat-0", "", {"attempt": "a", "container": "c1", "gpus": ("GPU-0",)}),
        (EventKind.READY, "chat-0", "", {"container": "c1", "seconds": 0.1 + 0.2}),
        (EventKind.BASELINE, "chat-0", "settled", {"container": "c1", "vram_bytes": 2**40}),
        (
            EventKind.FAILED,
            "chat-0",
            "oom_killed",
            {"container": "c1", "failures": 1, "log": ("a", "b"), "exit": {"codes": (137, None)}},
        ),
        (EventKind.EVIDENCE, "chat-0", "", {"container": "c1", "log": ("x",) * 200}),
        (EventKind.HOST_FAULT, "host", "many_failed_at_once", {"replicas": ("chat-0",), "of": 2}),
        (EventKind.ATTEMPT, "chat-0", "x", {"attempt": "b", "action": "start", "restart": True}),
        (
            EventKind.UNDONE,
            "chat-0",
            "start_refused",
            {"attempt": "b", "failures": 2, "log": ("a", ("b",))},
        ),
        (EventKind.HOST_OK, "host", "", {}),
        (EventKind.ATTEMPT, "chat-1", "stop", {"action": "drain", "deadline_seconds": 30.0}),
        (EventKind.ATTEMPT, "chat-1", "stop", {"attempt": "c", "action": "terminate"}),
        (EventKind.DONE, "chat-1", "", {"attempt": "c", "container": "c0"}),
        (EventKind.INTENT, "chat-1", "stop", {"uid": 0}),
        (EventKind.INTENT, "chat-0", "renew", {"uid": 0}),
        (EventKind.CONDITION, "GPU-0", "hot", {"state": "degraded"}),
        (EventKind.PEAK, "GPU-0", "hour", {"temperature_celsius": 81.0}),
    ]
    return [
        _event(kind, subject, reason=reason, evidence=evidence, boot_seconds=NOW + order / 7)
        for order, (kind, subject, reason, evidence) in enumerate(told)
    ]


def test_a_restarted_daemon_remembers_what_the_living_one_knew(tmp_path: Path) -> None:
    """History folded live, event by event, equals history folded from what was stored."""
    assert {event.kind for event in _every_kind()} == set(EventKind)
    first, live = _open(tmp_path), History()
    for event in _every_kind():
        for stored in first.append([event]):
            live = fold(live, stored)
    first.close()
    second = _open(tmp_path)
    later = NOW + 60
    again = remember(
        second.events(), boot_id=BOOT, boot_seconds=later, now=AT + 60, cautious=second.cautious
    )
    second.close()
    assert again == live


WRITER = """
import sys
from pathlib import Path
from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.model import Event, EventKind

directory, batches = Path(sys.argv[1]), int(sys.argv[2])
store = SqliteStore(directory / "state.db", directory / "status.json")
told = {"at": 1.0, "boot_id": "b", "boot_seconds": 1.0, "evidence": {"log": ("x" * 100,) * 5}}
for number in range(batches):
    event = Event(kind=EventKind.CONDITION, subject=f"chat-{number}", **told)
    print(store.append([event, event])[-1].id, flush=True)
store.close()
"""


@contextlib.contextmanager
def _writer(directory: Path, batches: int) -> Iterator[IO[str]]:
    """A process that stores pairs of events, telling the last id of each; killed at the end."""
    command = [sys.executable, "-c", WRITER, str(directory), str(batches)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def test_what_was_appended_survives_the_kill_of_its_writer(tmp_path: Path) -> None:
    """After SIGKILL every acknowledged event is there, and no half of a batch."""
    with _writer(tmp_path, 1_000_000) as told:
        acknowledged = [int(told.readline()) for _ in range(50)][-1]
    assert (tmp_path / "state.db-wal").exists()
    store = _open(tmp_path)
    found = _ids(store.events())
    assert not store.cautious
    store.close()
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acknowledged
    assert len(found) % 2 == 0


def test_a_reader_in_another_process_sees_whole_batches_while_one_writes(tmp_path: Path) -> None:
    """Readers never wait for the writer, never block it, and see each transaction whole."""
    with _writer(tmp_path, 300) as told:
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
    store = _open(shared)
    store.append([_event()])
    store.close()
    assert [path.name for path in shared.iterdir()] == ["state.db"]
    with _without_write_permission(shared):
        assert _ids(read_events(shared / "state.db")) == [1]
    with contextlib.closing(sqlite3.connect(shared / "state.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_journal_in_use_needs_no_write_permission(shared: Path) -> None:
    """A member of the group reads what the running daemon has stored."""
    store = _open(shared)
    store.append([_event()])
    with _without_write_permission(shared):
        assert _ids(read_events(shared / "state.db")) == [1]
    store.close()


def test_a_killed_daemon_s_journal_needs_no_write_permission(shared: Path) -> None:
    """What a SIGKILL left in the write-ahead log is read without folding it back."""
    with _writer(shared, 1_000_000) as told:
        told.readline()
    with _without_write_permission(shared):
        assert len(read_events(shared / "state.db")) >= 2


def test_a_reader_at_work_does_not_keep_a_daemon_from_closing(tmp_path: Path) -> None:
    """The switch out of WAL needs the file for itself; without it the close is clean as well."""
    store = _open(tmp_path)
    store.append([_event()])
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as reader:
        rows = reader.execute("SELECT id FROM event")
        assert rows.fetchone() == (1,)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        store.close()
        reader.rollback()
    assert _ids(read_events(tmp_path / "state.db")) == [1]


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
    store = _open(tmp_path)
    told = [{"number": str(number)} for number in range(200)]
    store.append([_event(EventKind.FAILED, evidence=evidence) for evidence in told])
    store.close()
    damage(path)
    damaged = path.read_bytes()

    store = _open(tmp_path)
    assert (tmp_path / "state.db.corrupt-1").read_bytes() == damaged
    assert (store.cautious, store.events()) == (True, ())
    store.append([_event(EventKind.INTENT, reason="run")])
    store.close()

    store = _open(tmp_path)
    assert store.cautious
    store.append([_event(EventKind.INTENT, "", reason="up")])
    assert not store.cautious
    store.close()

    store = _open(tmp_path)
    assert not store.cautious
    store.close()


@pytest.mark.parametrize("damage", [_flip_text, _flip_json])
def test_no_past_is_given_up_for_a_word_that_nothing_rests_on(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """A damaged log or condition is shown as it is; the daemon remembers what it did."""
    store = _open(tmp_path)
    told = [{"number": str(number)} for number in range(200)]
    store.append([_event(evidence=evidence) for evidence in told])
    store.close()
    damage(tmp_path / "state.db")
    store = _open(tmp_path)
    assert not store.cautious
    store.close()
    found = [event.evidence for event in read_events(tmp_path / "state.db")]
    assert found[:199] == told[:199]
    assert list(found[199]) == ["damaged"]


def test_every_damaged_journal_is_kept(tmp_path: Path) -> None:
    """The second does not overwrite the first, and no log of one is taken for the next's."""
    for _ in range(2):
        (tmp_path / "state.db").write_text("no database" * 100)
        (tmp_path / "state.db-wal").write_text("its log" * 1000)
        _open(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state.db",
        "state.db.corrupt-1",
        "state.db.corrupt-2",
    ]


def test_a_kill_between_setting_aside_and_beginning_anew_leaves_caution(tmp_path: Path) -> None:
    """A daemon that finds only the damaged file still knows that a past was lost."""
    (tmp_path / "state.db.corrupt-1").write_text("no database")
    store = _open(tmp_path)
    assert store.cautious
    store.close()


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
    store = _open(tmp_path)
    assert (store.cautious, _ids(store.append([_event()]))) == (False, [1])
    store.close()


def test_the_journal_of_a_newer_gpuctl_is_refused_untouched(tmp_path: Path) -> None:
    """Its words are not guessed at, and it is neither set aside nor written to."""
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE event (name)")
        database.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 2, this one knows 1") as refused:
        _open(tmp_path)
    assert refused.value.hint == "install the newer gpuctl again"
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["state.db"]


def test_an_event_of_a_kind_not_known_here_is_passed_over(tmp_path: Path) -> None:
    """A newer gpuctl of the same schema may have stored more kinds; the others still count."""
    store = _open(tmp_path)
    store.append([_event(), _event(EventKind.READY)])
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute("UPDATE event SET kind = 'teleported' WHERE id = 1")
    store = _open(tmp_path)
    assert (store.cautious, _ids(store.events()), _ids(store.events(limit=1))) == (False, [2], [2])
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


def test_the_oldest_events_are_dropped_and_every_intent_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `stop` of long ago still holds after a restart, however much has happened since."""
    monkeypatch.setattr(pruning, "EVENTS_KEPT", 1500)
    store = _open(tmp_path)
    store.append([_event(), _event(EventKind.INTENT, "chat-1", reason="stop"), _event()])
    for _ in range(4):
        store.append([_event()] * 1000)
    kept = _ids(store.events())
    store.close()
    assert kept == [2, *range(4003 - 1500 + 1, 4003 + 1)]


def test_a_container_that_lives_long_is_known_however_much_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start, its READY and its baseline are kept, and what is remembered is the same."""
    monkeypatch.setattr(pruning, "EVENTS_KEPT", 1500)
    lived = [*make.served(), make.event("baseline", container="c1", vram_bytes=2**30)]
    store, live = _open(tmp_path), History()
    for batch in (lived, *[[_event()] * 1000] * 4):
        for stored in store.append(batch):
            live = fold(live, stored)
    kept = store.events()
    store.close()
    assert _ids(kept) == [1, 2, 3, 4, *range(4004 - 1500 + 1, 4004 + 1)]
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
    store = _open(tmp_path)
    store.append([event for life in _lives(8, ("last words",)) for event in life])
    store.close()
    store = _open(tmp_path)
    left = [event for event in store.events() if event.kind is EventKind.EVIDENCE]
    store.close()
    assert len(left) == 32
    kept = [event.evidence["container"] for event in left if event.evidence.get("log")]
    assert kept == [f"c{number}" for number in range(3, 8) for _ in range(4)]
    assert left[0].evidence == {"container": "c0"}


def test_memory_is_read_without_what_nothing_rests_on(store: SqliteStore) -> None:
    """What is remembered of all events is remembered of these."""
    store.append(_every_kind())
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
    20,000 failures with 200 lines each are remembered when they have been pruned as before.

    The file, and what a daemon holds when it has opened it, stay far below the unit's MemoryMax.
    """
    monkeypatch.setattr(store_module, "_PRUNE_EVENTS", 10_000)
    store, live = _open(tmp_path), History()
    lives = _lives(5_000, ("one line of the log",) * 200)
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
    store = _open(tmp_path)
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
        store = _open(directory)
        found = _remembered(store)
        store.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024**2
    return found


def test_too_many_bytes_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has grown large: the oldest go, but not what memory rests on."""
    monkeypatch.setattr(pruning, "BYTES_KEPT", 1024**2)
    store = _open(tmp_path)
    store.append(make.served())
    before = _remembered(store)
    for _ in range(4):
        store.append([_event(evidence={"told": "x" * 1000})] * 1000)
    kept = _ids(store.events())
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
    assert len(store.append([_event()] * 1000)) == 1000
    assert len(store.events()) == 1000


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
        store = _open(tmp_path)
        store.append([_event()])
        store.publish("{}")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    names = ("state.db", "state.db-shm", "state.db-wal", "status.json")
    assert modes == dict.fromkeys(names, 0o640)


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
    store = _open(directory)
    store.append([_event()])
    assert _ids(read_events(directory / "state.db")) == [1]
    store.close()


def test_a_directory_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    """Neither a journal nor a status can be written to nowhere, in words with the path."""
    with pytest.raises(StoreError, match=r"gone/state\.db"):
        _open(tmp_path / "gone")
    store = SqliteStore(tmp_path / "state.db", tmp_path / "gone" / "status.json")
    with pytest.raises(StoreError, match=r"gone/status\.json: cannot be written: No such file"):
        store.publish("{}")
    store.close()
