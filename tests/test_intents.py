"""A request of the control socket becomes the intents to commit for it."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.errors import NotFound
from gpuctl.intents import intents
from gpuctl.journal import Journal
from gpuctl.model import Event
from gpuctl.moving import Present
from tests import make
from tests.fakes import FakeWorld

WHO: dict[str, Any] = {"uid": 0, "pid": 77}


def asked(body: dict[str, Any], *before: Event) -> list[Event]:
    """Ask it of a daemon with two replicas of one workload, after these events."""
    fakes = FakeWorld()
    journal = Journal(fakes.store, fakes.clock)
    journal.record(before)
    plan = make.plan(make.replica("chat-0"), make.replica("chat-1", gpus=(1,)))
    present = Present(
        plan=plan,
        now=make.snapshot(),
        conditions={},
        history=journal.history,
        arrange=lambda _: plan,
    )
    return intents(body, present, journal)


@pytest.mark.parametrize("subject", ["", "chat", "chat-1"])
def test_all_a_workload_or_a_replica_is_meant(subject: str) -> None:
    """The request is recorded as it was asked, with who asked."""
    assert asked({"verb": "stop", "subject": subject, **WHO}) == [
        make.event("intent", subject, "stop", **WHO)
    ]


def test_what_names_nothing_means_all() -> None:
    """Who asked may be unknown, and is not made up."""
    assert asked({"verb": "down", "uid": "root"}) == [
        make.event("intent", "", "down", uid=None, pid=None)
    ]


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(NotFound) as caught:
        asked({"verb": "run", "subject": "moon"})
    assert (caught.value.message, caught.value.hint) == (
        "'moon' is no replica or workload of the profile 'test'",
        "`gpuctl status` lists them",
    )


def test_up_renews_what_was_started_with_older_defaults() -> None:
    """It is settled now: a later version's defaults are not asked for by this `up`."""
    older = make.event("done", "chat-1", attempt="b", container="c2", spec_digest="older")
    began = make.event("attempt", "chat-1", attempt="b", action="start")
    assert asked({"verb": "up", **WHO}, *make.served("chat-0"), began, older) == [
        make.event("intent", "", "up", **WHO),
        make.event("intent", "chat-1", "renew", because="outdated", **WHO),
    ]


@pytest.mark.parametrize(
    ("arguments", "evidence"),
    [
        pytest.param({"note": "new fan"}, {"note": "new fan"}, id="with-a-note"),
        pytest.param("none", {}, id="arguments-that-are-none"),
    ],
)
def test_a_cordon_is_asked_for_in_its_own_way(arguments: Any, evidence: dict[str, Any]) -> None:
    """Its subject is a GPU, and it may say why."""
    assert asked({"verb": "cordon", "subject": "1", "arguments": arguments, **WHO}) == [
        make.event("intent", "GPU-1", "cordon", **WHO, **evidence)
    ]
