"""Failures as Events: each is told once, counted, and excused by a known cause alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import Condition, Event
from gpuctl.transitions import failures
from tests import make
from tests.make import NOW
from tests.transitions_bench import DEAD, RUNNING, one, stopped, told


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
