"""A request of the control socket becomes the intents to commit for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import NotFound, UsageError
from gpuctl.intents import intents
from gpuctl.journal import Journal
from gpuctl.model import Event, WorkloadPlan
from gpuctl.moving import Present
from tests import make
from tests.fakes import FakeWorld

WHO: dict[str, Any] = {"uid": 0, "pid": 77}


def asked(
    body: dict[str, Any], *before: Event, workloads: Any = (), cautious: bool = False
) -> list[Event]:
    """Ask it of a daemon with two replicas of one workload, after these events."""
    fakes = FakeWorld()
    journal = Journal(fakes.store, fakes.clock)
    journal.record(before)
    replicas = (make.replica("chat-0"), make.replica("chat-1", gpus=(1,)))
    plan = make.plan(*replicas, workloads=workloads)
    containers = (make.container("chat-0"), make.container("chat-1", "c2"))
    present = Present(
        plan=plan,
        now=make.snapshot(*containers),
        conditions={},
        history=replace(journal.history, cautious=cautious),
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


STOP = make.event("intent", "chat-1", "stop")
STOP_ALL = make.event("intent", "chat", "stop")
RUN = make.event("intent", "chat-1", "run")


@pytest.mark.parametrize(
    ("count", "before", "cautious", "run"),
    [
        pytest.param(2, (), False, [], id="none-was-stopped"),
        pytest.param(2, (STOP,), False, ["chat-1"], id="one-was-stopped"),
        pytest.param(1, (STOP,), False, [], id="one-that-is-not-counted"),
        pytest.param(2, (STOP, RUN), False, [], id="started-since"),
        pytest.param(2, (STOP_ALL,), False, ["chat-0", "chat-1"], id="all-were-stopped"),
        pytest.param(2, (), True, ["chat-0", "chat-1"], id="what-was-wanted-is-lost"),
        pytest.param(2, (RUN,), True, ["chat-0"], id="lost-but-for-one"),
    ],
)
def test_a_scale_starts_what_it_counts(
    count: int, before: tuple[Event, ...], cautious: bool, run: list[str]
) -> None:
    """The latest command wins: a `stop` before it is over for as many as it wants."""
    workload = WorkloadPlan(name="chat", replicas=2, wanted=2)
    body = {"verb": "scale", "arguments": {"counts": {"chat": count}}, **WHO}

    told = asked(body, *before, workloads=(workload,), cautious=cautious)

    assert told[0].reason == "scale"
    assert told[1:] == [make.event("intent", n, "run", because="scale", **WHO) for n in run]


def test_a_scale_to_too_many_is_refused_before_they_are_named() -> None:
    """Each that it counts may be one to start: there is an end to how many are looked at."""
    workload = WorkloadPlan(name="chat", replicas=2, wanted=2, scaled_gpus=0)
    body = {"verb": "scale", "arguments": {"counts": {"chat": 10**9}}, **WHO}
    with pytest.raises(UsageError, match="chat=1000000000: more than 1000 replicas"):
        asked(body, workloads=(workload,))


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
