"""Which later command undoes which earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.sqlite import SqliteStore
from gpuctl.cli import superseding
from gpuctl.cli.session import Session
from gpuctl.cli.superseding import Later, Superseded, Undoes
from gpuctl.model import Event
from tests import make
from tests.cli.conftest import DOCUMENT

SCALE = superseding.scale({"llm": 2})
CORDON = superseding.of_gpu("uncordon", "GPU-1", 1)
START = superseding.life("run", {"llm", "llm-0"})
STOP = superseding.life("stop", {"llm", "llm-0"})
FAILOVER = superseding.failover("cpu", {"llm", "llm-0"})


def intent(subject: str, verb: str, **told: Any) -> Event:
    return make.event("intent", subject, verb, **told)


@pytest.mark.parametrize(
    ("undoes", "later", "command"),
    [
        pytest.param(SCALE, intent("llm", "scale", replicas=1), "scale llm=1", id="another-count"),
        pytest.param(SCALE, intent("llm", "scale", replicas=2), "", id="the-same-count"),
        pytest.param(SCALE, intent("tts", "scale", replicas=1), "", id="another-workload"),
        pytest.param(SCALE, intent("llm", "scale", by="gpuctl"), "up", id="forgotten"),
        pytest.param(SCALE, intent("llm-1", "run", because="scale"), "", id="its-own"),
        pytest.param(SCALE, intent("llm", "stop"), "stop llm", id="stopped"),
        pytest.param(SCALE, intent("", "stop"), "stop", id="all-stopped"),
        pytest.param(SCALE, intent("llm-1", "stop"), "stop llm-1", id="one-stopped"),
        pytest.param(SCALE, intent("llm-2", "stop"), "", id="one-that-goes-anyway"),
        pytest.param(SCALE, intent("llm-big", "stop"), "", id="a-name-that-begins-alike"),
        pytest.param(SCALE, intent("", "down"), "down", id="down"),
        pytest.param(CORDON, intent("GPU-1", "uncordon"), "uncordon 1", id="uncordoned"),
        pytest.param(CORDON, intent("GPU-1", "cordon"), "", id="cordoned-again"),
        pytest.param(CORDON, intent("GPU-2", "uncordon"), "", id="another-gpu"),
        pytest.param(FAILOVER, intent("", "failover", to="gpu"), "failover gpu", id="all"),
        pytest.param(FAILOVER, intent("llm-0", "failover", to="cpu"), "", id="the-same-way"),
        pytest.param(FAILOVER, intent("tts", "failover", to="gpu"), "", id="another-subject"),
        pytest.param(FAILOVER, intent("llm", "failover", to=""), "up", id="failover-forgotten"),
        pytest.param(FAILOVER, intent("", "down"), "down", id="taken-down"),
        pytest.param(START, intent("llm", "stop"), "stop llm", id="start-and-stop"),
        pytest.param(START, intent("", "down"), "down", id="start-and-down"),
        pytest.param(START, intent("llm-0", "renew"), "", id="start-and-restart"),
        pytest.param(START, intent("tts", "stop"), "", id="start-and-stop-of-another"),
        pytest.param(STOP, intent("llm-0", "run"), "start llm-0", id="stop-and-start"),
        pytest.param(STOP, intent("llm", "renew"), "restart llm", id="stop-and-restart"),
        pytest.param(STOP, intent("", "up"), "up", id="stop-and-up"),
        pytest.param(STOP, intent("", "down"), "", id="stop-and-down"),
    ],
)
def test_undoes(undoes: Undoes, later: Event, command: str) -> None:
    """Another end for the same subject, in the words that it was asked in."""
    assert undoes(later) == command


def test_an_intent_is_read_once(place: Path, here: Session) -> None:
    """A Status that knows of nothing new costs no look at the journal."""
    status: Any = json.loads(DOCUMENT.read_text())
    read: list[Event] = []

    def note(event: Event) -> str:
        read.append(event)
        return ""

    store = SqliteStore(place / "state.db", place / "unused.json")
    own, later = store.append((intent("llm", "scale", replicas=2), intent("", "up")))
    looking = Later(here, own.id, note)

    for known in (own.id, later.id, later.id):
        looking.look(status | {"last_event": known})
    assert read == [later]

    (undoing,) = store.append((intent("llm", "scale", replicas=1),))
    store.close()
    with pytest.raises(Superseded, match="superseded by `scale llm=1` at "):
        Later(here, own.id, SCALE).look(status | {"last_event": undoing.id})
