"""Which GPUs nothing may be started on, which are left, and which are cordoned."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.avoidance import avoided, cordons, left
from gpuctl.history import Cordon
from tests import make
from tests.make import NOW

LOST: dict[str, Any] = {"check": "gpu_missing", "reason": "gpu_lost", "remedy": "avoid"}


@pytest.mark.parametrize(
    ("fields", "kept_free", "moved_from"),
    [
        pytest.param({}, {"GPU-0": "gpu_lost"}, {"GPU-0": "gpu_lost"}, id="lost"),
        pytest.param({"patience_seconds": 5.0}, {}, {}, id="not-for-long-enough"),
        pytest.param({"patience_readings": 2}, {}, {}, id="not-often-enough"),
        pytest.param({"state": "degraded"}, {}, {}, id="degraded"),
        pytest.param({"remedy": "none"}, {}, {}, id="told-only"),
        pytest.param(
            {"check": "thermal", "reason": "near_shutdown"},
            {"GPU-0": "near_shutdown"},
            {},
            id="hot",
        ),
        pytest.param(
            {"reason": "gpu_missing"}, {"GPU-0": "gpu_missing"}, {}, id="missing-from-one-reading"
        ),
        pytest.param(
            {"reason": "gpu_missing", "readings": 2, "since": NOW - 2},
            {"GPU-0": "gpu_missing"},
            {"GPU-0": "gpu_missing"},
            id="missing-from-two",
        ),
        pytest.param(
            {"reason": "gpu_missing", "readings": 9, "since": NOW - 1.9},
            {"GPU-0": "gpu_missing"},
            {},
            id="missing-from-many-in-a-moment",
        ),
        pytest.param(
            {"reason": "gpu_missing", "since": NOW - 60},
            {"GPU-0": "gpu_missing"},
            {},
            id="missing-from-one-long-ago",
        ),
    ],
)
def test_what_is_avoided_and_what_is_left(
    fields: dict[str, Any], kept_free: dict[str, str], moved_from: dict[str, str]
) -> None:
    """A verdict with that remedy whose patience is used up; heat and a first look move nothing."""
    held = make.conditions(make.condition(subject="GPU-0", **{**LOST, **fields}))
    assert (avoided(held, NOW), left(held, NOW)) == (kept_free, moved_from)


def test_only_cordons_in_force_are_told() -> None:
    """A GPU of which something else is remembered has none, and one that was given back neither."""
    past = make.history(
        make.event("cordoned", "GPU-0", "gpu_lost"),
        make.event("xid", "GPU-1", "79"),
        make.event("intent", "GPU-2", "cordon", note="new fan", uid=1000),
        make.event("intent", "GPU-3", "cordon"),
        make.event("intent", "GPU-3", "uncordon"),
    )
    operator = Cordon(reason="cordoned", at=NOW, by_operator=True, note="new fan", uid=1000)
    assert cordons(past) == {"GPU-0": Cordon(reason="gpu_lost", at=NOW), "GPU-2": operator}
