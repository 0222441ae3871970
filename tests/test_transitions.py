"""What became of the replicas since the last tick, as Events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import History
from gpuctl.model import Condition, Event, GpuProcess, Plan, Snapshot
from gpuctl.transitions import changes, failures, transitions
from tests import make
from tests.make import NOW

RUNNING = make.snapshot(make.container())
DEAD = make.snapshot(make.container(state="exited", exit_code=1))


def stopped(name: str = "chat-0", id_: str = "c1", since: float = NOW, **fields: Any) -> Condition:
    told = {"reason": "exit_1", "remedy": "restart", "evidence": {"container": id_}, **fields}
    return make.condition("stopped", name, since=since, **told)


def told(
    now: Snapshot, past: History, *held: Condition, plan: Plan | None = None
) -> list[tuple[str, str, str]]:
    """Return kind, subject and reason of what happened."""
    events = transitions(plan or make.plan(), now, make.conditions(*held), past)
    return [(event.kind, event.subject, event.reason) for event in events]


def one(now: Snapshot, past: History, *held: Condition, plan: Plan | None = None) -> Event:
    (event,) = transitions(plan or make.plan(), now, make.conditions(*held), past)
    return event


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


def test_after_a_loss_what_is_adopted_has_a_used_budget() -> None:
    """An adopted container's next failure is its fourth: how it did before is not known."""
    past = make.history(cautious=True)
    event = one(RUNNING, past)
    assert event.evidence["failures"] == 3
    known = make.history(event, cautious=True).replica("chat-0")
    assert failures(make.replica(), RUNNING, known) == 4
    late = make.snapshot(make.container(state="exited"), boot_seconds=NOW + 20)
    died = one(late, make.history(event, cautious=True), stopped())
    assert died.evidence["failures"] == 4


def test_a_failure_is_told_once() -> None:
    """One FAILED per container, whatever goes on being said of it."""
    past = make.history(make.served(at=NOW - 30))
    event = one(DEAD, past, stopped(since=NOW - 1))
    assert (event.kind, event.reason) == ("failed", "exit_1")
    assert event.evidence == {
        "container": "c1",
        "check": "stopped",
        "seen_at": make.AT - 1,
        "readings": 1,
        "failures": 1,
        "ready_seconds": 30.0,
    }
    assert told(DEAD, make.history(make.served(), event), stopped()) == []


def test_a_failure_before_it_was_ready_has_no_ready_time() -> None:
    """What dies while it loads was never ready."""
    event = one(DEAD, make.history(make.started()), stopped())
    assert "ready_seconds" not in event.evidence


def test_the_checks_are_asked_in_their_order() -> None:
    """Where several are due the first check of stopped, vram, health, stalled gives the reason."""
    told_by: dict[str, Any] = {"remedy": "restart", "evidence": {"container": "c1"}}
    vram = make.condition("vram", reason="vram_lost", **told_by)
    health = make.condition("health", reason="health_refused", **told_by)
    event = one(RUNNING, make.history(make.served()), health, vram)
    assert (event.reason, event.evidence["check"]) == ("vram_lost", "vram")


@pytest.mark.parametrize(
    "held",
    [
        make.condition("health", remedy="restart", patience_seconds=10.0),
        make.condition("health", remedy="none"),
        make.condition("health", state="degraded", remedy="restart"),
    ],
    ids=["patience", "no-remedy", "degraded"],
)
def test_what_is_not_due_is_no_failure(held: Condition) -> None:
    """Only a failed verdict whose remedy is a restart and whose patience is used up counts."""
    assert told(RUNNING, make.history(make.served()), held) == []


@pytest.mark.parametrize(
    ("events", "count"),
    [
        pytest.param([make.served(at=NOW - 5)], 1, id="first"),
        pytest.param([make.failed(id_="c0", failures=4), make.served(at=NOW - 5)], 1, id="wanted"),
        pytest.param([make.served(at=NOW - 599), make.failed(failures=4)], 5, id="in-a-row"),
        pytest.param([make.served(at=NOW - 600), make.failed(failures=4)], 1, id="forgiven"),
        pytest.param([make.started(at=NOW - 9999), make.failed(failures=4)], 5, id="never-ready"),
    ],
)
def test_failures_in_a_row(events: Iterable[Any], count: int) -> None:
    """600 s of ready time forgive; run time alone, and time since, do not."""
    assert failures(make.replica(), RUNNING, make.history(*events).replica("chat-0")) == count


@pytest.mark.parametrize(
    ("started", "back", "since", "reason"),
    [
        pytest.param(NOW - 100, NOW - 3, NOW - 3, "runtime_restarted", id="went-down-with-it"),
        pytest.param(NOW - 100, NOW - 3, NOW - 2, "exit_1", id="seen-alive-after"),
        pytest.param(NOW - 2, NOW - 3, NOW - 3, "exit_1", id="started-after"),
        pytest.param(NOW - 100, None, NOW - 2, "exit_1", id="never-gone"),
        pytest.param(-5.0, None, NOW, "host_rebooted", id="of-an-earlier-boot"),
    ],
)
def test_an_outage_is_a_known_cause(
    started: float, back: float | None, since: float, reason: str
) -> None:
    """What was dead when the runtime was first read again is excused; what died since is not."""
    now = replace(DEAD, runtime_back_boot_seconds=back)
    event = one(now, make.history(make.started(at=started)), stopped(since=since))
    assert event.reason == reason
    assert event.evidence["failures"] == (1 if reason == "exit_1" else 0)


