"""What became of the replicas since the last tick, as Events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import History
from gpuctl.model import Condition, LoadReading, ProbeSpec, Snapshot
from gpuctl.transitions import changes, transitions
from tests import make
from tests.make import NOW
from tests.transitions_bench import DEAD, RUNNING, answering, one, stopped, told


@pytest.mark.parametrize(
    "now",
    [
        make.snapshot(make.container(), errors={"runtime": "refused"}),
        replace(RUNNING, runtime_boot_seconds=None),
    ],
    ids=["unread", "never-read"],
)
def test_nothing_happened_that_could_not_be_seen(now: Snapshot) -> None:
    """While the runtime cannot be read, no condition makes a failure."""
    assert told(now, make.history(make.served()), stopped()) == []


def test_what_is_being_done_to_a_replica_is_not_its_own_doing() -> None:
    """During an attempt a dead container is no failure."""
    past = make.history(make.served(), make.event("attempt", attempt="x", action="terminate"))
    assert told(DEAD, past, stopped()) == []


def test_a_running_container_that_is_not_known_is_adopted() -> None:
    """Adoption is told once, with the attempt that started it."""
    now = make.snapshot(make.container(id_="c7", attempt="a7"))
    event = one(now, make.history(make.served()))
    assert (event.kind, event.evidence) == ("adopted", {"container": "c7", "attempt": "a7"})
    assert told(now, make.history(event)) == []


def test_the_first_answer_makes_it_ready() -> None:
    """A container is ready at its first good answer, and the Event tells how long it took."""
    event = one(answering(), make.history(make.started(at=NOW - 42)))
    assert (event.kind, event.evidence) == ("ready", {"container": "c1", "seconds": 42.0})
    other = answering(probes=[make.probe(id_="c0")])
    assert told(other, make.history(make.started())) == []
    loading = answering(probes=[make.probe(outcome="loading")])
    assert told(loading, make.history(make.started())) == []
    assert told(RUNNING, make.history(make.started())) == []


def test_it_is_ready_when_it_answers_others() -> None:
    """They did what a warm-up request is for, and none is told of."""
    asked = ProbeSpec(port=8081, health_path="/health", warmup_path="/x", warmup_requests=2)
    busy = answering(probes=[make.probe(serves=True, warmup_failures=2)])
    found = transitions(
        make.plan(make.replica(probe=asked)), busy, {}, make.history(make.started())
    )
    assert [(each.kind, each.reason, "warmup_requests" in each.evidence) for each in found] == [
        ("ready", "", False)
    ]


def test_it_is_ready_when_it_is_warmed_up() -> None:
    """It answers, and is not ready before it has answered as many small requests as it must."""
    asked = ProbeSpec(port=8081, health_path="/health", warmup_path="/x", warmup_requests=2)
    warm = make.replica(probe=asked)
    past = make.history(make.started(at=NOW - 42))
    cold = answering(probes=[make.probe(warmed=1)])
    assert transitions(make.plan(warm), cold, {}, past) == ()
    (event,) = transitions(make.plan(warm), answering(probes=[make.probe(warmed=2)]), {}, past)
    assert (event.kind, event.evidence) == (
        "ready",
        {"container": "c1", "seconds": 42.0, "warmup_requests": 2},
    )


def test_the_stages_of_a_load_are_told_with_it() -> None:
    """What its log told on the way, in seconds since its start; not what another's told."""
    reached = {"weights_loaded": NOW - 30, "graphs_ready": NOW - 2}
    past = make.history(make.started(at=NOW - 42))

    def loads(container: str, reached: dict[str, float]) -> Any:
        load = LoadReading(replica="chat-0", container=container, reached=reached)
        return one(answering(loads={"chat-0": load}), past).evidence

    told = {"container": "c1", "seconds": 42.0}
    assert loads("c1", reached) == told | {"stages": {"weights_loaded": 12.0, "graphs_ready": 40.0}}
    assert loads("c0", reached) == told
    assert loads("c1", {}) == told


