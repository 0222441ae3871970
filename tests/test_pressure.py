"""How full a card is, and what another model may take of it."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.model import WatchdogSettings
from gpuctl.pressure import LEVELS, ladder, pressure, room_bytes
from tests import make

SETTINGS = WatchdogSettings()
TOTAL = 10_000


@pytest.mark.parametrize(
    ("used", "before", "found"),
    [
        (0, "", "low"), (4_999, "", "low"), (5_000, "", "normal"), (6_999, "", "normal"),
        (7_000, "", "high"), (8_500, "", "critical"), (9_499, "", "critical"),
        (9_500, "", "full"), (10_000, "", "full"),
        (9_300, "full", "full"), (9_299, "full", "critical"), (4_799, "normal", "low"),
    ],
)  # fmt: skip
def test_the_five_levels(used: int, before: str, found: str) -> None:
    """Below 50 %, 70 %, 85 %, 95 % and from there on; a level is left 2 % below."""
    gpu = make.gpu(memory_used_bytes=used, memory_total_bytes=TOTAL)
    assert pressure(gpu, SETTINGS, before) == found


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"memory_used_bytes": None}, id="not-reported"),
        pytest.param({"memory_used_bytes": 1, "memory_total_bytes": None}, id="no-total"),
        pytest.param({"memory_used_bytes": 1, "state": "lost"}, id="lost"),
    ],
)
def test_what_is_not_reported_has_no_level(fields: dict[str, Any]) -> None:
    assert pressure(make.gpu(**fields), SETTINGS) == ""


@pytest.mark.parametrize(
    ("level", "used", "room"),
    [
        pytest.param("low", 4_000, 6_000, id="low: all that is free"),
        pytest.param("normal", 6_000, 3_500, id="normal: up to full"),
        pytest.param("high", 8_000, 500, id="high: up to critical"),
        pytest.param("high", 8_600, 0, id="high: never less than nothing"),
        pytest.param("critical", 9_000, 0, id="critical: nothing"),
        pytest.param("full", 9_900, 0, id="full: nothing"),
    ],
)
def test_each_level_leaves_less_room(level: str, used: int, room: int) -> None:
    """What another model may take shrinks from level to level, down to nothing."""
    assert room_bytes(level, used, TOTAL, SETTINGS) == room


def test_the_table_and_the_ladder_are_of_the_same_levels() -> None:
    """No level is without its action, and each has one of its own."""
    assert list(LEVELS) == [name for name, _ in ladder(SETTINGS)]
    assert len({each.action for each in LEVELS.values()}) == len(LEVELS)
