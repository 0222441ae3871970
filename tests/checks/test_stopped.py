"""How an end is classified."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks.stopped import CHECK
from gpuctl.history import History
from gpuctl.model import Event, Snapshot, Verdict
from tests import make


def judged(now: Snapshot, past: History) -> Verdict | None:
    verdicts = list(CHECK.run(make.scene(now, past=past)))
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"exit_code": 0}, "exit_0", id="exit-0"),
        pytest.param({"exit_code": 3}, "exit_3", id="exit-3"),
        pytest.param({"exit_code": 137}, "killed", id="137"),
        pytest.param({"exit_code": 137, "oom_killed": True}, "oom_killed", id="137-oom"),
        pytest.param({"exit_code": 143}, "terminated", id="143"),
        pytest.param({"exit_code": 139}, "crashed", id="139"),
        pytest.param({"exit_code": None}, "exited", id="unknown"),
        pytest.param({"exit_code": 127, "error": "no such file"}, "start_error", id="error"),
    ],
)
def test_classification(fields: dict[str, Any], reason: str) -> None:
    """The exit code, the OOM flag and the runtime's words each have a reason of their own."""
    verdict = judged(
        make.snapshot(make.container(state="exited", **fields)), make.history(make.served())
    )
    assert verdict is not None
    assert (verdict.state, verdict.reason, verdict.remedy) == ("failed", reason, "restart")
    assert verdict.evidence["container"] == "c1"


def test_a_signal_is_named() -> None:
    """Exit 139 is told as SIGSEGV."""
    verdict = judged(
        make.snapshot(make.container(state="exited", exit_code=139)), make.history(make.served())
    )
    assert verdict is not None
    assert verdict.evidence["signal"] == "SIGSEGV"


def test_the_end_is_told_when_it_came() -> None:
    """The runtime's own time of the end is in the evidence."""
    ended = make.container(state="exited", exit_code=1, finished_at=5.0, error="x")
    verdict = judged(make.snapshot(ended), make.history(make.served()))
    assert verdict is not None
    assert (verdict.evidence["finished_at"], verdict.evidence["error"]) == (5.0, "x")


@pytest.mark.parametrize(
    ("signalled", "memory", "last", "told"),
    [
        (True, None, None, {"signalled": True}),
        (False, 100, 99, {"signalled": False, "last_memory_bytes": 99, "memory_limit_bytes": 100}),
        (False, None, 99, {"signalled": False, "last_memory_bytes": 99}),
    ],
    ids=["by-a-client", "near-its-limit", "without-a-limit"],
)
def test_a_kill_is_told_with_what_is_known_of_it(
    signalled: bool, memory: int | None, last: int | None, told: dict[str, Any]
) -> None:
    """Whether a client sent the signal, and the RAM it held when it was last seen alive."""
    spec = replace(make.replica().spec, memory_bytes=memory)
    past = make.history(make.served())
    alive = make.scene(make.snapshot(make.container(memory_bytes=last)), past=past)
    (before,) = CHECK.run(alive)
    dead = make.container(state="exited", exit_code=137, signalled=signalled)
    held = make.condition(**{name: getattr(before, name) for name in before.__slots__})
    now = make.scene(
        make.snapshot(dead), make.replica(spec=spec), past=past, before=[held] if last else []
    )
    (verdict,) = CHECK.run(now)
    ended = {"container": "c1", "state": "exited", "oom_killed": False, "exit_code": 137}
    assert (verdict.reason, verdict.evidence) == ("killed", {**ended, **told})


def test_the_memory_of_another_container_is_no_evidence() -> None:
    """What the container before it held says nothing of this one's end."""
    held = make.condition("stopped", state="ok", evidence={"container": "c0", "memory_bytes": 9})
    dead = make.snapshot(make.container(state="exited", exit_code=137))
    (verdict,) = CHECK.run(make.scene(dead, past=make.history(make.served()), before=[held]))
    assert "last_memory_bytes" not in verdict.evidence


def test_removed_by_another_client() -> None:
    """A container that is gone, with or without a trace, was removed by somebody else."""
    trace = make.container(state="removed", exit_code=137)
    for now in (make.snapshot(), make.snapshot(trace)):
        verdict = judged(now, make.history(make.served()))
        assert verdict is not None
        assert verdict.reason == "removed"
        assert verdict.evidence["removed_by"] == "another client"


@pytest.mark.parametrize("state", ["removing", "removed"])
def test_a_container_that_never_ran_may_go(state: str) -> None:
    """Who removes what was only created ends nothing; of one that ran and exited more is known."""
    begun = [
        make.event("attempt", attempt="s", action="start", restart=True),
        make.event("undone", reason="runtime_error", attempt="s"),
    ]
    for past in (make.history(begun), make.history(make.served(), begun)):
        assert judged(make.snapshot(make.container(id_="c2", state=state)), past) is None
        ended = make.container(id_="c2", state="exited", exit_code=1)
        verdict = judged(make.snapshot(ended), past)
        assert verdict is not None
        assert verdict.reason == "exit_1"


def test_what_we_ended_is_no_failure() -> None:
    """A container that we terminated or removed says nothing."""
    for action in ("terminate", "remove"):
        past = make.history(
            make.served(),
            *(
                make.event(k, attempt="t", action=action, container="c1")
                for k in ("attempt", "done")
            ),
        )
        gone = make.container(state="exited", exit_code=143)
        assert judged(make.snapshot(gone), past) is None
    assert judged(make.snapshot(), past) is None


def test_what_was_never_started_says_nothing() -> None:
    """No container, or one that is only created, is no failure."""
    assert judged(make.snapshot(), make.history()) is None
    created = make.container(state="created")
    assert judged(make.snapshot(created), make.history(make.served())) is None


def test_paused_is_degraded() -> None:
    """A paused container is somebody's doing, and is shown."""
    verdict = judged(make.snapshot(make.container(state="paused")), make.history(make.served()))
    assert verdict is not None
    assert (verdict.state, verdict.reason, verdict.remedy) == ("degraded", "paused", "none")


def test_an_unread_runtime_makes_everything_unknown() -> None:
    """While the engine cannot be reached nobody is stopped."""
    verdict = judged(make.snapshot(errors={"runtime": "down"}), make.history(make.served()))
    assert verdict is not None
    assert (verdict.state, verdict.reason) == ("unknown", "runtime_unread")


STARTING = make.event("attempt", attempt="s", action="start", restart=True)
TERMINATE: dict[str, Any] = {"attempt": "t", "action": "terminate", "container": "c1"}


@pytest.mark.parametrize(
    "done",
    [
        pytest.param([STARTING, make.event("undone", attempt="s")], id="a-start-begun"),
        pytest.param(
            [make.event("attempt", **TERMINATE), make.event("done", **TERMINATE)], id="told-to-end"
        ),
    ],
)
@pytest.mark.parametrize(
    "now",
    [
        pytest.param(make.snapshot(), id="gone"),
        pytest.param(make.snapshot(make.container(state="removed")), id="removed"),
        pytest.param(make.snapshot(make.container(state="exited")), id="exited"),
    ],
)
def test_what_we_did_to_a_container_is_no_failure(done: list[Event], now: Snapshot) -> None:
    """A start that went wrong half-way, or a stop, accounts for what is left of the container."""
    assert judged(now, make.history(make.served(), done)) is None
