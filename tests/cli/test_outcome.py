"""How a wait ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuctl.cli import outcome
from gpuctl.cli.session import Session

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


def test_tell(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All ready is 0; anything else is 3, with the reason and the next step."""
    session = Session(environment={"GPUCTL_RUNTIME_DIR": str(place)})

    assert outcome.tell(session, status(phase="ready"), NAMES, "all ready") == 0
    assert outcome.tell(session, status(phase="degraded", reason="slow"), NAMES, "") == 3

    said = capsys.readouterr().err.splitlines()
    assert said[0] == "all ready"
    assert said[1] == "chat-2: degraded: slow"
