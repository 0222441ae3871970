"""Each state of a replica as its phase, the reason for it, and since when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import Condition, Event, Snapshot
from tests import make
from tests.make import AT, NOW
from tests.status_bench import BUSY, DEAD, READY, RUNNING, drain, published, row


def steps(*names: str) -> list[Event]:
    """Return the events of these steps of a stop, the last one still under way."""
    told = [{"attempt": name, "action": name, "container": "c1"} for name in names]
    events = [
        make.event(kind, "chat-0", "stop", NOW - 1, **each)
        for each in told
        for kind in ("attempt", "done")
    ]
    return events[:-1]


FAILED = make.failed()


@pytest.mark.parametrize(
    ("now", "past", "held", "wait", "phase"),
    [
        pytest.param(
            make.snapshot(), make.history(), None, None, ("pending", ""), id="not-started-yet"
        ),
        pytest.param(
            make.snapshot(),
            make.history(make.started()[0]),
            None,
            None,
            ("pending", "wanted"),
            id="being-started",
        ),
        pytest.param(
            make.snapshot(),
            make.history(make.event("attempt", attempt="r", action="remove")),
            None,
            None,
            ("pending", ""),
            id="being-removed",
        ),
        pytest.param(
            DEAD, make.history(make.served(), FAILED), None, None, ("pending", "exit_1"), id="dead"
        ),
        pytest.param(
            make.snapshot(),
            make.history(),
            None,
            Wait(reason="load_slots_taken"),
            ("pending", "load_slots_taken"),
            id="waits-for-a-slot",
        ),
        pytest.param(
            make.snapshot(),
            make.history(),
            None,
            Wait(reason="gpu_avoided"),
            ("failed", "gpu_avoided"),
            id="its-gpu-is-lost",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="host_fault", until=NOW + 9),
            ("backoff", "host_fault"),
            id="host-fault",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="backoff", until=NOW + 9),
            ("backoff", "exit_1"),
            id="back-off",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="action_failed", until=NOW + 5),
            ("backoff", "exit_1"),
            id="was-not-carried-out",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="crash_loop", until=NOW + 9),
            ("backoff", "crash_loop: exit_1"),
            id="crash-loop",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), make.event("intent", reason="stop")),
            None,
            None,
            ("stopped", "stop"),
            id="stopped",
        ),
        pytest.param(
            make.snapshot(),
            make.history(cautious=True),
            None,
            None,
            ("stopped", "events_lost"),
            id="cautious",
        ),
        pytest.param(
            make.snapshot(make.container()),
            make.history(make.started()),
            None,
            None,
            ("loading", ""),
            id="loading",
        ),
        pytest.param(RUNNING, READY, None, None, ("ready", ""), id="ready"),
        pytest.param(
            make.snapshot(make.container(), probes=[BUSY]),
            READY,
            None,
            None,
            ("busy", ""),
            id="busy",
        ),
        pytest.param(
            RUNNING,
            READY,
            make.condition(state="degraded", reason="health_slow"),
            None,
            ("degraded", "health_slow"),
            id="degraded",
        ),
        pytest.param(
            RUNNING,
            READY,
            make.condition(state="unknown", reason="runtime_unread"),
            None,
            ("ready", ""),
            id="unknown-is-no-fault",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), drain()),
            None,
            None,
            ("draining", "stopping"),
            id="draining",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), *steps("terminate")),
            None,
            None,
            ("ready", ""),
            id="being-told-to-end",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), *steps("terminate", "kill")),
            None,
            None,
            ("draining", "stop"),
            id="told-to-end",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), FAILED, *steps("terminate", "kill")),
            None,
            None,
            ("draining", "exit_1"),
            id="failed-and-told-to-end",
        ),
    ],
)
def test_phase(
    now: Snapshot,
    past: History,
    held: Condition | None,
    wait: Wait | None,
    phase: tuple[str, str],
) -> None:
    """Each state of a replica has its phase and the reason for it."""
    conditions = [held] if held else []
    found = row(now, past, *conditions, waits={"chat-0": wait} if wait else {})
    assert (found["phase"], found["reason"]) == phase


def test_a_phase_holds_since_it_began() -> None:
    """A phase keeps its time while it holds, and a new one begins now."""
    before = published()
    later = replace(RUNNING, at=AT + 60, boot_seconds=NOW + 60)
    assert row(later, before=before)["since"] == before["replicas"][0]["since"]
    assert row(replace(later, probes={}, owned={}), before=before)["since"] == AT + 60


def test_a_new_daemon_is_not_a_new_replica() -> None:
    """The first Status after a start knows since when a replica has been ready."""
    assert row()["since"] == AT - 1000
    assert row(DEAD)["since"] == AT
