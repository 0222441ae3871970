"""
Every check over this tick and the last one: a Scene in, Conditions out. The daemon calls it.

Twice: what moves is decided by the conditions of most checks, and judged by the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpuctl.model import Condition, Verdict
from gpuctl.plugin import Check, Scene

Conditions = Mapping[tuple[str, str], Condition]  # (check, subject) → what holds


def judge(checks: Sequence[Check], scene: Scene) -> Conditions:
    """
    Return what every check says, with how long it has said so; those `after_moves` as before.

    After a gap between ticks every streak starts again: what was seen before says little. A GPU
    that was avoided for what was read of it stays so until it is read again.
    """
    late = _late(checks)
    held = {key: condition for key, condition in scene.before.items() if key[0] in late}
    if scene.now.gap:
        scene = replace(scene, before={})
    found = _found((check for check in checks if not check.after_moves), scene)
    return {**_lasting(scene), **held, **found}


def judge_moved(checks: Sequence[Check], scene: Scene, conditions: Conditions) -> Conditions:
    """Return the same *conditions*, with what those `after_moves` say of the *scene* by now."""
    late = _late(checks)
    others = {key: condition for key, condition in conditions.items() if key[0] not in late}
    scene = replace(scene, before=others if scene.now.gap else conditions)
    return {**others, **_found((check for check in checks if check.after_moves), scene)}


def _late(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.after_moves}


def _found(checks: Iterable[Check], scene: Scene) -> Conditions:
    return {
        (verdict.check, verdict.subject): _condition(verdict, scene)
        for check in checks
        for verdict in check.run(scene)
    }


def _lasting(scene: Scene) -> Conditions:
    """Return why GPUs were avoided by the last readings, while there are no newer ones."""
    if "gpus" not in scene.now.errors:
        return {}
    return {
        key: condition
        for key, condition in scene.before.items()
        if condition.verdict.remedy == "avoid"
        and condition.verdict.reading_boot_seconds is not None
    }


def _condition(verdict: Verdict, scene: Scene) -> Condition:
    before = scene.before.get((verdict.check, verdict.subject))
    now, read = scene.now, verdict.reading_boot_seconds
    if before is None or _streak(before.verdict) != _streak(verdict):
        since = now.boot_seconds if read is None else read
        return Condition(
            verdict=verdict,
            since=now.at - (now.boot_seconds - since),
            since_boot_seconds=since,
        )
    fresh = read is not None and read != before.verdict.reading_boot_seconds
    return replace(before, verdict=verdict, readings=before.readings + fresh)


def _streak(verdict: Verdict) -> str:
    return verdict.streak or f"{verdict.state} {verdict.reason}"
