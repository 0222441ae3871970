"""Verdicts become Conditions: how long they have held, and over how many readings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuctl.judge import judge, judge_moved
from gpuctl.model import Condition, Verdict
from gpuctl.plugin import Check, Scene
from tests import make
from tests.make import AT, NOW

KEY = ("health", "chat-0")


def held(before: Condition | None, gap: bool = False, **fields: Any) -> Condition:
    """Judge one verdict, with what held at the last tick."""
    verdict = Verdict(check="health", subject="chat-0", **{"state": "failed", **fields})
    check = Check(name="health", order=30, run=lambda _: [verdict])
    scene = make.scene(make.snapshot(gap=gap), before=[before] if before else [])
    return judge([check], scene)[KEY]


def test_a_verdict_holds_since_it_was_read() -> None:
    """A condition begins when its evidence was read; without evidence, now."""
    fresh = held(None, reading_boot_seconds=NOW - 3)
    assert (fresh.since_boot_seconds, fresh.since, fresh.readings) == (NOW - 3, AT - 3, 1)
    assert held(None).since_boot_seconds == NOW


def test_readings_count_once_each() -> None:
    """The same reading judged twice is one; a newer one is two; none at all counts none."""
    first = held(None, reading_boot_seconds=NOW - 3)
    assert held(first, reading_boot_seconds=NOW - 3).readings == 1
    second = held(first, reading_boot_seconds=NOW)
    assert (second.readings, second.since_boot_seconds) == (2, NOW - 3)
    assert held(first).readings == 1


def test_another_reason_begins_anew() -> None:
    """A change of state or reason is a new condition."""
    before = make.condition(since=NOW - 60, readings=9, reason="health_reset")
    assert held(before, reason="health_refused").readings == 1
    assert held(before, state="ok", reason="health_reset").since_boot_seconds == NOW


def test_verdicts_of_one_streak_count_as_one() -> None:
    """A refusal after a reset goes on counting, with the newest reason."""
    before = make.condition(since=NOW - 60, reason="health_reset", streak="hard")
    after = held(before, reason="health_refused", streak="hard", reading_boot_seconds=NOW)
    assert (after.since_boot_seconds, after.readings) == (NOW - 60, 2)
    assert after.verdict.reason == "health_refused"


def test_a_gap_begins_everything_anew() -> None:
    """What was seen before a gap between ticks says little: checks do not even see it."""
    before = make.condition(since=NOW - 60, readings=9)
    assert held(before, gap=True).readings == 1
    seen: list[int] = []

    def run(scene: Scene) -> tuple[Verdict, ...]:
        seen.append(len(scene.before))
        return ()

    check = Check(name="x", order=1, run=run)
    scene = make.scene(make.snapshot(gap=True), before=[before])
    assert judge([check], scene) == {}
    assert judge([check], replace(scene, now=make.snapshot())) == {}
    assert seen == [0, 1]


def test_what_a_gpu_was_avoided_for_stays_while_it_cannot_be_read() -> None:
    """A sick card is what hangs its driver: no news of it is no good news."""
    read: dict[str, Any] = {"remedy": "avoid", "reading_boot_seconds": NOW - 60}
    lost = make.condition("gpu_missing", "GPU-0", reason="gpu_lost", **read)
    hot = make.condition("thermal", "GPU-0", state="degraded", reading_boot_seconds=NOW - 60)
    told = make.condition("xid", "GPU-0", reason="xid_79", remedy="avoid")
    before = (lost, hot, told)
    unread = make.snapshot(errors={"gpus": "no answer"})
    assert judge([], make.scene(unread, before=before)) == make.conditions(lost)
    assert judge([], make.scene(make.snapshot(), before=before)) == {}
    found = Verdict(check="gpu_missing", subject="GPU-0", state="ok")
    check = Check(name="gpu_missing", order=50, run=lambda _: [found])
    held = judge([check], make.scene(unread, before=before))
    assert [condition.verdict for condition in held.values()] == [found]


def test_what_is_judged_after_the_moves_sees_the_others_of_this_tick() -> None:
    """Until then it stays as it was, also over a gap; others are left as they are."""
    seen: list[dict[tuple[str, str], str]] = []

    def late(scene: Scene) -> list[Verdict]:
        seen.append({key: each.verdict.reason for key, each in scene.before.items()})
        return [Verdict(check="late", subject="chat-0", state="ok")]

    failed = Verdict(check="health", subject="chat-0", state="failed", reason="now")
    checks = [
        Check(name="late", order=1, run=late, after_moves=True),
        Check(name="health", order=30, run=lambda _: [failed]),
    ]
    for gap, before in ((False, {KEY: "now", ("late", "chat-0"): "then"}), (True, {KEY: "now"})):
        held = [make.condition("late", reason="then"), make.condition(reason="then")]
        scene = make.scene(make.snapshot(gap=gap), before=held)
        early = judge(checks, scene)
        assert {key: each.verdict.reason for key, each in early.items()} == {
            KEY: "now", ("late", "chat-0"): "then",
        }  # fmt: skip
        found = judge_moved(checks, scene, early)
        assert {key: each.verdict.reason for key, each in found.items()} == {
            KEY: "now", ("late", "chat-0"): "",
        }  # fmt: skip
        assert seen.pop() == before
