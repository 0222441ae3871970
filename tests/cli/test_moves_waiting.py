"""What `scale`, `cordon`, `uncordon` and `failover` wait for, told by a daemon that is a test's."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer
from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.model import Event
from tests import make

#: Of the intent that the daemon answers with, which its Status knows of.
EVENT = 1
GONE = {"phase": "stopped", "reason": "scaled", "container": None}
STOPPED = {"phase": "stopped", "reason": "stop", "container": None}
WELL = {"phase": "ready", "reason": ""}
MOVED = {"phase": "ready", "reason": "", "moved": "gpu_lost"}
HOME = {
    "check": "placement",
    "subject": "chat-2",
    "state": "degraded",
    "reason": "on_reserve",
    "since": 1_799_999_000.0,
    "evidence": {"home": ["GPU-0", "GPU-2"]},
}
STUCK = HOME | {"reason": "no_gpu_left", "evidence": {"gpu": "GPU-2"}}
ON_CPU = {"phase": "degraded", "reason": "on_cpu", "gpus": [], "on_cpu": True}


@pytest.fixture
def daemon(place: Path, publish: Callable[..., dict[str, Any]]) -> Iterator[Callable[..., None]]:
    """A daemon that answers a request with a Status, and with what it has stored by then."""
    held: list[Callable[[], None]] = []

    def begin(
        after: Mapping[str, Any],
        before: Mapping[str, Any] | None = None,
        stored: tuple[Event, ...] = (),
        conditions: list[dict[str, Any]] | None = None,
    ) -> None:
        rows = publish(at=time.time())["replicas"]
        told = {"conditions": conditions or []}

        def changed(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
            return [row | WELL | changes.get(row["name"], {}) for row in rows]

        def handle(asked: Mapping[str, Any]) -> Mapping[str, Any]:
            store = SqliteStore(place / "state.db", place / "unused.json")
            last = store.append((make.event("intent", "", asked["verb"]), *stored))[-1].id
            store.close()
            publish(at=time.time(), seq=9, last_event=last, replicas=changed(after), **told)
            return {"ok": True, "event": EVENT}

        publish(at=time.time(), last_event=0, replicas=changed(before or {}), **told)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = ControlServer(place / "gpuctl.sock", handle)
        server.begin()
        held.extend((server.close, lambda: os.close(lock)))

    yield begin
    for let_go in held:
        let_go()


@pytest.mark.parametrize(
    ("arguments", "after", "code"),
    [
        pytest.param(("scale", "chat=3"), {}, 0, id="all serve"),
        pytest.param(("scale", "chat=3"), {"chat-1": STOPPED}, 1, id="one is stopped"),
        pytest.param(("scale", "chat=2"), {"chat-2": GONE}, 0, id="one is gone"),
        pytest.param(("scale", "chat=2"), {"chat-2": GONE | {"phase": "draining"}}, 1, id="goes"),
        pytest.param(("failover", "cpu", "chat-0"), {"chat-0": STOPPED}, 0, id="stopped has GPUs"),
        pytest.param(("failover", "cpu", "chat-0"), {"chat-0": ON_CPU}, 0, id="on the CPU"),
        pytest.param(("failover", "cpu", "chat-0"), {}, 1, id="not yet on the CPU"),
    ],
)
def test_what_counts_as_done(
    inside: Callable[..., Any],
    daemon: Callable[..., None],
    arguments: tuple[str, ...],
    after: dict[str, Any],
    code: int,
) -> None:
    """Counted is what serves; on the CPU is what has no GPU, or is not running anyway."""
    daemon(after)

    assert inside(*arguments, "--timeout", "0").code == code


@pytest.mark.parametrize(
    ("condition", "after", "code"),
    [
        pytest.param(HOME, MOVED | {"phase": "draining"}, 1, id="on its way"),
        pytest.param(HOME, MOVED | {"phase": "loading"}, 1, id="loading"),
        pytest.param(HOME, MOVED, 0, id="the other GPU keeps it where it is"),
        pytest.param(STUCK, MOVED | {"phase": "draining"}, 1, id="leaves where it was stuck"),
        pytest.param(STUCK, MOVED, 0, id="goes on there"),
    ],
)
def test_uncordon_waits_for_what_is_on_its_way(
    inside: Callable[..., Any],
    daemon: Callable[..., None],
    condition: dict[str, Any],
    after: dict[str, Any],
    code: int,
) -> None:
    """To one GPU of a group, or to any: where another is lost it stays, once it is settled."""
    daemon({"chat-2": after}, {"chat-2": MOVED}, conditions=[condition])

    assert inside("uncordon", "0", "--timeout", "0").code == code


@pytest.mark.parametrize(
    ("arguments", "later", "words"),
    [
        pytest.param(
            ("scale", "chat=1"),
            make.event("intent", "chat", "scale", replicas=2),
            "`scale chat=2`",
            id="scale",
        ),
        pytest.param(
            ("cordon", "0"), make.event("intent", "GPU-0", "uncordon"), "`uncordon 0`", id="cordon"
        ),
        pytest.param(
            ("uncordon", "0"), make.event("intent", "GPU-0", "cordon"), "`cordon 0`", id="uncordon"
        ),
        pytest.param(
            ("failover", "cpu", "chat-0"),
            make.event("intent", "chat", "failover", to="gpu"),
            "`failover gpu chat`",
            id="failover",
        ),
    ],
)
def test_a_later_command_ends_the_wait_for_an_earlier(
    inside: Callable[..., Any],
    daemon: Callable[..., None],
    arguments: tuple[str, ...],
    later: Event,
    words: str,
) -> None:
    """At once, with what it was; nobody is told that the daemon goes on with the first."""
    daemon({}, stored=(later,))

    done = inside(*arguments, "--timeout", "30")

    at = time.strftime("%H:%M:%S", time.localtime(later.at))
    assert (done.code, done.err.splitlines()[-2]) == (1, f"error: superseded by {words} at {at}")