SETTLED = make.history(make.served(at=NOW - 60))


def test_a_baseline_is_learned_when_it_has_settled() -> None:
    """A minute after it became ready, what it holds is its baseline."""
    event = one(answering(), SETTLED)
    assert (event.kind, event.evidence["vram_bytes"]) == ("baseline", 5 * make.MIB)
    assert told(answering(), make.history(make.served(at=NOW - 60), event)) == []


@pytest.mark.parametrize(
    ("now", "past"),
    [
        pytest.param(answering(), make.history(make.served(at=NOW - 59)), id="too-early"),
        pytest.param(replace(answering(), gpus_boot_seconds=None), SETTLED, id="never-read"),
        pytest.param(answering(errors={"gpus": "hung"}), SETTLED, id="unreadable"),
        pytest.param(answering(probes=[]), SETTLED, id="not-answering"),
        pytest.param(answering(gpus=[make.gpu()]), SETTLED, id="holds-nothing"),
    ],
)
def test_no_baseline_is_learned_from_less(now: Snapshot, past: History) -> None:
    """A baseline needs time, a fresh reading of the GPUs, a good answer, and VRAM held."""
    assert told(now, past) == []


def test_a_replica_on_the_cpu_has_no_baseline() -> None:
    """Without GPUs there is nothing to learn."""
    assert told(answering(), SETTLED, plan=make.plan(make.replica(gpus=()))) == []


DRAINING: dict[str, Any] = {"action": "drain", "container": "c1", "deadline_seconds": 30.0}


def test_a_drain_ends_when_the_replica_is_wanted_again() -> None:
    """What is asked for again while it drains goes back to the routes, and the model stays."""
    past = (
        make.served(),
        make.event("intent", reason="stop", at=NOW - 5),
        make.event("attempt", at=NOW - 5, **DRAINING),
    )
    assert told(RUNNING, make.history(*past)) == []
    event = one(RUNNING, make.history(*past, make.event("intent", reason="run")))
    assert (event.kind, event.reason) == ("done", "wanted_again")
    after = make.history(*past, event).replica("chat-0")
    assert (after.draining_container, after.container) == ("", "c1")


def test_a_stop_cannot_be_taken_back() -> None:
    """Once it was told to end, a container goes, whatever is wanted then."""
    step: dict[str, Any] = {"attempt": "t", "action": "terminate", "container": "c1"}
    past = make.history(
        make.served(),
        make.event("attempt", **DRAINING),
        make.event("attempt", **step),
        make.event("done", **step),
    )
    assert told(RUNNING, past) == []


def changed(before: Iterable[Condition], after: Iterable[Condition]) -> list[dict[str, Any]]:
    found = changes(make.conditions(*before), make.conditions(*after), RUNNING)
    return [{"subject": e.subject, "reason": e.reason, **e.evidence} for e in found]


def test_conditions_are_told_when_they_change() -> None:
    """One Event when a condition appears, changes its reason, or goes; none while it holds."""
    slow = make.condition(reason="health_slow", state="degraded", evidence={"answer": "none"})
    dead = make.condition(reason="health_dead")
    fine = make.condition(state="ok")
    appeared = {
        "subject": "chat-0",
        "reason": "health_slow",
        "check": "health",
        "was": "",
        "answer": "none",
        "state": "degraded",
    }
    assert changed([], [slow]) == changed([fine], [slow]) == [appeared]
    assert changed([slow], [slow]) == changed([], [fine]) == []
    assert [e["was"] for e in changed([slow], [dead])] == ["health_slow"]
    assert [e["reason"] for e in changed([slow], [fine])] == ["ok"]
    assert changed([slow], []) == [
        {"subject": "chat-0", "reason": "ok", "check": "health", "was": "health_slow"}
    ]


def test_a_stop_is_told_as_a_failure_alone() -> None:
    """The `stopped` check makes no Event of its own: the failure says more."""
    assert changed([], [stopped()]) == []