@pytest.mark.parametrize(
    ("other", "past", "reason"),
    [
        pytest.param("running", make.started("chat-1", "c2"), "exit_1", id="survived"),
        pytest.param("paused", make.started("chat-1", "c2"), "exit_1", id="survived-paused"),
        pytest.param("exited", make.started("chat-1", "c2"), "runtime_restarted", id="died-too"),
        pytest.param(
            "running",
            make.started("chat-1", "c2", at=NOW - 2),
            "runtime_restarted",
            id="started-since",
        ),
    ],
)
def test_where_another_survived_there_was_no_restart(
    other: str, past: Iterable[Event], reason: str
) -> None:
    """A runtime that restarts ends every container: one that lived on speaks for a mere hiccup."""
    now = make.snapshot(
        make.container(state="exited", exit_code=1),
        make.container("chat-1", "c2", state=other),
        runtime_back_boot_seconds=NOW - 3,
    )
    plan = make.plan(make.replica("chat-0"), make.replica("chat-1"))
    event = one(now, make.history(make.started(), past), stopped(since=NOW - 4), plan=plan)
    assert event.reason == reason


def test_what_ran_out_of_memory_did_not_go_down_with_its_runtime() -> None:
    """A runtime ends its containers by a signal: an OOM kill is the container's own doing."""
    now = replace(DEAD, runtime_back_boot_seconds=NOW)
    event = one(now, make.history(make.started()), stopped(reason="oom_killed"))
    assert (event.reason, event.evidence["failures"]) == ("oom_killed", 1)


def test_an_outage_excuses_no_later_container() -> None:
    """What became of a container whose start was refused is not the last boot's doing."""
    past = make.history(make.started(at=-5.0))
    assert one(DEAD, past, stopped(id_="c2")).reason == "exit_1"


def test_an_outage_excuses_no_engine_that_hangs() -> None:
    """A failure that is not a stop is the engine's own, outage or not."""
    now = replace(RUNNING, runtime_back_boot_seconds=NOW - 1)
    refused = make.condition("health", reason="health_refused", remedy="restart")
    assert one(now, make.history(make.started()), refused).reason == "health_refused"


def answering(boot_seconds: float = NOW, **fields: Any) -> Snapshot:
    holder = GpuProcess(pid=100, used_bytes=5 * make.MIB, container="c1")
    gpus = [make.gpu(processes=[holder])]
    probes = [make.probe()]
    return make.snapshot(
        make.container(), **{"gpus": gpus, "probes": probes, "boot_seconds": boot_seconds, **fields}
    )


def test_the_first_answer_makes_it_ready() -> None:
    """A container is ready at its first good answer, and the Event tells how long it took."""
    event = one(answering(), make.history(make.started(at=NOW - 42)))
    assert (event.kind, event.evidence) == ("ready", {"container": "c1", "seconds": 42.0})
    other = answering(probes=[make.probe(id_="c0")])
    assert told(other, make.history(make.started())) == []
    loading = answering(probes=[make.probe(outcome="loading")])
    assert told(loading, make.history(make.started())) == []
    assert told(RUNNING, make.history(make.started())) == []


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


def four(**settings: Any) -> Plan:
    replicas = [make.replica(f"chat-{i}", gpus=()) for i in range(4)]
    return make.plan(*replicas, watchdog=replace(make.SETTINGS, host_fault_ratio=0.5, **settings))


def hosts(
    dead: Iterable[int], earlier: Iterable[Event] = (), plan: Plan | None = None
) -> list[str]:
    """Return what is said of the host when these die now."""
    ids = list(dead)
    now = make.snapshot(*(make.container(f"chat-{i}", f"c{i}", state="exited") for i in ids))
    past = make.history(*(make.served(f"chat-{i}", f"c{i}") for i in range(4)), earlier)
    held = [stopped(f"chat-{i}", f"c{i}") for i in ids]
    found = transitions(plan or four(), now, make.conditions(*held), past)
    return [event.reason for event in found if event.subject == "host"]


def test_many_failures_at_once_are_the_hosts() -> None:
    """Half the replicas and at least three within a minute is a host fault."""
    before = make.failed("chat-3", "c3", at=NOW - 59)
    assert hosts([0, 1]) == []
    assert hosts([0, 1, 2]) == ["many_failed_at_once"]
    assert hosts([0, 1], [before]) == ["many_failed_at_once"]
    assert hosts([0, 1], [make.failed("chat-3", "c3", at=NOW - 60)]) == []
    assert hosts([0, 1], [replace(before, evidence={"failures": 0})]) == []
    assert hosts([], [before, make.failed("chat-2", "c2"), make.failed("chat-1", "c1")]) == []
    off = make.plan(*four().replicas, watchdog=make.SETTINGS)
    assert hosts([0, 1, 2, 3], plan=off) == []


def test_a_host_fault_ends_with_one_that_is_ready() -> None:
    """A replica that became ready since ends it, now or while nobody looked."""
    fault = make.event("host_fault", "host", at=NOW - 5)
    assert hosts([0, 1, 2], [fault]) == []
    assert hosts([], [fault, make.event("ready", at=NOW - 1, container="c0")]) == [
        "a replica is ready again"
    ]
    past = make.history(make.started(), fault)
    assert told(answering(), past)[-1] == ("host_ok", "host", "a replica is ready again")


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
