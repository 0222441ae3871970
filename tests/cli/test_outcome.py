"""How a wait ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.cli import outcome
from gpuctl.cli.session import Session
from gpuctl.model import Event
from gpuctl.views.journal import moment
from tests import make

DOCUMENT = Path(__file__).parents[1] / "views" / "status.json"
NAMES = ("chat-0", "chat-1", "chat-2", "embed-0")


def status(**changes: Any) -> Any:
    """Return the Status with changes to chat-2."""
    document = json.loads(DOCUMENT.read_text())
    document["replicas"][2] |= changes
    return document


@pytest.mark.parametrize(
    ("changes", "failed", "settled"),
    [
        pytest.param({"phase": "ready"}, [], True, id="ready"),
        pytest.param({"phase": "degraded"}, [], True, id="degraded"),
        pytest.param({"phase": "loading"}, [], False, id="on its way"),
        pytest.param({"phase": "pending"}, [], False, id="waiting for its turn"),
        pytest.param({"phase": "failed"}, ["chat-2"], True, id="failed for good"),
        pytest.param({"phase": "backoff", "restarts_1h": 1}, [], False, id="first retry"),
        pytest.param({"phase": "backoff", "restarts_1h": 2}, ["chat-2"], True, id="keeps failing"),
    ],
)
def test_settled(changes: dict[str, Any], failed: list[str], settled: bool) -> None:
    """A wait ends when every replica is ready, or has shown that waiting will not help."""
    document = status(**changes)

    assert [row["name"] for row in outcome.failures(document, NAMES)] == failed
    assert outcome.settled(document, NAMES) is settled


def test_only_those_waited_for_count() -> None:
    """Another replica's failure does not end the wait for this one."""
    assert outcome.failures(status(phase="failed"), ["chat-0"]) == []


def test_what_is_on_its_way_is_told_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A replica that still loads has no failure to look at."""
    session = Session(environment={"GPUCTL_RUNTIME_DIR": str(place)})
    document = status(phase="loading", reason="")

    assert outcome.tell(session, document, NAMES, "") == 3

    assert capsys.readouterr().err.splitlines()[0] == "not ready yet: chat-2: loading"


def test_an_emergency_is_no_failure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the CPU as an operator wants it: one line, with the command that ends it."""
    session = Session(environment={"GPUCTL_RUNTIME_DIR": str(place)})
    document = status(phase="degraded", reason="on_cpu", moved="failover_cpu", since=1_800_000_009)
    told = {"check": "placement", "subject": "chat-2", "state": "degraded", "reason": "on_cpu"}
    document["conditions"].append(told | {"since": 1_800_000_000.0, "evidence": {}})

    assert outcome.tell(session, document, NAMES, "") == 3

    assert capsys.readouterr().err.splitlines()[:2] == [
        f"chat-2: on the CPU since {moment(1_800_000_000.0)}: `gpuctl failover gpu` ends it",
        "the daemon goes on; `gpuctl status` shows how far it is, `gpuctl down` ends it",
    ]


def test_on_the_cpu_for_want_of_a_gpu_is_trouble(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No command of that name ends it."""
    session = Session(environment={"GPUCTL_RUNTIME_DIR": str(place)})
    document = status(phase="degraded", reason="on_cpu", moved="gpu_lost")

    outcome.tell(session, document, NAMES, "")

    assert capsys.readouterr().err.splitlines()[0] == "chat-2: degraded: on_cpu"


FAILED = make.event("failed", "chat-2", "exited")
READY = make.event("ready", "chat-2")
LEFT = make.event("evidence", "chat-2", "exited", log=("out of ideas",))
STOPPED = make.event("evidence", "chat-2", "failover_cpu", log=("ended: exit code 143",))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([FAILED, LEFT], ("exited", ("out of ideas",)), id="a failure"),
        pytest.param([READY, STOPPED, READY], ("", ()), id="an ordinary stop"),
        pytest.param([STOPPED], ("", ()), id="a stop, and nothing since"),
        pytest.param([FAILED, LEFT, READY, STOPPED], ("", ()), id="a failure that is over"),
        pytest.param(
            [make.event("undone", "chat-2", "stop", withdrawn=True), STOPPED],
            ("", ()),
            id="what nobody wanted any more",
        ),
        pytest.param(
            [make.event("undone", "chat-2", "start_refused", error="no such image")],
            ("start_refused: no such image", ()),
            id="a start that was refused",
        ),
        pytest.param(
            [FAILED, make.event("evidence", "chat-2", explanation="it is full", advice="empty it")],
            ("exited: it is full; empty it", ()),
            id="explained",
        ),
    ],
)
def test_last_failure(
    place: Path, here: Session, events: list[Event], expected: tuple[str, tuple[str, ...]]
) -> None:
    """What a container leaves that was stopped on purpose tells of no failure."""
    store = SqliteStore(place / "state.db", place / "unused.json")
    store.append(events)
    store.close()

    assert outcome.last_failure(here, "chat-2") == expected


def test_tell(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All ready is 0; anything else is 3, with the reason and the next step."""
    session = Session(environment={"GPUCTL_RUNTIME_DIR": str(place)})

    assert outcome.tell(session, status(phase="ready"), NAMES, "all ready") == 0
    assert outcome.tell(session, status(phase="degraded", reason="slow"), NAMES, "") == 3

    said = capsys.readouterr().err.splitlines()
    assert said[0] == "all ready"
    assert said[1] == "chat-2: degraded: slow"
