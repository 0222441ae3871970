"""The plan in force: the applied profile's, with what has moved since; asked for at each tick."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from gpuctl.errors import PlanRefused
from gpuctl.model import Assignment, Assignments, Plan, Profile

log = logging.getLogger("gpuctl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the daemon works on: the applied profile, and the plans that can be made from it."""

    profile: Profile
    plan: Plan  # as the profile has it
    arrange: Callable[[Assignments], Plan]  # with what has moved since; raises `PlanRefused`


class Arrangement:
    """A Setting with its latest plan; what of the moves cannot be planned is left out of it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._made_for: Assignments | None = None
        self._plan = setting.plan

    def plan(self, assignments: Assignments) -> Plan:
        """Return the plan with these assignments, made anew when they are others than before."""
        if assignments != self._made_for:
            self._made_for = assignments
            self._plan = self._arranged(assignments)
        return self._plan

    def _arranged(self, assignments: Assignments) -> Plan:
        if assignments == Assignments():
            return self.setting.plan
        try:
            return self.setting.arrange(assignments)
        except PlanRefused as refused:
            log.error("event=plan_refused error=%s", json.dumps(refused.message))
            return replace(self._possible(assignments), refused=refused.message)

    def _possible(self, assignments: Assignments) -> Plan:
        """
        Return the plan with as many of the moves as it takes, else the last good one.

        The profile's own replicas come first: what `scale` added must not send one that serves
        from the reserve back to the GPU that it left.
        """
        own = {replica.name for replica in self.setting.plan.replicas}
        found, kept = self._plan, dict[str, Assignment]()
        for name in sorted(assignments.moved, key=lambda name: (name not in own, name)):
            more = {**kept, name: assignments.moved[name]}
            with suppress(PlanRefused):
                found, kept = self.setting.arrange(replace(assignments, moved=more)), more
        return found
