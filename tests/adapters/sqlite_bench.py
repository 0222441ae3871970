"""A journal on real files, the events to put in it, and a process that writes one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.model import Event, EventKind
from tests.make import AT, BOOT, NOW

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


def event_of(
    kind: EventKind = EventKind.CONDITION, subject: str = "chat-0", **fields: Any
) -> Event:
    told: dict[str, Any] = {"at": AT, "boot_id": BOOT, "boot_seconds": NOW, **fields}
    return Event(kind=kind, subject=subject, **told)


def store_in(directory: Path) -> SqliteStore:
    return SqliteStore(directory / "state.db", directory / "status.json")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = store_in(tmp_path)
    yield opened
    opened.close()


def ids(events: Sequence[Event]) -> list[int]:
    return [event.id for event in events]


def every_kind() -> list[Event]:
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
        (EventKind.CUDA_OOM, "chat-0", "cuda_oom", {"container": "c1", "line": "no VRAM"}),
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
        (EventKind.XID, "GPU-0", "79", {"pid": 812, "message": "GPU has fallen off the bus."}),
        (EventKind.CORDONED, "GPU-0", "xid_79", {"xid": 79}),
        (EventKind.MOVED, "chat-0", "xid_79", {"gpus": ("GPU-5",), "voluntary": False}),
        (EventKind.MOVED, "chat-1", "uncordoned", {}),
        (EventKind.INTENT, "GPU-1", "cordon", {"uid": 0}),
        (EventKind.INTENT, "GPU-1", "uncordon", {"uid": 0}),
        (EventKind.INTENT, "llm", "scale", {"replicas": 2}),
        (EventKind.INTENT, "llm", "failover", {"to": "cpu"}),
        (EventKind.IMAGE, "chat", "not_fetched", {"image": "engine:cpu", "error": "no host"}),
        (EventKind.MEASURED, "a model", "peak", {"vram_bytes": 2**33}),
    ]
    return [
        event_of(kind, subject, reason=reason, evidence=evidence, boot_seconds=NOW + order / 7)
        for order, (kind, subject, reason, evidence) in enumerate(told)
    ]


@contextlib.contextmanager
def writing(directory: Path, batches: int) -> Iterator[IO[str]]:
    """A process that stores pairs of events, telling the last id of each; killed at the end."""
    command = [sys.executable, "-c", WRITER, str(directory), str(batches)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()
