"""Heat and what slows a card down: told, and only a card about to turn itself off is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import power_brake, thermal, throttle
from gpuctl.model import GpuFacts, GpuReading, Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.trends import GpuTrend, Trends
from tests import make

FACTS = GpuFacts(temperature_shutdown_celsius=102.0, memory_temperature_max_celsius=95.0)


def scene(gpu: GpuReading, **trend: Any) -> Scene:
    made = make.scene(make.snapshot(gpus=[gpu]))
    return replace(made, trends=Trends(gpus={"GPU-0": GpuTrend(**trend)}))


def ran(check: Check, gpu: GpuReading, **trend: Any) -> tuple[Verdict, ...]:
    return tuple(check.run(scene(gpu, **trend)))


@pytest.mark.parametrize(
    ("celsius", "level", "state", "reason", "remedy"),
    [
        pytest.param(60.0, "normal", "ok", "", "none", id="normal"),
        pytest.param(70.0, "warning", "ok", "", "none", id="warning-is-everyday"),
        pytest.param(81.0, "throttling", "degraded", "heat_throttling", "none", id="throttling"),
        pytest.param(90.0, "critical", "degraded", "heat_critical", "none", id="critical"),
        pytest.param(98.9, "critical", "degraded", "heat_critical", "none", id="4-below-shutdown"),
        pytest.param(99.0, "critical", "failed", "near_shutdown", "avoid", id="3-below-shutdown"),
    ],
)
def test_thermal(celsius: float, level: str, state: str, reason: str, remedy: str) -> None:
    """Heat alone is told; only within 3 °C of its own shutdown a card is avoided."""
    (verdict,) = ran(thermal.CHECK, make.gpu(temperature_celsius=celsius, facts=FACTS), heat=level)
    assert (verdict.state, verdict.reason, verdict.remedy) == (state, reason, remedy)
    assert verdict.patience_readings == (2 if remedy == "avoid" else 1)


@pytest.mark.parametrize(
    ("celsius", "reason"),
    [
        pytest.param(98.0, "near_shutdown", id="a-degree-cooler-is-no-change"),
        pytest.param(96.0, "near_shutdown", id="at-the-margin"),
        pytest.param(95.9, "heat_critical", id="below-it"),
    ],
)
def test_a_card_near_its_shutdown_cools_before_it_is_used_again(
    celsius: float, reason: str
) -> None:
    """As a level of heat is left: else a start would heat what has just been let go of."""
    found = scene(make.gpu(temperature_celsius=celsius, facts=FACTS), heat="critical")
    before = make.condition("thermal", "GPU-0", reason="near_shutdown")
    (verdict,) = thermal.CHECK.run(replace(found, before=make.conditions(before)))
    assert verdict.reason == reason


def test_what_is_told_of_heat() -> None:
    """The temperature, the card's own limit, and what is done about it."""
    gpu = make.gpu(temperature_celsius=90.0, facts=FACTS)
    (hot,) = ran(thermal.CHECK, gpu, heat="critical")
    assert hot.evidence == {
        "temperature_celsius": 90.0,
        "critical_celsius": 85.0,
        "does": "no new request that a sibling can take",
    }
    (off,) = ran(thermal.CHECK, replace(gpu, temperature_celsius=101.0), heat="critical")
    assert off.evidence["shutdown_celsius"] == 102.0


@pytest.mark.parametrize(
    ("memory", "facts", "reason"),
    [
        pytest.param(95.0, FACTS, "memory_hot", id="at-its-limit"),
        pytest.param(94.0, FACTS, "", id="below"),
        pytest.param(None, FACTS, "", id="not-reported"),
        pytest.param(120.0, None, "", id="no-limit-known"),
    ],
)
def test_memory_has_a_limit_of_its_own(
    memory: float | None, facts: GpuFacts | None, reason: str
) -> None:
    gpu = make.gpu(temperature_celsius=60.0, memory_temperature_celsius=memory, facts=facts)
    (verdict,) = ran(thermal.CHECK, gpu, heat="normal")
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("check", "minutes", "reason"),
    [
        pytest.param(throttle.CHECK, {"slowed": range(5)}, "", id="heat: 5 of 10 minutes"),
        pytest.param(throttle.CHECK, {"slowed": range(6)}, "slowed_by_heat", id="heat: 6 of 10"),
        pytest.param(throttle.CHECK, {"braked": range(9)}, "", id="heat: by power only"),
        pytest.param(power_brake.CHECK, {"braked": range(5)}, "", id="power: 5 of 10"),
        pytest.param(power_brake.CHECK, {"braked": range(6)}, "slowed_by_power", id="power: 6"),
        pytest.param(power_brake.CHECK, {"slowed": range(9)}, "", id="power: by heat only"),
    ],
)
def test_slowdowns_count_by_the_minute(
    check: Check, minutes: dict[str, range], reason: str
) -> None:
    """0.6 a minute over ten minutes, of each kind by itself; nothing is done about it."""
    seen = {name: tuple(each) for name, each in minutes.items()}
    (verdict,) = ran(check, make.gpu(throttle_reasons=()), **seen)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert verdict.remedy == "none"


@pytest.mark.parametrize("check", [thermal.CHECK, throttle.CHECK, power_brake.CHECK])
def test_what_a_card_does_not_report_is_not_judged(check: Check) -> None:
    """No temperature, no reasons: no verdict."""
    assert ran(check, make.gpu(throttle_reasons=None)) == ()
    assert ran(check, make.gpu(state="lost", temperature_celsius=99.0)) == ()
