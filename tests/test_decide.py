"""One row per rung of the ladder: a snapshot and a history in, exact actions out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.history import History
from gpuctl.model import Action, Drain, Snapshot, Start, Stop
from tests import make
from tests.decide_bench import EXITED, NOTHING, RUNNING, decided, terminate
from tests.make import NOW


@pytest.mark.parametrize(
    ("now", "past", "actions"),
    [
        pytest.param(
            make.snapshot(errors={"runtime": "connection refused"}),
            make.history(),
            (),
            id="0-runtime-unread",
        ),
        pytest.param(
            replace(NOTHING, runtime_boot_seconds=None), make.history(), (), id="0-never-read"
        ),
        pytest.param(
            NOTHING,
            make.history(make.started()[0]),
            (),
            id="1-attempt-under-way",
        ),
        pytest.param(
            NOTHING,
            make.history(
                make.event(
                    "attempt", reason="exit_1", attempt="a9", action="start", instance="dead"
                )
            ),
            (Start(replica="chat-0", reason="exit_1", attempt="a9"),),
            id="1-interrupted-start-is-taken-up-again",
        ),
        pytest.param(
            RUNNING,
            make.history(
                make.served(),
                make.event(
                    "attempt",
                    reason="stop",
                    attempt="a9",
                    action="kill",
                    container="c1",
                    instance="dead",
                ),
            ),
            (Stop(replica="chat-0", container="c1", reason="stop", step="kill", attempt="a9"),),
            id="1-interrupted-stop-is-taken-up-again",
        ),
        pytest.param(
            make.snapshot(
                make.container(id_="c2"),
                make.container(id_="c1", name="gpuctl-chat-0.old-c1", state="exited"),
            ),
            make.history(make.served(id_="c2")),
            (Stop(replica="chat-0", container="c1", reason="replaced", step="remove"),),
            id="2-aside-and-ended-is-removed",
        ),
        pytest.param(
            make.snapshot(
                make.container(id_="c2"),
                make.container(id_="c1", name="gpuctl-chat-0.old-c1"),
            ),
            make.history(make.served(id_="c2")),
            (Stop(replica="chat-0", container="c1", reason="replaced", step="kill"),),
            id="2-aside-and-running-is-killed",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served()),
            (),
            id="paused-is-the-operator's",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served(), make.failed()),
            (),
            id="paused-is-not-mended",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served(), make.event("intent", reason="stop")),
            (terminate("stop"),),
            id="8-paused-is-not-drained",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event("attempt", attempt="t", action="terminate", container="c1"),
                make.event("done", attempt="t", container="c1"),
            ),
            (Stop(replica="chat-0", container="c1", reason="grace_over", step="kill"),),
            id="8-paused-has-no-grace",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.event("intent", reason="down")),
            (terminate("down"),),
            id="8-paused-before-it-was-adopted",
        ),
        pytest.param(
            NOTHING, make.history(make.event("intent", reason="stop")), (), id="3-not-wanted"
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.event("intent", subject="", reason="down")),
            (Stop(replica="chat-0", container="c1", reason="down", step="remove"),),
            id="3-what-is-left-after-down-is-removed",
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.event("intent", reason="stop")),
            (),
            id="3-what-is-left-after-stop-is-kept",
        ),
        pytest.param(
            NOTHING, make.history(), (Start(replica="chat-0", reason="wanted"),), id="5-first-start"
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.failed()),
            (
                Start(
                    replica="chat-0",
                    reason="exit_1",
                    restart=True,
                    evidence={"container": "c1", "failures": 1},
                ),
            ),
            id="5-restart-at-once-after-the-first-failure",
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.failed(reason="runtime_restarted", failures=0)),
            (
                Start(
                    replica="chat-0",
                    reason="runtime_restarted",
                    evidence={"container": "c1", "failures": 0},
                ),
            ),
            id="5-an-excused-failure-is-no-restart",
        ),
        pytest.param(RUNNING, make.history(make.served()), (), id="6-running-as-wanted"),
        pytest.param(
            make.snapshot(make.container(id_="new")),
            make.history(make.served()),
            (),
            id="6-not-adopted-yet",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.failed(reason="health_refused")),
            (terminate("health_refused"),),
            id="7-failed-goes-without-a-drain",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.event("intent", reason="stop")),
            (
                Drain(replica="chat-0", container="c1", reason="stop", deadline_seconds=30.0),
            ),
            id="7-stop-drains-first",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.event("intent", subject="chat", reason="renew")),
            (
                Drain(replica="chat-0", container="c1", reason="renew", deadline_seconds=30.0),
            ),
            id="7-renew",
        ),
        pytest.param(
            make.snapshot(make.container(digest="v1:old")),
            make.history(make.served()),
            (
                Drain(
                    replica="chat-0",
                    container="c1",
                    reason="profile_changed",
                    deadline_seconds=30.0,
                ),
            ),
            id="7-profile-changed",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=2)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 5,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (),
            id="8-draining-and-busy",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=0)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 5,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (terminate("stop"),),
            id="8-drained",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=2)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 31,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (terminate("stop"),),
            id="8-past-its-drain-deadline",
        ),
    ],
)  # fmt: skip
def test_ladder(now: Snapshot, past: History, actions: tuple[Action, ...]) -> None:
    """Each rung gives exactly its actions."""
    assert decided(now, past).actions == actions


def test_caution_keeps_what_runs_and_starts_nothing_else() -> None:
    """After the events were lost nothing that was down is started before the next `up`."""
    cautious = make.history(make.event("adopted", container="c1"), cautious=True)
    assert decided(RUNNING, cautious).actions == ()
    assert [type(a) for a in decided(EXITED, cautious).actions] == [Start]
    assert decided(EXITED, make.history(cautious=True)).actions == ()
    asked = make.history(make.event("intent", subject="", reason="up"), cautious=True)
    assert [type(a) for a in decided(EXITED, asked).actions] == [Start]
