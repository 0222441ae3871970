"""What each kind of Event leaves in memory of a replica."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.history import (
    STARTS_KEPT,
    Attempt,
    Failure,
    ReplicaHistory,
)
from gpuctl.model import Event
from tests import make
from tests.make import INSTANCE, NOW


def known(*events: Any) -> ReplicaHistory:
    return make.history(*events).replica("chat-0")


def test_nothing_is_known_of_a_replica_without_events() -> None:
    """A replica that nothing was ever told of has a blank history."""
    assert known() == ReplicaHistory()


def test_a_start_is_an_attempt_until_it_is_done() -> None:
    """An attempt stays open, with the daemon that began it, until its own Event closes it."""
    began, done = make.started(at=NOW)
    assert known(began).attempt == Attempt(
        id="s-c1", action="start", reason="wanted", at=NOW, instance=INSTANCE
    )
    assert known(began, done) == ReplicaHistory(
        container="c1", container_at=NOW, spec_digest="a", starts=(NOW,), closed_at=NOW
    )


@pytest.mark.parametrize("kind", ["done", "undone"])
def test_only_its_own_event_closes_an_attempt(kind: str) -> None:
    """The late end of an attempt that was given up changes nothing."""
    began, _ = make.started(at=NOW)
    before = known(began)
    assert known(began, make.event(kind, attempt="another", container="c9")) == before
    assert known(make.event(kind, attempt="another", container="c9")) == ReplicaHistory()


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("terminate", {"terminated_container": "c1", "terminated_at": NOW}),
        ("kill", {"killed_container": "c1"}),
        ("remove", {"removed_container": "c1"}),
        ("unheard-of", {}),
    ],
)
def test_the_steps_of_a_stop(action: str, fields: dict[str, Any]) -> None:
    """Each step that was done is remembered with its container."""
    told: dict[str, Any] = {"attempt": "a1", "action": action, "container": "c1"}
    found = known(make.event("attempt", **told), make.event("done", **told))
    assert found == ReplicaHistory(closed_at=NOW, **fields)


def test_a_step_that_was_not_done_is_remembered_as_tried() -> None:
    """What the runtime would not do has a time and a container, and no other effect."""
    told: dict[str, Any] = {"attempt": "a1", "action": "remove", "container": "c1"}
    assert known(make.event("attempt", **told), make.event("undone", **told)) == ReplicaHistory(
        closed_at=NOW, undone_at=NOW, undone_container="c1", undone_action="remove"
    )


def test_a_start_that_fails_is_a_failure_only_where_it_is_held_against_the_replica() -> None:
    """A refused start counts; one under which the engine went away does not."""
    began, _ = make.started(at=NOW)
    told: dict[str, Any] = {"attempt": "s-c1", "error": "port taken"}
    assert known(began, make.event("undone", reason="runtime_error", **told)).failure is None
    counted = make.event("undone", reason="start_refused", **told, failures=2)
    assert known(began, counted).failure == Failure(
        reason="start_refused", at=NOW, count=2, evidence={**told, "failures": 2}
    )
    again = make.event("attempt", attempt="a2", action="start")
    refused = make.event("undone", reason="start_refused", attempt="a2", failures=3)
    after = known(make.served(), again, refused).failure
    assert after is not None
    assert after.container == "c1"


def test_a_drain_lasts_until_it_is_done() -> None:
    """A drain is remembered with its deadline and who must see it; ended, it leaves no trace."""
    told: dict[str, Any] = {"action": "drain", "container": "c1"}
    drain = make.event("attempt", **told, deadline_seconds=30.0, seq=7, instance=INSTANCE)
    assert known(drain) == ReplicaHistory(
        draining_container="c1",
        draining_at=NOW,
        draining_seconds=30.0,
        draining_seq=7,
        draining_instance=INSTANCE,
    )
    ended = known(drain, make.event("done", reason="wanted_again", **told))
    assert (ended.draining_container, ended.draining_at, ended.draining_seconds) == ("", 0.0, 0.0)


def test_a_restart_is_a_start_and_one_taken_up_again_is_neither() -> None:
    """Starts after a failure are counted apart, and an interrupted one once."""
    told: dict[str, Any] = {"attempt": "a1", "action": "start"}
    restart = make.event("attempt", at=NOW, **told, restart=True)
    again = make.event("attempt", at=NOW + 1, **told, restart=False, resumed=True)
    found = known(make.failed(), restart, again)
    assert (found.starts, found.restarts) == ((NOW,), (NOW,))
    assert found.failure is not None


def test_a_start_that_was_asked_for_forgives() -> None:
    """A start that is no restart forgets the failure before it."""
    assert known(make.failed(), make.started(at=NOW)).failure is None


def test_starts_are_not_kept_for_ever() -> None:
    """As many starts are remembered as any budget can count, the newest ones."""
    events = [
        make.event("attempt", at=float(at), action="start", restart=True)
        for at in range(STARTS_KEPT + 3)
    ]
    found = known(*events)
    assert found.starts == found.restarts == tuple(float(at) for at in range(3, STARTS_KEPT + 3))


def test_a_new_container_starts_afresh() -> None:
    """Readiness, baseline, drains and stops belong to one container; its failures stay."""
    told: dict[str, Any] = {"attempt": "t", "action": "terminate", "container": "c1"}
    before = known(
        make.served(),
        make.event("baseline", container="c1", vram_bytes=5 * make.MIB),
        make.failed(),
        make.event("attempt", **told),
        make.event("done", **told),
    )
    assert (before.ready_container, before.baseline_bytes) == ("c1", 5 * make.MIB)
    assert before.terminated_container == "c1"
    restart = make.event("attempt", at=NOW + 5, attempt="a2", action="start", restart=True)
    done = make.event("done", at=NOW + 6, attempt="a2", container="c2", spec_digest="b")
    after = make.history(make.served(), make.failed(), restart, done).replica("chat-0")
    assert after == ReplicaHistory(
        container="c2",
        container_at=NOW + 6,
        spec_digest="b",
        failure=before.failure,
        starts=(NOW - 1000, NOW + 5),
        restarts=(NOW + 5,),
        closed_at=NOW + 6,
    )


def test_an_adopted_container_is_known_without_its_spec() -> None:
    """Of what was running before, the id is known and not what it was started with."""
    assert known(make.event("adopted", container="c7", attempt="x")) == ReplicaHistory(
        container="c7", container_at=NOW
    )


def test_what_is_adopted_with_a_used_budget_has_failed_before() -> None:
    """After the events were lost an adopted container counts as one that failed, long ago."""
    found = known(make.event("adopted", container="c7", failures=3)).failure
    assert found is not None
    assert (found.count, found.container, found.at) == (3, "", 0.0)


@pytest.mark.parametrize("value", ["many", None])
def test_evidence_that_is_no_number_counts_as_none(value: str | None) -> None:
    """An Event of another version that says something else where a number was is read as 0."""
    failure = known(make.event("failed", container="c1", failures=value)).failure
    assert failure is not None
    assert failure.count == 0


def fetching(kind: str, **evidence: Any) -> tuple[Event, ...]:
    """A start that found no image, and what became of the fetching."""
    start: dict[str, Any] = {"attempt": "a1", "action": "start"}
    return (
        make.event("attempt", **start),
        make.event("undone", reason="image_missing", attempt="a1", missing_image="engine:1"),
        make.event("attempt", attempt="f1", action="fetch"),
        *([make.event(kind, attempt="f1", **evidence)] if kind else []),
    )


@pytest.mark.parametrize(
    ("kind", "evidence", "missing"),
    [
        pytest.param("", {}, "engine:1", id="under-way"),
        pytest.param("done", {}, "", id="fetched"),
        pytest.param("undone", {}, "engine:1", id="not-fetched"),
        pytest.param("undone", {"withdrawn": True}, "engine:1", id="withdrawn"),
    ],
)
def test_a_missing_image_is_known_until_it_is_fetched(
    kind: str, evidence: dict[str, Any], missing: str
) -> None:
    """A start that found no image is tried again when there is one, and did not fail."""
    found = known(*fetching(kind, **evidence))
    assert (found.missing_image, found.starts) == (missing, ())
    assert found.failure is None


def test_a_start_that_found_no_image_is_no_restart() -> None:
    """The start that follows the fetching is the one that counts, and the only one."""
    failed = make.failed(at=NOW - 9)
    told: dict[str, Any] = {"action": "start", "restart": True}
    begun = make.event("attempt", at=NOW - 8, attempt="a0", **told)
    done = make.event("done", at=NOW - 8, attempt="a0", container="c2")
    found = known(
        make.served(),
        failed,
        begun,
        done,
        make.event("attempt", attempt="a1", **told),
        make.event("undone", reason="image_missing", attempt="a1", missing_image="engine:1"),
    )
    assert (found.restarts, found.starts) == ((NOW - 8,), (NOW - 1000, NOW - 8))
    assert (found.start_undone, found.failure) == (
        True,
        Failure(reason="exit_1", at=NOW - 9, count=1, container="c1", evidence=failed.evidence),
    )


def test_an_image_that_is_missing_again_and_again_is_a_failure() -> None:
    """Where it is held against the replica the fetching waits for its back-off."""
    missing: dict[str, Any] = {"reason": "image_missing", "missing_image": "engine:1"}
    found = known(
        *fetching("done"),
        make.event("attempt", attempt="a2", action="start"),
        make.event("undone", attempt="a2", failures=2, **missing),
    )
    assert found.failure is not None
    assert (found.failure.count, found.missing_image, found.start_undone) == (2, "engine:1", True)


def test_an_image_that_cannot_be_fetched_is_a_failure() -> None:
    """What the registry refuses waits for its back-off, as a refused start does."""
    found = known(*fetching("undone", failures=2))
    assert found.failure is not None
    assert (found.failure.count, found.undone_at, found.missing_image) == (2, NOW, "engine:1")


def test_running_out_of_vram_is_remembered_across_containers() -> None:
    """Eight of them, with their words; the failure that it explains gets its name."""
    told = {"container": "c1", "line": "CUDA out of memory"}
    events = [make.event("cuda_oom", "chat-0", "cuda_oom", NOW + n, **told) for n in range(10)]
    found = known(make.started(), make.failed(), *events)
    assert [oom.at for oom in found.ooms] == [NOW + n for n in range(2, 10)]
    assert found.failure is not None
    assert (found.failure.reason, found.ooms[0].line) == ("cuda_oom", "CUDA out of memory")
    assert known(*events, make.started(id_="c2")).ooms == found.ooms


def test_a_later_failure_keeps_its_own_name() -> None:
    """What an older container ran out of explains nothing of this one."""
    oom = make.event("cuda_oom", "chat-0", "cuda_oom", container="c0", line="x")
    found = known(make.started(), make.failed(), oom)
    assert found.failure is not None
    assert found.failure.reason == "exit_1"
    assert known(oom).failure is None
