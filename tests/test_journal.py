"""Events as they happen: stored, remembered and logged, in this order."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gpuctl.errors import StoreError
from gpuctl.journal import Journal
from gpuctl.model import Event, EventKind
from tests import make
from tests.fakes import FakeWorld
from tests.make import AT, BOOT, NOW


@pytest.fixture
def fakes() -> FakeWorld:
    return FakeWorld()


def journal(fakes: FakeWorld) -> Journal:
    return Journal(fakes.store, fakes.clock)


def test_an_event_is_of_this_moment(fakes: FakeWorld) -> None:
    """Wall time for people, boot time for arithmetic; nothing is stored yet."""
    found = journal(fakes).event(EventKind.READY, "chat-0", "", {"container": "c1"})
    assert found == Event(
        kind=EventKind.READY,
        subject="chat-0",
        evidence={"container": "c1"},
        at=AT,
        boot_id=BOOT,
        boot_seconds=NOW,
    )
    assert fakes.store.stored == []


def test_what_is_recorded_is_remembered(fakes: FakeWorld) -> None:
    """Recorded events are in the store with ids, and in the history at once."""
    book = journal(fakes)
    stored = book.record([*make.served(), make.failed()])
    assert [event.id for event in stored] == [1, 2, 3, 4]
    assert list(stored) == fakes.store.stored
    assert book.history == make.history(make.served(), make.failed())
    assert book.last_event == 4


def test_nothing_to_record_is_no_transaction(fakes: FakeWorld) -> None:
    """A quiet tick does not touch the disk, full or not."""
    fakes.store.full = True
    assert journal(fakes).record([]) == ()


def test_what_cannot_be_stored_is_not_remembered(fakes: FakeWorld) -> None:
    """Nothing may rest on an event that a restart would forget."""
    book = journal(fakes)
    before = book.history
    fakes.store.full = True
    with pytest.raises(StoreError):
        book.record([make.failed()])
    assert (book.history, book.last_event) == (before, 0)


def test_the_next_daemon_remembers(fakes: FakeWorld) -> None:
    """A journal opened on stored events knows what the one before knew, and their last id."""
    before = journal(fakes)
    before.record([*make.served(), make.failed()])
    after = journal(fakes)
    assert (after.history, after.last_event) == (before.history, before.last_event)


def test_a_loss_is_remembered_as_caution(fakes: FakeWorld) -> None:
    """A store that lost its events makes a cautious history."""
    fakes.store.cautious = True
    assert journal(fakes).history.cautious is True


def test_every_event_is_one_line_of_the_log(
    fakes: FakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """A line says kind, subject, reason and evidence; a container's own log stays in the store."""
    caplog.set_level(logging.INFO, logger="gpuctl")
    evidence: dict[str, Any] = {"container": "c1", "log": ("secret words",), "failures": 2}
    journal(fakes).record(
        [
            make.event("failed", "chat-0", "exit 1", **evidence),
            make.event("intent", "", "up"),
        ]
    )
    assert caplog.messages == [
        'event=failed subject=chat-0 reason="exit 1" container="c1" failures=2',
        'event=intent subject=all reason="up"',
    ]
