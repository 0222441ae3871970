"""The table of Xids, both ways: what is written of each is what is done, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.history import XidRecord
from gpuctl.host_state import RECOVERY_ACTIONS
from gpuctl.xids import (
    DAY,
    EFFECTS,
    MONTH,
    RECOVERY,
    TABLE,
    Around,
    Effect,
    findings,
    recovery,
    recovery_advice,
)

NOW = 100 * DAY

#: What one Xid calls for, worked out by hand from NVIDIA's catalog; then what more of them within
#: so many days do, what it does to a replica that spans GPUs, and after a replica's failure.
EXPECTED: dict[int, tuple[Effect, tuple[int, float, Effect] | None, Effect | None]] = {
    8: ("app", None, None),
    13: ("app", (2, 1, "alert"), None),
    31: ("app", (2, 1, "alert"), None),
    32: ("app", (3, 1, "reset"), None),
    43: ("info", None, None),
    45: ("info", None, None),
    46: ("reset", None, None),
    48: ("reset", (2, 30, "hardware"), None),
    61: ("alert", None, None),
    62: ("reset", None, None),
    63: ("info", None, None),
    64: ("hardware", None, None),
    68: ("app", None, None),
    69: ("app", None, None),
    74: ("alert", None, "reset"),
    79: ("reboot", (2, 30, "hardware"), None),
    92: ("alert", None, None),
    93: ("info", None, None),
    94: ("app", (3, 1, "hardware"), None),
    95: ("reset", None, None),
    109: ("app", (2, 1, "reset"), None),
    110: ("reset", None, None),
    119: ("reset", None, None),
    120: ("reset", None, None),
    121: ("alert", None, None),
    136: ("alert", None, "reset"),
    137: ("app", None, None),
    140: ("reset", (2, 30, "hardware"), None),
    143: ("reboot", (2, 30, "hardware"), None),
    **{number: ("alert", None, "reset") for number in range(144, 151)},
    151: ("reboot", None, None),
    154: ("alert", None, None),
    155: ("reset", None, None),
    156: ("reset", None, None),
    158: ("reset", None, None),
}
REPEATED = [(number, told[1]) for number, told in EXPECTED.items() if told[1] is not None]


def record(number: int, at: float = NOW - 60, **evidence: Any) -> XidRecord:
    return XidRecord(number=number, at=at, evidence=evidence)


def effect(*records: XidRecord, **around: Any) -> Effect | None:
    """What the records call for; `None` for nothing any more."""
    found = findings(records, Around(**{"now": NOW, **around}))
    return found[0].effect if found else None


def test_the_table_is_the_one_that_was_worked_out() -> None:
    """No Xid is in one and not in the other."""
    assert list(TABLE) == list(EXPECTED)


@pytest.mark.parametrize("number", EXPECTED)
def test_one(number: int) -> None:
    """The first of its kind has the effect of the table; what is only noted calls for nothing."""
    expected = EXPECTED[number][0]
    assert effect(record(number)) == (None if expected == "info" else expected)


@pytest.mark.parametrize(("number", "repeat"), REPEATED, ids=lambda value: str(value))
def test_repeats(number: int, repeat: tuple[int, float, Effect]) -> None:
    """So many within so long escalate; one fewer, or the first of them too long ago, do not."""
    count, days, escalated = repeat
    apart = days * DAY / count
    several = [record(number, NOW - 60 - apart * n) for n in reversed(range(count))]
    old = record(number, NOW - 61 - days * DAY)
    assert effect(*several) == escalated
    assert effect(*several[1:]) == EXPECTED[number][0]
    assert effect(old, *several[1:]) == EXPECTED[number][0]
    (found,) = findings(several, Around(now=NOW))
    assert found.count == count


@pytest.mark.parametrize(
    "number", [number for number, told in EXPECTED.items() if told[1] is None and number != 154]
)
def test_others_do_not_escalate(number: int) -> None:
    """Ten within a day are what one is."""
    expected = EXPECTED[number][0]
    ten = [record(number, NOW - 600 + n) for n in range(10)]
    assert effect(*ten) == (None if expected == "info" else expected)


@pytest.mark.parametrize("number", EXPECTED)
def test_a_group_is_hit_by_its_links(number: int) -> None:
    """An error of NVLink is a replica's that spans GPUs; any other is the same for it."""
    expected = EXPECTED[number][2] or EXPECTED[number][0]
    assert effect(record(number), in_group=True) == (None if expected == "info" else expected)


