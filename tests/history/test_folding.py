"""Events in, History out: what is told in order, of which boot, and what is for readers only."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.history import (
    History,
    remember,
)
from gpuctl.model import Event
from tests import make
from tests.make import AT, BOOT, NOW


def test_what_is_only_told_changes_nothing() -> None:
    """Conditions, evidence, peaks and the daemon's own comings and goings are for readers."""
    told = [make.event(kind, "x") for kind in ("condition", "evidence", "peak", "daemon")]
    assert make.history(*told) == History(began_at=told[0].boot_seconds)


def test_the_history_begins_with_the_first_thing_told() -> None:
    """Whatever is older than that was never looked at, in this boot or an earlier one."""
    first, second = make.event("daemon", "daemon"), make.event("condition", "host")
    second = replace(second, boot_seconds=second.boot_seconds + 60)
    assert make.history(first, second).began_at == first.boot_seconds
    assert make.history().began_at is None


def aged(event: Event, boot_id: str, at: float) -> Event:
    return replace(event, boot_id=boot_id, at=at)


def test_remembered_times_lie_on_the_present_boot() -> None:
    """This boot's Events keep their time; an earlier boot's lie before it, whatever the clock."""
    earlier = aged(make.event("ready", at=99_999.0, container="c1"), "boot-0", AT - NOW - 60)
    future = aged(make.event("ready", "chat-1", container="c2"), "boot-0", AT + 500)
    present = make.event("ready", "chat-2", at=NOW - 5, container="c3")
    past = remember(
        [earlier, future, present], boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=False
    )
    assert {name: each.ready_at for name, each in past.replicas.items()} == {
        "chat-0": -60.0,
        "chat-1": -1.0,
        "chat-2": NOW - 5,
    }


def test_remembering_is_folding() -> None:
    """A restarted daemon knows what one knew that never died."""
    events = [*make.served(), make.failed(), make.event("intent", "", "up")]
    assert remember(events, boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=False) == make.history(
        events
    )
