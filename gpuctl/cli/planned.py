"""`plan` and `check`: what would run where, and whether it can."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpuctl.cli import ahead, choose, compose
from gpuctl.cli.session import Session, display
from gpuctl.errors import PlanRefused

if TYPE_CHECKING:
    from gpuctl.model import Action, Inventory, Plan, Profile


def command(session: Session, name: str | None, *, as_json: bool) -> int:
    """Print the plan of a profile on this host; return the exit code."""
    from gpuctl.model import Plan
    from gpuctl.planning import plan_document

    profile = choose.chosen(session, name)
    try:
        plan, inventory = made(session, profile)
    except PlanRefused as refused:
        if as_json:
            empty = Plan(profile=profile.host.name, watchdog=profile.watchdog)
            _print(plan_document(empty, errors=refused.message.splitlines()))
        raise
    actions = ahead.actions(session, profile, plan)
    if as_json:
        _print(plan_document(plan, actions or ()))
    else:
        _show(plan, inventory, actions)
    return 0


def check(session: Session, name: str) -> None:
    """Validate a profile and its plan on this host. Raises with every mistake."""
    profile = choose.load(session, name)
    plan, _ = made(session, profile)
    for warning in plan.warnings:
        session.say(f"warning: {warning}")
    session.say(f"{profile.source or name}: fine: {len(plan.replicas)} replicas")


def made(session: Session, profile: Profile) -> tuple[Plan, Inventory]:
    """Return the plan of a profile on this host, and the host. Raises `PlanRefused`."""
    from gpuctl.planning import plan
    from gpuctl.plugin import load_engines

    inventory = compose.inventory(session, profile)
    return plan(profile, inventory, load_engines(), strict=True), inventory


def _show(plan: Plan, inventory: Inventory, actions: tuple[Action, ...] | None) -> None:
    from gpuctl.views import planned

    display(planned.planned(plan, inventory))
    for line in planned.actions(actions):
        print(line)


def _print(document: object) -> None:
    print(json.dumps(document, indent=2))
