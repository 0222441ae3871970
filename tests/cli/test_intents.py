"""`start`, `stop`, `restart`: an Intent over the socket, and the wait for it."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer
from gpuctl.cli import intents
from gpuctl.errors import NotFound

#: The newest event that the published Status knows of.
KNOWN = 7


@pytest.fixture
def daemon(
    place: Path, publish: Callable[..., dict[str, Any]]
) -> Iterator[Callable[..., list[Mapping[str, Any]]]]:
    """A socket that notes each request and publishes what came of it."""
    servers: list[ControlServer] = []
    locks: list[int] = []

    def begin(event: int = KNOWN, **outcome: Any) -> list[Mapping[str, Any]]:
        import fcntl

        asked: list[Mapping[str, Any]] = []
        before = publish(at=time.time())

        def handle(body: Mapping[str, Any]) -> Mapping[str, Any]:
            asked.append({key: body[key] for key in ("verb", "subject")})
            rows = [
                row | outcome if row["workload"] == "chat" else row for row in before["replicas"]
            ]
            publish(at=time.time(), seq=before["seq"] + 1, last_event=KNOWN, replicas=rows)
            return {"ok": True, "event": event}

        locks.append(os.open(place / "lock", os.O_RDWR | os.O_CREAT))
        fcntl.flock(locks[-1], fcntl.LOCK_EX)
        servers.append(ControlServer(place / "gpuctl.sock", handle))
        servers[-1].begin()
        return asked

    yield begin
    for server in servers:
        server.close()
    for lock in locks:
        os.close(lock)


@pytest.mark.parametrize(
    ("word", "verb", "outcome"),
    [
        ("stop", "stop", {"phase": "stopped", "container": None}),
        ("start", "run", {"phase": "ready", "reason": "", "next_attempt_at": None}),
        ("restart", "renew", {"phase": "ready", "container": "new", "reason": ""}),
    ],
)
def test_an_intent_is_sent_and_waited_for(
    inside: Callable[..., Any], daemon: Any, word: str, verb: str, outcome: dict[str, Any]
) -> None:
    """The command returns 0 when the Status says it is carried out."""
    asked = daemon(**outcome)

    done = inside(word, "chat", "--timeout", "10")

    assert asked == [{"verb": verb, "subject": "chat"}]
    assert (done.code, done.out) == (0, "")
    assert f"chat: {word} done" in done.err


def test_a_restart_ends_although_it_is_degraded(inside: Callable[..., Any], daemon: Any) -> None:
    """A new container that serves is a restart carried out; what is wrong with it is told."""
    daemon(phase="degraded", container="new", reason="health_slow")

    done = inside("restart", "chat-0", "--timeout", "10")

    assert done.code == 3
    assert "chat-0: degraded: health_slow" in done.err


def test_an_intent_that_is_not_waited_for(inside: Callable[..., Any], daemon: Any) -> None:
    """With --no-wait the command ends once the daemon has stored it."""
    asked = daemon()

    done = inside("stop", "chat-1", "--no-wait")

    assert (done.code, asked) == (0, [{"verb": "stop", "subject": "chat-1"}])


def test_an_intent_that_takes_too_long(inside: Callable[..., Any], daemon: Any) -> None:
    """A wait that ends says that the daemon goes on with it, and is exit code 1."""
    daemon()

    done = inside("stop", "chat-1", "--timeout", "0")

    assert done.code == 1
    assert "the daemon goes on" in done.err


def test_a_status_from_before_the_intent_says_nothing(
    inside: Callable[..., Any], daemon: Any
) -> None:
    """What looks carried out is not, while the Status does not know of the Intent yet."""
    daemon(event=KNOWN + 1, phase="stopped", container=None)

    done = inside("stop", "chat", "--timeout", "0")

    assert done.code == 1


def test_a_start_that_fails_again_and_again(inside: Callable[..., Any], daemon: Any) -> None:
    """A replica that keeps failing ends the wait with exit code 3, and says where to look."""
    daemon(phase="backoff", restarts_1h=3, reason="exited")

    done = inside("start", "chat-1", "--timeout", "10")

    assert done.code == 3
    assert "see `gpuctl why chat-1`" in done.err


def test_without_a_daemon(inside: Callable[..., Any], publish: Callable[..., Any]) -> None:
    """Nobody at the socket is exit code 3."""
    publish()

    assert inside("stop", "chat-1").code == 3


STATUS: Any = json.loads((Path(__file__).parents[1] / "views" / "status.json").read_text())


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("chat-1", {"chat-1"}), ("chat", {"chat-0", "chat-1", "chat-2"}), ("embed", {"embed-0"})],
)
def test_subjects(subject: str, expected: set[str]) -> None:
    """A workload's name means all of its replicas."""
    assert intents.subjects(STATUS, subject) == expected


def test_an_unknown_subject_suggests_the_nearest() -> None:
    """A slip of the finger names what was meant."""
    with pytest.raises(NotFound) as caught:
        intents.subjects(STATUS, "embde")

    assert "embed" in caught.value.hint
