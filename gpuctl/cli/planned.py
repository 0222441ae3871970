"""`plan` and `check`: what would run where, and whether it can."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from gpuctl.cli import ahead, choose, compose, knowledge, preflight
from gpuctl.cli.session import Session, display, show
from gpuctl.errors import GpuctlError, PlanRefused, ProfileError

if TYPE_CHECKING:
    from gpuctl.model import Action, Inventory, Known, Plan, Profile


def command(session: Session, name: str | None, *, as_json: bool) -> int:
    """Print the plan of a profile on this host; return the exit code."""
    from gpuctl.model import Plan
    from gpuctl.overrides import elsewhere
    from gpuctl.planning import plan_document

    profile = _chosen(session, name)
    try:
        plan, inventory = made(session, profile, _moved(session, profile))
    except PlanRefused as refused:
        if as_json:
            empty = Plan(profile=profile.host.name, watchdog=profile.watchdog)
            _print(plan_document(empty, errors=refused.message.splitlines()))
        raise
    actions = ahead.actions(session, profile, plan)
    if as_json:
        _print(plan_document(plan, actions or ()))
    else:
        _show(plan, inventory, actions, elsewhere(profile))
    return 0


def check(session: Session, name: str | None) -> None:
    """Validate a profile and its plan on this host. Raises with every mistake."""
    from gpuctl.views import words

    profile = choose.chosen(session, name)
    plan, _ = checked(session, profile)
    if secrets := _secrets(session, profile):
        raise ProfileError(tuple((_placed(profile, what), hint) for what, hint in secrets))
    for warning in plan.warnings:
        session.say(f"warning: {warning}")
    # A simulated host has no files; `up` refuses what is missing here.
    missing = () if session.simulate else preflight.missing_models(profile)
    gateway = preflight.without_keys(session, profile) + preflight.gateway_port(session, profile)
    for message, hint in (*missing, *gateway):
        session.say(f"warning: {message}\nhint: {hint}")
    fine = words.counted(len(plan.replicas), "replica")
    session.say(f"{profile.source or profile.host.name}: fine: {fine}")


def made(session: Session, profile: Profile, known: Known | None = None) -> tuple[Plan, Inventory]:
    """
    Return the plan of a profile on this host, and the host.

    *known* is what to plan with, which is found out where it is not given. Raises `PlanRefused`.
    """
    from gpuctl.planning import plan
    from gpuctl.plugin import load_engines

    inventory = compose.inventory(session, profile)
    found = knowledge.known(session, profile) if known is None else known
    try:
        return plan(profile, inventory, load_engines(), strict=True, known=found), inventory
    except PlanRefused as refused:
        raise PlanRefused(_placed(profile, refused.message), refused.hint) from None


def checked(
    session: Session, profile: Profile, known: Known | None = None
) -> tuple[Plan, Inventory]:
    """Return what `made` does; where it refuses, it names the files of secrets as well."""
    try:
        return made(session, profile, known)
    except PlanRefused as refused:
        secrets = _secrets(session, profile)
        told = [_placed(profile, what) for what, _ in secrets]
        hints = dict.fromkeys(hint for _, hint in secrets)
        message = "\n".join((refused.message, *told))
        raise PlanRefused(message, "\n".join(filter(None, (refused.hint, *hints)))) from None


def _secrets(session: Session, profile: Profile) -> tuple[tuple[str, str], ...]:
    """Return what is wrong with files of secrets; a simulated host has none."""
    found = () if session.simulate else preflight.unread_secrets(profile)
    source = f"{profile.source}: " if profile.source else ""
    return tuple(
        (what if what.startswith("environment: ") else f"{source}{what}", hint)
        for what, hint in found
    )


def _moved(session: Session, profile: Profile) -> Known:
    """Return what is known; of the profile that is applied here, with what has moved since."""
    from dataclasses import replace

    found = knowledge.known(session, profile)
    if not _applied(session, profile):
        return found
    return replace(found, assignments=ahead.history(session).assignments)


def _applied(session: Session, profile: Profile) -> bool:
    """Return whether it is the applied one, as it was or edited since: by its name."""
    from gpuctl.applied import load

    with suppress(GpuctlError):
        return load(choose.applied_text(session)).host.name == profile.host.name
    return False


def _chosen(session: Session, name: str | None) -> Profile:
    """Return the profile to plan; one that was not named is told."""
    profile = choose.chosen(session, name)
    if name is None:
        session.say(f"profile: {profile.source or profile.host.name}")
    return profile


def _placed(profile: Profile, message: str) -> str:
    """Return the mistakes of a plan with the lines of the file they stand in, if it is there."""
    from gpuctl.profile import with_lines

    try:
        with open(profile.source, encoding="utf-8-sig") as file:
            return with_lines(file.read(), profile.source, message)
    except (OSError, ValueError):
        return message


def _show(
    plan: Plan, inventory: Inventory, actions: tuple[Action, ...] | None, shapes: tuple[str, ...]
) -> None:
    from gpuctl.views import planned

    display(planned.planned(plan, inventory))
    for line in shapes:
        show(line)
    for line in planned.actions(actions):
        show(line)


def _print(document: object) -> None:
    print(json.dumps(document, indent=2))
