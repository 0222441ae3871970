"""How hot a card is, by its own limits where it tells them."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.heat import LEVELS, critical_celsius, heat, ladder
from gpuctl.model import GpuFacts, WatchdogSettings
from tests import make

SETTINGS = WatchdogSettings()


@pytest.mark.parametrize(
    ("celsius", "before", "found"),
    [
        (64.9, "", "normal"), (65.0, "", "warning"), (79.0, "", "warning"),
        (80.0, "", "throttling"), (84.9, "", "throttling"), (85.0, "", "critical"),
        (82.0, "critical", "critical"), (81.9, "critical", "throttling"),
        (76.9, "throttling", "warning"), (61.9, "warning", "normal"),
    ],
)  # fmt: skip
def test_the_four_levels(celsius: float, before: str, found: str) -> None:
    """From 65, 80 and 85 °C on; a level is left 3 °C below."""
    assert heat(make.gpu(temperature_celsius=celsius), SETTINGS, before) == found


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"temperature_celsius": None}, id="not-reported"),
        pytest.param({"temperature_celsius": 90.0, "state": "lost"}, id="lost"),
    ],
)
def test_what_is_not_reported_has_no_level(fields: dict[str, Any]) -> None:
    assert heat(make.gpu(**fields), SETTINGS) == ""


@pytest.mark.parametrize(
    ("name", "slowdown", "written", "critical"),
    [
        pytest.param("P106-100", None, None, 85.0, id="no-facts"),
        pytest.param("NVIDIA A100-SXM4-80GB", None, None, 83.0, id="an-a100"),
        pytest.param("P106-100", 99.0, None, 85.0, id="slows-down-above"),
        pytest.param("P106-100", 82.0, None, 82.0, id="slows-down-below"),
        pytest.param("NVIDIA A100-SXM4-80GB", 82.0, 90.0, 90.0, id="the-profile-wins"),
    ],
)
def test_where_a_card_is_critical(
    name: str, slowdown: float | None, written: float | None, critical: float
) -> None:
    """85 °C, 83 on an A100, or the card's own slowdown below that; the profile above all."""
    settings = WatchdogSettings(heat_critical_celsius=written)
    gpu = make.gpu(name=name, facts=GpuFacts(temperature_slowdown_celsius=slowdown))
    assert critical_celsius(gpu, settings) == critical


def test_hotter_cards_get_fewer_requests() -> None:
    """The table has the ladder's levels, each with less weight than the one below."""
    assert list(LEVELS) == [name for name, _ in ladder(make.gpu(), SETTINGS)]
    weights = [each.weight for each in LEVELS.values()]
    assert weights == sorted(weights, reverse=True)
    assert (weights[0], weights[-1]) == (1.0, 0.0)