@pytest.mark.parametrize("number", EXPECTED)
def test_a_failure_since_makes_one_of_them_worse(number: int) -> None:
    """A breakpoint in the micro-controller counts once a replica on its GPU has failed."""
    expected = "reset" if number == 61 else EXPECTED[number][0]
    assert effect(record(number), failed_at=NOW - 30) == (None if expected == "info" else expected)
    assert effect(record(61), failed_at=NOW - 90) == "alert"


def test_what_is_not_known_is_only_told() -> None:
    """An Xid of a later driver: somebody should look, and nothing is done."""
    assert effect(record(999)) == "alert"
    assert effect(*[record(999)] * 20) == "alert"


@pytest.mark.parametrize(
    ("number", "at", "held"),
    [
        pytest.param(95, 1.0, True, id="a-reset-of-this-boot"),
        pytest.param(95, -1.0, False, id="a-reset-of-before-the-boot"),
        pytest.param(79, -1.0, False, id="a-reboot-was-done"),
        pytest.param(64, -300 * DAY, True, id="hardware-does-not-heal"),
        pytest.param(92, NOW - DAY + 1, True, id="told-for-a-day"),
        pytest.param(92, NOW - DAY, False, id="and-no-longer"),
    ],
)
def test_how_long_it_holds(number: int, at: float, held: bool) -> None:
    assert bool(findings([record(number, at)], Around(now=NOW))) is held


@pytest.mark.parametrize(
    ("number", "asked", "expected"),
    [
        pytest.param(95, "none", "alert", id="the-driver-wants-nothing"),
        pytest.param(95, "node_reboot", "reboot", id="it-wants-more"),
        pytest.param(79, "gpu_reset", "reset", id="it-wants-less"),
        pytest.param(79, None, "reboot", id="it-does-not-tell"),
        pytest.param(64, "none", "hardware", id="broken-is-broken"),
        pytest.param(92, "gpu_reset", "alert", id="what-is-told-stays-told"),
    ],
)
def test_the_driver_knows_better(number: int, asked: str | None, expected: Effect) -> None:
    """What the driver asks for, read well after the Xid, stands above the table; else it waits."""
    assert effect(record(number), asked=asked, asked_at=NOW) == expected
    for before in (90, 59, 30):
        assert effect(record(number), asked=asked, asked_at=NOW - before) == EXPECTED[number][0]


@pytest.mark.parametrize(
    ("text", "expected", "advice"),
    [
        ("changed from 0x0 (None) to 0x1 (GPU Reset Required)", "reset", "reset the GPU"),
        ("changed from 0x0 (None) to 0x2 (Node Reboot Required)", "reboot", "reboot"),
        ("changed from 0x0 (None) to 0x3 (Drain P2P)", "alert", "documentation"),
        ("changed from 0x1 (GPU Reset Required) to 0x0 (None)", None, ""),
        ("changed from 0x0 to 0x63 (of a later driver)", "alert", "documentation"),
        ("no number at all", "alert", "documentation"),
    ],
)
def test_xid_154_says_itself_what_to_do(text: str, expected: Effect | None, advice: str) -> None:
    """Its text names the recovery action that the driver asks for from now on."""
    found = findings([record(154, message=f"GPU recovery action {text}")], Around(now=NOW))
    assert (found[0].effect if found else None) == expected
    assert not found or advice in found[0].advice


@pytest.mark.parametrize(
    ("number", "asked", "in_group", "drain"),
    [
        pytest.param("0x4", None, False, True, id="a-drain-and-a-reset"),
        pytest.param("0x3", None, True, True, id="the-links-of-a-group"),
        pytest.param("0x1", None, False, False, id="a-reset"),
        pytest.param("0x1", "drain_and_reset", False, True, id="a-drain-later-on"),
        pytest.param("0x4", "gpu_reset", False, False, id="a-reset-later-on"),
    ],
)
def test_what_the_driver_wants_drained_is(
    number: str, asked: str | None, in_group: bool, drain: bool
) -> None:
    """What runs on the GPU runs well; what it asked for last counts."""
    around = Around(now=NOW, in_group=in_group, asked=asked, asked_at=NOW)
    (found,) = findings([record(154, NOW - 300, message=f"changed to {number}")], around)
    assert (found.effect, found.drain) == ("reset", drain)


