"""A PCIe link that is slower than it should be, or loses packets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import pcie
from gpuctl.model import GpuFacts, GpuHealth, GpuReading, Verdict, WatchdogSettings
from gpuctl.trends import GpuTrend, Trends
from tests import make
from tests.make import NOW

FACTS = GpuFacts(pcie_generation_max=3, pcie_width_max=16)


def link(
    generation: int | None = 3,
    width: int | None = 16,
    *,
    busy: float | None = 0.9,
    replays: int | None = None,
    ago: float = 0.0,
) -> GpuHealth:
    return GpuHealth(
        pcie_generation=generation,
        pcie_width=width,
        pcie_utilization_ratio=busy,
        pcie_replays=replays,
        boot_seconds=NOW - ago,
    )


def ran(*aging: GpuHealth, **fields: Any) -> list[Verdict]:
    gpu: GpuReading = make.gpu(**{"health": aging[-1] if aging else None, "facts": FACTS, **fields})
    scene = make.scene(make.snapshot(gpus=[gpu]))
    trends = Trends(gpus={"GPU-0": GpuTrend(aging=tuple(aging))})
    return list(pcie.CHECK.run(replace(scene, trends=trends)))


@pytest.mark.parametrize(
    ("aging", "reason"),
    [
        pytest.param([link(), link()], "", id="as-it-should-be"),
        pytest.param([link(1), link(1)], "pcie_slow", id="a-lower-generation"),
        pytest.param([link(3, 4), link(3, 4)], "pcie_slow", id="fewer-lanes"),
        pytest.param([link(1)], "", id="seen-once"),
        pytest.param([link(1), link()], "", id="on-its-way-up"),
        pytest.param([link(1), link(1, busy=0.0)], "", id="once-under-load"),
        pytest.param([link(1, busy=0.0)] * 5, "", id="idle-cards-are-slow"),
        pytest.param([link(1, busy=None)] * 5, "", id="load-not-known"),
        pytest.param([link(1), link(1), link(1, busy=0.1)], "pcie_slow", id="idle-since"),
        pytest.param([link(None, None)] * 2, "", id="not-reported"),
    ],
)
def test_a_slow_link(aging: Sequence[GpuHealth], reason: str) -> None:
    """Judged by the last two readings under load: an idle card lowers its generation itself."""
    (verdict,) = ran(*aging)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert verdict.remedy == "none"


@pytest.mark.parametrize(("lanes", "reason"), [(1, ""), (2, "pcie_slow")])
def test_a_riser_has_the_lanes_that_it_is_meant_to_have(lanes: int, reason: str) -> None:
    """A card with one lane by design is judged by that, not by the sixteen it could have."""
    gpu = make.gpu(health=link(3, 1), facts=FACTS)
    scene = make.scene(make.snapshot(gpus=[gpu]), watchdog=WatchdogSettings(pcie_width=lanes))
    trends = Trends(gpus={"GPU-0": GpuTrend(aging=(link(3, 1), link(3, 1)))})
    (verdict,) = pcie.CHECK.run(replace(scene, trends=trends))
    assert (verdict.reason, verdict.evidence["width_max"]) == (reason, lanes)


def test_without_its_limits_no_link_is_slow() -> None:
    (verdict,) = ran(link(1), link(1), facts=None)
    assert verdict.state == "ok"


@pytest.mark.parametrize(
    ("aging", "reason"),
    [
        pytest.param([link(replays=0, ago=60), link(replays=8)], "", id="8-a-minute"),
        pytest.param([link(replays=0, ago=60), link(replays=9)], "pcie_replays", id="9-a-minute"),
        pytest.param([link(replays=0, ago=120), link(replays=16)], "", id="16-in-two"),
        pytest.param([link(replays=9, ago=60), link(replays=0)], "", id="counted-anew"),
        pytest.param([link(replays=None, ago=60), link(replays=99)], "", id="not-known-before"),
        pytest.param([link(replays=0, ago=60), link(replays=None)], "", id="not-known-now"),
        pytest.param([link(replays=999)], "", id="of-before"),
    ],
)
def test_packets_sent_again(aging: Sequence[GpuHealth], reason: str) -> None:
    """More than eight a minute are a cable, a riser or a slot."""
    (verdict,) = ran(*aging)
    assert verdict.reason == reason


def test_the_rate_is_told() -> None:
    (verdict,) = ran(link(replays=10, ago=60), link(replays=40))
    assert verdict.evidence == {
        "generation": 3,
        "generation_max": 3,
        "width": 16,
        "width_max": 16,
        "replays": 40,
        "replays_per_minute": 30.0,
    }


def test_a_link_that_was_not_read_is_not_judged() -> None:
    assert ran() == []
