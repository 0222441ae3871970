"""Which Events may go without anything being forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.history import REMEMBERED, History, ReplicaHistory, memory, remember
from gpuctl.model import Event
from gpuctl.retention import needed
from tests import make
from tests.make import AT, BOOT, NOW

#: Events kept whatever they tell, and of each form, in these tests.
NEWEST, EACH = 2, 1

NAMES = st.sampled_from(["chat-0", "chat-1"])
CONTAINERS = st.sampled_from(["c1", "c2", "c3"])
ENDS: list[tuple[str, dict[str, Any]]] = [
    ("done", {}),
    ("done", {}),
    ("undone", {}),
    ("undone", {"failures": 0}),
    ("undone", {"failures": 2}),
    ("undone", {"withdrawn": True}),
    ("undone", {"missing_image": "engine:1"}),
]
#: Of a GPU as well, which here has the name of a replica: nobody asks what a name is of.
REASONS = {
    "intent": ["run", "stop", "renew", "cordon", "uncordon"],
    "xid": ["13", "95"],
    "cordoned": ["xid_95"],
}


def told(kind: str, **evidence: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Event]]:
    return st.builds(make.event, st.just(kind), NAMES, **evidence).map(lambda event: [event])


@st.composite
def attempts(draw: st.DrawFn) -> list[Event]:
    """An attempt that ended well, ended badly, was cut off, or whose end came too late."""
    name, id_ = draw(NAMES), draw(st.uuids()).hex
    flags: dict[str, Any] = draw(st.sampled_from([{}, {"restart": True}, {"resumed": True}]))
    action = draw(
        st.sampled_from(["start", "start", "start", "fetch", "terminate", "kill", "remove"])
    )
    began = make.event(
        "attempt", name, attempt=id_, action=action, container=draw(CONTAINERS), **flags
    )
    kind, marks = draw(st.sampled_from(ENDS))
    ended = make.event(kind, name, attempt=id_, container=draw(CONTAINERS), **marks)
    parts = [(began, ended), (began, ended), (began,), (ended,), (began, ended, ended)]
    return list(draw(st.sampled_from(parts)))


EVENTS = st.one_of(
    attempts(),
    attempts(),
    attempts(),
    told("attempt", action=st.just("drain"), container=CONTAINERS, seq=st.integers(0, 9)),
    told("done", action=st.just("drain"), container=CONTAINERS),
    told("adopted", container=CONTAINERS),
    told("adopted", container=CONTAINERS, failures=st.just(3)),
    told("failed", container=CONTAINERS, failures=st.integers(0, 3)),
    told("ready", container=CONTAINERS),
    told("baseline", vram_bytes=st.integers(1, 9)),
    told("measured", vram_bytes=st.integers(1, 9)),
    told("host_fault"),
    told("host_ok"),
    *(
        st.builds(make.event, st.just(kind), NAMES, st.sampled_from(reasons)).map(
            lambda event: [event]
        )
        for kind, reasons in REASONS.items()
    ),
)


def remembered(events: Sequence[Event]) -> History:
    """Return what is known after these; of whom nothing is known there is no record."""
    found = remember(events, boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=False)
    known = {name: each for name, each in found.replicas.items() if each != ReplicaHistory()}
    return replace(found, replicas=known)


def pruned(events: Sequence[Event], newest: int) -> list[Event]:
    """Return what a store keeps of these."""
    kept, last = needed(events), events[-1].id
    return [event for event in events if event.id > last - newest or event.id in kept]


@given(st.lists(EVENTS, max_size=40), st.integers(1, 9))
def test_memory_is_the_same_before_and_after(drawn: list[list[Event]], every: int) -> None:
    """Whatever happens, and however often the oldest are dropped, nothing is forgotten."""
    told = [
        replace(event, id=n, at=AT + n, boot_seconds=NOW + n)
        for n, event in enumerate(chain.from_iterable(drawn), start=1)
    ]
    stored: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "STARTS_KEPT", EACH)
        patch.setattr(memory, "XIDS_KEPT", EACH)
        for event in told:
            stored.append(event)
            if event.id % every == 0:
                stored = pruned(stored, NEWEST)
        assert remembered(stored) == remembered(told)


def test_the_first_of_all_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart that found no image is none, also where it is kept as the oldest Event of all."""
    monkeypatch.setattr(memory, "STARTS_KEPT", EACH)
    told: list[Event] = []
    stored: list[Event] = []
    for n in range(2 * EACH):
        start = make.event(
            "attempt", attempt=f"a{n}", action="start", restart=n == 0, container="c1"
        )
        end = make.event("undone", attempt=f"a{n}", missing_image="engine:1", container="c1")
        for event in (start, end):
            told.append(replace(event, id=len(told) + 1, boot_seconds=NOW + len(told)))
            stored = pruned([*stored, told[-1]], NEWEST)
    assert remembered(stored) == remembered(told)


def test_a_failure_keeps_the_container_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused start is the failure of the container before it, whatever has started since."""
    monkeypatch.setattr(memory, "STARTS_KEPT", EACH)
    restart: dict[str, Any] = {"action": "start", "restart": True}
    told = [
        *make.started(id_="c1"),
        make.event("attempt", attempt="a2", **restart),
        make.event("undone", attempt="a2", failures=1),
        make.event("attempt", attempt="a3", **restart),
        make.event("done", attempt="a3", container="c2"),
    ]
    events = [replace(event, id=n) for n, event in enumerate(told, start=1)]
    after = remembered(pruned(events, 0))
    failure = after.replica("chat-0").failure
    assert failure is not None
    assert failure.container == "c1"
    assert after.replicas == remembered(events).replicas


def test_what_a_stuck_removal_tells_again_and_again_is_dropped() -> None:
    """A year of tries leaves the newest, and the one READY and BASELINE of a year ago."""
    tries = [
        make.event(kind, attempt=f"r{n}", action="remove", container="c0")
        for n in range(1000)
        for kind in ("attempt", "undone")
    ]
    events = [
        replace(event, id=n)
        for n, event in enumerate(
            [*make.served(), make.event("baseline", vram_bytes=5), *tries], start=1
        )
    ]
    kept = pruned(events, 0)
    assert len(kept) == 4 + 2 * memory.STARTS_KEPT
    assert [event.kind for event in kept[:4]] == ["attempt", "done", "ready", "baseline"]


def test_many_xids_of_one_number_drop_no_other() -> None:
    """Of each number as many stay as are remembered."""
    numbers = ["95", *["13"] * (memory.STARTS_KEPT + 1)]
    told = [make.event("daemon", "daemon"), *(make.event("xid", "GPU-0", n) for n in numbers)]
    events = [replace(event, id=n) for n, event in enumerate(told, start=1)]
    assert [event.reason for event in pruned(events, 0)][:3] == ["", "95", "13"]


def test_all_that_memory_is_made_of_is_asked_for() -> None:
    """Each kind of Event that changes the history is among the kinds a store must ask about."""
    assert {event.kind for event in (*make.served(), make.failed())} <= REMEMBERED
