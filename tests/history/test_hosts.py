"""What Events leave in memory of operators' wishes and of the host."""

from __future__ import annotations

import pytest

from gpuctl.history import (
    STARTS_KEPT,
    IntentRecord,
    fold,
)
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
