"""What Events leave in memory of operators' wishes and of the host."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.history import (
    STARTS_KEPT,
    XIDS_KEPT,
    IntentRecord,
    fold,
)
from gpuctl.model import Assignment, Assignments
from tests import make
from tests.make import NOW


def test_the_latest_intent_wins_whatever_it_names() -> None:
    """A replica, its workload or all: whichever was asked last decides."""
    past = make.history(
        make.event("intent", "chat-0", "stop"),
        make.event("intent", "chat", "run"),
        make.event("intent", "", "down"),
        make.event("intent", "chat-1", "run"),
        make.event("intent", "chat-1", "renew"),
    )
    assert past.wanted("chat-0", "chat") == IntentRecord(verb="down", at=NOW, order=3)
    assert past.wanted("chat-1", "chat") == IntentRecord(verb="run", at=NOW, order=4)
    assert past.renewed("chat-1", "chat") == IntentRecord(verb="renew", at=NOW, order=5)
    assert past.renewed("chat-0", "chat") is None


@pytest.mark.parametrize(
    ("verb", "cautious"), [("up", False), ("run", True), ("down", True), ("cordon", True)]
)
def test_only_up_ends_caution(verb: str, cautious: bool) -> None:
    """After the events were lost nothing but an `up` says that the operator has looked."""
    assert make.history(make.event("intent", "", verb), cautious=True).cautious is cautious


def test_a_verb_that_says_nothing_of_running_is_no_wish() -> None:
    """What is recorded for the audit alone does not override what was wanted."""
    assert make.history(make.event("intent", "", "reload")).wanted("chat-0", "chat") is None


def test_a_host_fault_counts_the_starts_made_in_it() -> None:
    """Starts are counted from the fault on; it ends with them when one is ready."""
    fault = make.event("host_fault", "host", at=NOW)
    start = make.event("attempt", at=NOW + 1, attempt="a", action="start")
    held = make.history(make.started(), fault, start)
    assert (held.host_fault_at, held.host_fault_starts) == (NOW, (NOW + 1,))
    over = fold(held, make.event("host_ok", "host", at=NOW + 9))
    assert (over.host_fault_at, over.host_fault_starts, over.last_start_at) == (None, (), NOW + 1)


def test_a_host_fault_that_lasts_for_weeks_is_no_longer_to_remember() -> None:
    """Only how many starts there were, up to some, and the last one decide."""
    starts = [
        make.event("attempt", at=NOW + n, attempt=f"a{n}", action="start")
        for n in range(2 * STARTS_KEPT)
    ]
    held = make.history(make.event("host_fault", "host", at=NOW), starts)
    assert len(held.host_fault_starts) == STARTS_KEPT
    assert held.host_fault_starts[-1] == starts[-1].boot_seconds


def test_many_xids_of_one_number_make_no_other_forgotten() -> None:
    """What an application does all day leaves the one that says that the card is sick."""
    past = make.history(
        make.event("xid", "GPU-0", "95", NOW - 2000),
        [make.event("xid", "GPU-0", "13", NOW - 1000 + n) for n in range(XIDS_KEPT + 2)],
        make.event("xid", "GPU-0", "48", NOW - 500),
    )
    kept = [(each.number, each.at) for each in past.gpu("GPU-0").xids]
    newest = [(13, NOW - 1000 + n) for n in range(2, XIDS_KEPT + 2)]
    assert kept == [(95, NOW - 2000), *newest, (48, NOW - 500)]


@pytest.mark.parametrize(
    ("told", "known"),
    [
        pytest.param({"ecc_uncorrected": 3}, 3, id="told"),
        pytest.param({}, None, id="not-told"),
        pytest.param({"ecc_uncorrected": "3"}, None, id="no-number"),
    ],
)
def test_what_was_counted_when_a_gpu_was_found_well(
    told: dict[str, Any], known: int | None
) -> None:
    """A later daemon has to know which errors an operator had seen."""
    before = make.event("xid", "GPU-0", "48", NOW - 90)
    cleared = make.event("intent", "GPU-0", "uncordon", NOW - 60, **told)
    found = make.history(before, cleared).gpu("GPU-0")
    assert (found.cordon, found.cleared_at) == (None, NOW - 60)
    assert found.cleared_uncorrected == known
    assert [each.number for each in found.xids] == [48]


def test_the_latest_emergency_wins_whatever_it_names() -> None:
    """One that is ended by gpuctl leaves what was said of more."""
    past = make.history(
        make.event("intent", "", "failover", to="cpu"),
        make.event("intent", "chat", "failover", to="gpu"),
    )
    assert past.failed_over("chat-0", "chat") == "gpu"
    ended = fold(past, make.event("intent", "chat", "failover", to=""))
    assert ended.failed_over("chat-0", "chat") == "cpu"


@pytest.mark.parametrize(
    ("said_under", "applied", "found"),
    [
        pytest.param({"profile": "rack"}, "rack", "cpu", id="of-this-profile"),
        pytest.param({"profile": "rack"}, "other", "", id="of-another"),
        pytest.param({}, "other", "cpu", id="not-recorded"),
    ],
)
def test_an_emergency_of_a_name_is_of_one_profile(
    said_under: dict[str, Any], applied: str, found: str
) -> None:
    """A workload of another may have the same name."""
    past = make.history(make.event("intent", "chat", "failover", to="cpu", **said_under))
    assert past.failed_over("chat-0", "chat", applied) == found


def test_where_it_went_and_how_many_there_are_belong_to_a_profile() -> None:
    """What gpuctl has forgotten is in neither."""
    past = make.history(
        make.event("moved", "chat-1", "scaled", gpus=("GPU-1",), voluntary=True, profile="rack"),
        make.event("intent", "chat", "scale", replicas=2, profile="rack"),
        make.event("intent", "embed", "scale", replicas=3),
    )
    moved = Assignment(gpus=("GPU-1",), reason="scaled", profile="rack")
    counted = {"chat": "rack", "embed": ""}
    assert past.assignments == Assignments(
        moved={"chat-1": moved}, counts={"chat": 2, "embed": 3}, counted=counted
    )
    assert past.assignments.under("rack") == past.assignments
    assert past.assignments.under("other") == Assignments(counts={"embed": 3}, counted=counted)
    forgotten = fold(past, make.event("intent", "chat", "scale", by="gpuctl"))
    assert forgotten.assignments.counted == {"embed": ""}