@pytest.mark.parametrize(
    ("number", "text", "asked", "called_for"),
    [
        pytest.param(
            79, "", "none", ("alert", "contact support if it comes again"), id="it-wants-nothing"
        ),
        pytest.param(79, "", "gpu_reset", ("reset", recovery_advice("reset")), id="it-wants-less"),
        pytest.param(95, "", "node_reboot", ("reboot", "reboot the host"), id="it-wants-more"),
        pytest.param(
            95,
            "",
            "recover_imex_domain",
            ("alert", recovery_advice("alert")),
            id="it-wants-something-else",
        ),
        pytest.param(
            79,
            "",
            "system_reboot",
            ("reboot", "reboot the host; contact support if it comes again"),
            id="it-wants-the-same",
        ),
        pytest.param(
            154,
            "to 0x2",
            "gpu_reset",
            ("reset", recovery_advice("reset")),
            id="it-asked-for-another-before",
        ),
    ],
)
def test_the_advice_is_for_what_the_driver_asks(
    number: int, text: str, asked: str, called_for: tuple[Effect, str]
) -> None:
    """Nobody is told to reboot for what the driver wants a reset for, or nothing."""
    around = Around(now=NOW, asked=asked, asked_at=NOW)
    (found,) = findings([record(number, message=text)], around)
    assert (found.effect, found.advice) == called_for


@pytest.mark.parametrize(
    ("records", "failed_at"),
    [
        pytest.param([record(32, NOW - 70 + n) for n in range(3)], None, id="the-third"),
        pytest.param([record(61)], NOW - 30, id="a-failure-since"),
    ],
)
def test_what_came_to_call_for_a_reset_advises_one(
    records: list[XidRecord], failed_at: float | None
) -> None:
    """The table's advice is for the first of its kind."""
    (found,) = findings(records, Around(now=NOW, failed_at=failed_at))
    assert (found.effect, found.advice) == ("reset", recovery_advice("reset"))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param([record(95, NOW - 90)], None, id="what-was-due"),
        pytest.param([record(64, NOW - 90)], None, id="what-the-hardware-was-charged-with"),
        pytest.param([record(95, NOW - 90), record(95)], "reset", id="one-since"),
        pytest.param([record(48, NOW - 90), record(48)], "hardware", id="the-second"),
        pytest.param([record(48, NOW - 90), record(95)], "reset", id="another-since"),
    ],
)
def test_what_an_operator_cleared_is_not_due_and_counts(
    records: list[XidRecord], expected: Effect | None
) -> None:
    """A card that was found well and does it again has done it twice."""
    assert effect(*records, cleared_at=NOW - 80) == expected


def test_the_worst_comes_first_and_then_the_latest() -> None:
    """Hardware before reboot before reset before what is only told."""
    records = [record(92, NOW - 9), record(79, NOW - 8), record(64, NOW - 7), record(46, NOW - 6)]
    records += [record(62, NOW - 5)]
    found = findings(records, Around(now=NOW))
    assert [each.number for each in found] == [64, 79, 62, 46, 92]


def test_every_recovery_action_of_the_driver_is_known() -> None:
    """In the order of their numbers, which is how Xid 154 names them."""
    assert tuple(RECOVERY) == RECOVERY_ACTIONS


@pytest.mark.parametrize(
    ("action", "alone", "in_group"),
    [
        ("none", "info", "info"),
        ("gpu_reset", "reset", "reset"),
        ("node_reboot", "reboot", "reboot"),
        ("drain_p2p", "alert", "reset"),
        ("drain_and_reset", "reset", "reset"),
        ("recover_imex_domain", "alert", "alert"),
        ("bus_reset", "reset", "reset"),
        ("system_reboot", "reboot", "reboot"),
        ("of_a_later_driver", "alert", "alert"),
    ],
)
def test_recovery(action: str, alone: Effect, in_group: Effect) -> None:
    """A group cannot do without its links; what is not known is told."""
    assert recovery(action, in_group=False) == alone
    assert recovery(action, in_group=True) == in_group


def test_every_effect_has_an_advice_where_there_is_one_to_give() -> None:
    told = [name for name in EFFECTS if recovery_advice(name) != "none"]
    assert told == ["alert", "reset", "reboot"]


def test_what_must_be_examined_is_said() -> None:
    """The advice of what the hardware is charged with names the card."""
    (found,) = findings([record(48, NOW - MONTH / 2), record(48)], Around(now=NOW))
    assert "may have to be replaced" in found.advice
