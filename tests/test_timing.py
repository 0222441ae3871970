"""When the loop must look again."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import Condition
from gpuctl.timing import gpus_wanted, next_tick
from tests import make
from tests.make import NOW

QUIET = make.snapshot()


def step(action: str, at: float) -> History:
    told: dict[str, Any] = {"attempt": "a", "action": action, "container": "c1"}
    return make.history(
        make.served(),
        make.event("attempt", at=at, deadline_seconds=2.0, **told),
        make.event("done" if action != "remove" else "undone", at=at, attempt="a", container="c1"),
    )


@pytest.mark.parametrize(
    ("past", "held", "waits", "seconds"),
    [
        pytest.param(make.history(), [], {}, 5.0, id="nothing-due"),
        pytest.param(
            make.history(), [], {"a": Wait(reason="backoff", until=NOW + 3)}, 3.0, id="back-off"
        ),
        pytest.param(
            make.history(), [], {"a": Wait(reason="backoff", until=NOW + 300)}, 5.0, id="far-off"
        ),
        pytest.param(
            make.history(), [], {"a": Wait(reason="backoff", until=NOW - 1)}, 5.0, id="past"
        ),
        pytest.param(
            make.history(), [], {"a": Wait(reason="load_slots_taken")}, 5.0, id="without-a-time"
        ),
        pytest.param(
            make.history(), [], {"a": Wait(reason="vram_held")}, 5.0, id="a-reading-wakes-it"
        ),
        pytest.param(
            make.history(), [make.condition(since=NOW - 6, patience_seconds=10.0)], {}, 4.0,
            id="patience",
        ),
        pytest.param(make.history(), [make.condition(since=NOW - 6)], {}, 5.0, id="no-patience"),
        pytest.param(
            make.history(),
            [make.condition(since=NOW - 6, patience_seconds=10.0, state="degraded")],
            {},
            5.0,
            id="degraded",
        ),
        pytest.param(step("drain", NOW - 1), [], {}, 1.0, id="drain-deadline"),
        pytest.param(step("terminate", NOW - 3), [], {}, 2.0, id="failed-grace"),
        pytest.param(step("terminate", NOW - 29), [], {}, 1.0, id="stop-grace"),
        pytest.param(step("remove", NOW - 4), [], {}, 1.0, id="undone"),
    ],
)  # fmt: skip
def test_next_tick(
    past: History, held: list[Condition], waits: dict[str, Wait], seconds: float
) -> None:
    """The loop looks again after the interval, or when something is due before."""
    found = next_tick(make.plan(), QUIET, make.conditions(*held), past, waits)
    assert found == NOW + seconds


@pytest.mark.parametrize(
    ("held", "waits", "wanted"),
    [
        pytest.param([], {}, False, id="nothing"),
        pytest.param([], {"a": Wait(reason="vram_held")}, True, id="a-start-waits"),
        pytest.param([], {"a": Wait(reason="backoff")}, False, id="another-wait"),
        pytest.param(
            [make.condition("vram", since=NOW - 1, patience_seconds=1.0, patience_readings=2)],
            {},
            True,
            id="a-second-reading-is-due",
        ),
        pytest.param(
            [make.condition("vram", patience_seconds=1.0, patience_readings=2)],
            {},
            False,
            id="too-early",
        ),
        pytest.param(
            [make.condition("vram", since=NOW - 1, readings=2, patience_seconds=1.0)],
            {},
            False,
            id="read-often-enough",
        ),
        pytest.param([make.condition("vram", patience_readings=3)], {}, False, id="at-its-pace"),
        pytest.param([make.condition("vram", state="ok")], {}, False, id="ok"),
        pytest.param(
            [make.condition("health", since=NOW - 9, patience_seconds=1.0, patience_readings=2)],
            {},
            False,
            id="another-check",
        ),
    ],
)
def test_gpus_wanted(held: list[Condition], waits: dict[str, Wait], wanted: bool) -> None:
    """The GPUs are read at once where a decision waits for nothing but their next reading."""
    assert gpus_wanted(make.conditions(*held), waits, QUIET) is wanted
