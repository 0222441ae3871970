"""Bits that a GPU's memory loses, and rows and pages that go out of use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import ecc, remapped_rows
from gpuctl.judge import judge
from gpuctl.model import Condition, Event, GpuHealth, Verdict
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


def cleared(ago: float, count: int | None = None) -> Event:
    """An operator found the GPU well, with so many errors counted by then."""
    told = {} if count is None else {"ecc_uncorrected": count}
    return make.event("intent", "GPU-0", "uncordon", NOW - ago, **told)


def reasons(readings: Sequence[GpuHealth], *events: Event) -> list[str]:
    """What one daemon says as each of these is read, after these Events."""
    held: dict[tuple[str, str], Condition] = {}
    found = []
    for health in readings:
        past = make.history(each for each in events if each.boot_seconds <= health.boot_seconds)
        gpu = make.gpu(health=health)
        now = make.snapshot(gpus=[gpu], boot_seconds=health.boot_seconds)
        scene = make.scene(now, past=past, before=held.values())
        trends = Trends(gpus={"GPU-0": GpuTrend(aging=(health,))})
        held = dict(judge([ecc.CHECK], replace(scene, trends=trends)))
        found.append(held["ecc", "GPU-0"].verdict.reason)
    return found


OFTEN = "ecc_uncorrected"


@pytest.mark.parametrize(
    ("counts", "at", "expected"),
    [
        pytest.param([3, 3], cleared(90, 3), ["", ""], id="no-more-since"),
        pytest.param([3, 4, 4], cleared(90, 3), ["", OFTEN, OFTEN], id="one-more"),
        pytest.param([4, 4], cleared(90, 3), [OFTEN, OFTEN], id="one-more-before-we-came"),
        pytest.param([0, 1], cleared(90, 3), ["", OFTEN], id="one-after-a-reset"),
        pytest.param(
            [0, 1, 3, 3], cleared(90, 3), ["", OFTEN, OFTEN, OFTEN], id="as-many-after-a-reset"
        ),
        pytest.param([1, 1], cleared(90, 3), [OFTEN, OFTEN], id="a-reset-that-nobody-saw"),
        pytest.param([3, 3, 4], cleared(90), ["", "", OFTEN], id="not-counted-when-cleared"),
        pytest.param([2, 1, 2], cleared(90), ["", OFTEN, OFTEN], id="reset-and-not-counted"),
        pytest.param([3], cleared(NOW + 90, 3), [OFTEN], id="cleared-before-the-boot"),
    ],
)
def test_what_an_operator_has_seen_does_not_count(
    counts: list[int], at: Event, expected: list[str]
) -> None:
    """
    Until the driver is loaded or the card reset its counter stands: what comes on top is news.

    It stays so for hours, whatever was read within the last of them.
    """
    readings = [counted(count, ago=-3600.0 * hour) for hour, count in enumerate(counts)]
    assert reasons(readings, at) == expected


def test_who_clears_again_has_seen_what_came_since() -> None:
    """The second time an operator finds it well counts, and the first no more."""
    readings = [counted(n, ago=60.0 * ago) for n, ago in ((3, 9), (4, 8), (4, 4), (5, 0))]
    told = reasons(readings, cleared(570, 3), cleared(300, 4))
    assert told == ["", OFTEN, "", OFTEN]


def test_what_was_read_before_it_was_cleared_is_over() -> None:
    """The next reading is up to a minute away."""
    health = counted(4, ago=50)
    now = make.snapshot(gpus=[make.gpu(health=health)])
    accused = make.condition("ecc", "GPU-0", reading_boot_seconds=NOW - 50)
    past = make.history(cleared(20, 4))
    (verdict,) = ecc.CHECK.run(make.scene(now, past=past, before=[accused]))
    assert verdict.reason == ""


def test_only_what_was_contained_since_counts_as_contained() -> None:
    """An error that comes without an Xid is not the one that an operator has seen."""
    events = (xid(94, NOW - 90), cleared(60, 1))
    assert told(ran(ecc.CHECK, counted(2), *events))[0][1] == "ecc_uncorrected"
    assert told(ran(ecc.CHECK, counted(2), *events, xid(94)))[0][1] == "ecc_contained"


@pytest.mark.parametrize(
    ("aging", "reason"),
    [
        pytest.param([counted(0, 500)], "", id="never-seen-to-grow"),
        pytest.param([counted(0, 400, 60), counted(0, 500)], "", id="a-hundred"),
        pytest.param([counted(0, 399, 60), counted(0, 500)], "ecc_corrected_often", id="more"),
        pytest.param([counted(0, 0, 3601), counted(0, 500)], "", id="more-than-an-hour-ago"),
        pytest.param([counted(0, None)], "", id="not-counted"),
        pytest.param([counted(0, 900, 60), counted(0, 100)], "", id="a-hundred-since-a-reset"),
        pytest.param(
            [counted(0, 900, 60), counted(0, 101)], "ecc_corrected_often", id="more-since-a-reset"
        ),
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
