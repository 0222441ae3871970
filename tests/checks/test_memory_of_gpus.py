"""Bits that a GPU's memory loses, and rows and pages that go out of use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import ecc, remapped_rows
from gpuctl.model import Event, GpuHealth, Verdict
from gpuctl.plugin import Check
from gpuctl.trends import GpuTrend, Trends
from tests import make
from tests.make import NOW


def ran(
    check: Check,
    health: GpuHealth | None,
    *events: Event,
    aging: Sequence[GpuHealth] | None = None,
) -> list[Verdict]:
    scene = make.scene(make.snapshot(gpus=[make.gpu(health=health)]), past=make.history(events))
    seen = (health,) if aging is None and health is not None else tuple(aging or ())
    trends = Trends(gpus={"GPU-0": GpuTrend(aging=seen)})
    return list(check.run(replace(scene, trends=trends)))


def told(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(each.state, each.reason, each.remedy) for each in verdicts]


def counted(uncorrected: int | None, corrected: int | None = 0, ago: float = 0.0) -> GpuHealth:
    return GpuHealth(
        ecc_uncorrected_volatile=uncorrected,
        ecc_corrected_volatile=corrected,
        boot_seconds=NOW - ago,
    )


def xid(number: int, at: float = NOW - 9) -> Event:
    return make.event("xid", "GPU-0", str(number), at)


@pytest.mark.parametrize(
    ("count", "xids", "state", "reason", "remedy"),
    [
        pytest.param(0, [], "ok", "", "none", id="none"),
        pytest.param(1, [], "failed", "ecc_uncorrected", "avoid", id="one"),
        pytest.param(1, [94], "degraded", "ecc_contained", "none", id="contained"),
        pytest.param(2, [94, 95], "failed", "ecc_uncorrected", "avoid", id="not-contained"),
        pytest.param(1, [48], "failed", "ecc_uncorrected", "avoid", id="double-bit"),
    ],
)
def test_uncorrected(count: int, xids: list[int], state: str, reason: str, remedy: str) -> None:
    """A GPU that loses bits is not used, unless all of it hit one application."""
    found = ran(ecc.CHECK, counted(count), *(xid(number) for number in xids))
    assert told(found) == [(state, reason, remedy)]


def test_an_xid_of_an_earlier_boot_contains_nothing() -> None:
    """The counter began anew with the driver, and so did what explains it."""
    assert told(ran(ecc.CHECK, counted(1), xid(94, at=-50.0)))[0][1] == "ecc_uncorrected"


def cleared(at: float) -> Event:
    return make.event("intent", "GPU-0", "uncordon", at)


@pytest.mark.parametrize(
    ("at", "aging", "reason"),
    [
        pytest.param(NOW - 90, [counted(3, ago=120), counted(3)], "", id="no-more-since"),
        pytest.param(NOW - 90, [counted(3, ago=120), counted(4)], "ecc_uncorrected", id="one-more"),
        pytest.param(NOW - 90, [counted(3, ago=60), counted(3)], "", id="cleared-before-we-came"),
        pytest.param(NOW - 90, [], "", id="not-watched-yet"),
        pytest.param(-90.0, [counted(3)], "ecc_uncorrected", id="cleared-before-the-boot"),
    ],
)
def test_what_an_operator_has_seen_does_not_count(
    at: float, aging: list[GpuHealth], reason: str
) -> None:
    """Until the driver is loaded anew its counter stands: only what comes on top is news."""
    health = aging[-1] if aging else counted(3)
    (verdict,) = ran(ecc.CHECK, health, cleared(at), aging=aging)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("aging", "reason"),
    [
        pytest.param([counted(0, 500)], "", id="never-seen-to-grow"),
        pytest.param([counted(0, 400, 60), counted(0, 500)], "", id="a-hundred"),
        pytest.param([counted(0, 399, 60), counted(0, 500)], "ecc_corrected_often", id="more"),
        pytest.param([counted(0, 0, 3601), counted(0, 500)], "", id="more-than-an-hour-ago"),
        pytest.param([counted(0, None)], "", id="not-counted"),
    ],
)
def test_corrected(aging: list[GpuHealth], reason: str) -> None:
    """More than a hundred within an hour are told, and nothing is done."""
    (verdict,) = ran(ecc.CHECK, aging[-1], aging=aging)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert verdict.remedy == "none"


@pytest.mark.parametrize(
    ("fields", "state", "reason", "remedy"),
    [
        pytest.param(
            {"remapped_rows_failure": False, "remapped_rows_pending": False},
            "ok", "", "none", id="well",
        ),
        pytest.param(
            {"remapped_rows_failure": False, "remapped_rows_pending": True},
            "degraded", "row_remap_pending", "none", id="pending",
        ),
        pytest.param(
            {"remapped_rows_failure": True, "remapped_rows_pending": True},
            "failed", "row_remap_failed", "avoid", id="failed",
        ),
        pytest.param(
            {"retired_pages_pending": True},
            "degraded", "page_retirement_pending", "none", id="a-page",
        ),
        pytest.param({"retired_pages_pending": False}, "ok", "", "none", id="no-page"),
    ],
)  # fmt: skip
def test_rows_and_pages(fields: dict[str, Any], state: str, reason: str, remedy: str) -> None:
    """One that waits for a reset harms nobody; one without a spare ends the use of the card."""
    assert told(ran(remapped_rows.CHECK, GpuHealth(**fields))) == [(state, reason, remedy)]


@pytest.mark.parametrize("health", [None, GpuHealth()], ids=["not-read", "not-reported"])
@pytest.mark.parametrize("check", [ecc.CHECK, remapped_rows.CHECK])
def test_a_card_without_either_is_not_judged(check: Check, health: GpuHealth | None) -> None:
    assert ran(check, health) == []
