"""An Action becomes an order, and the Event that commits it before it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import History
from gpuctl.model import Action, Drain, Replica, Start, Stop
from gpuctl.orders import Order, attempt, order
from tests import make
from tests.make import INSTANCE, NOW

START = Start(replica="chat-0", reason="wanted")
STOP = Stop(replica="chat-0", container="c1", reason="stop", step="kill")


def ordered(action: Action, past: History | None = None, replica: Replica | None = None) -> Order:
    return order(action, make.plan(), replica, past or History(), lambda: "new")


def test_a_start_carries_the_labels_that_name_it() -> None:
    """The labels are the facts by which a daemon knows its containers again."""
    found = ordered(START, replica=make.replica(gpus=(0, 3)))
    assert found.labels == {
        "gpuctl.schema": "1",
        "gpuctl.profile": "test",
        "gpuctl.replica": "chat-0",
        "gpuctl.gpus": "GPU-0,GPU-3",
        "gpuctl.attempt": "new",
        "gpuctl.digest": "v1:a",
    }


@pytest.mark.parametrize("action", [START, STOP])
def test_an_interrupted_action_keeps_its_id(action: Start | Stop) -> None:
    """Taken up again it is the same attempt; any other action is a new one."""
    again = ordered(replace(action, attempt="old"))
    assert (again.attempt, again.resumed) == ("old", True)
    assert (ordered(START).attempt, ordered(START).resumed) == ("new", False)
    assert (ordered(STOP).attempt, ordered(STOP).resumed) == ("new", False)


def test_a_stop_of_what_is_not_planned_needs_no_replica() -> None:
    """What an earlier profile left is stopped without knowing more of it than its name."""
    found = ordered(STOP, make.history(make.served()))
    assert (found.replica, found.previous, found.labels["gpuctl.digest"]) == (None, "c1", "")


@pytest.mark.parametrize(
    ("action", "past", "fetches"),
    [
        pytest.param(START, make.history(), True, id="first"),
        pytest.param(START, make.history(make.served()), False, id="same-spec"),
        pytest.param(
            START,
            make.history(make.event("adopted", container="c1")),
            True,
            id="adopted-with-a-spec-nobody-knows",
        ),
        pytest.param(STOP, make.history(), False, id="stop"),
    ],
)
def test_a_start_may_have_to_fetch_an_image(action: Action, past: History, fetches: bool) -> None:
    """An image that no container of the replica ran from may have to be fetched first."""
    assert ordered(action, past, make.replica()).fetches is fetches


def test_another_spec_may_have_another_image() -> None:
    """After a change of the profile the image may be one that was never here."""
    past = make.history(make.served())
    assert ordered(START, past, make.replica(spec_digest="b")).fetches is True


@pytest.mark.parametrize(
    ("action", "told"),
    [
        pytest.param(START, {"action": "start", "restart": False}, id="start"),
        pytest.param(
            replace(START, step="fetch"), {"action": "fetch", "restart": False}, id="fetch"
        ),
        pytest.param(
            Start(replica="chat-0", reason="wanted", restart=True, attempt="old"),
            {"action": "start", "restart": True, "resumed": True, "attempt": "old"},
            id="start-again",
        ),
        pytest.param(
            Drain(replica="chat-0", container="c1", reason="wanted", deadline_seconds=30.0),
            {"action": "drain", "container": "c1", "deadline_seconds": 30.0, "seq": 9},
            id="drain",
        ),
        pytest.param(
            Stop(replica="chat-0", container="c1", reason="wanted", step="remove"),
            {"action": "remove", "container": "c1"},
            id="stop",
        ),
        pytest.param(
            replace(STOP, reason="wanted", attempt="old"),
            {"action": "kill", "container": "c1", "resumed": True, "attempt": "old"},
            id="stop-again",
        ),
    ],
)
def test_what_begins_is_told_first(action: Action, told: dict[str, Any]) -> None:
    """The Event says what begins, why, by which daemon, and which Status will show it."""
    found = attempt(ordered(action), INSTANCE, make.snapshot(), seq=9)
    assert found == make.event(
        "attempt", "chat-0", "wanted", NOW, **{"attempt": "new", "instance": INSTANCE, **told}
    )
