"""A request of the control socket → the intents to commit for it. PURE but for the journal."""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl.errors import NotFound
from gpuctl.journal import Journal
from gpuctl.model import Event, EventKind, Evidence, Plan
from gpuctl.wanted import outdated

#: `verb`, `subject`, and the `uid` and `pid` of who asked.
Body = Mapping[str, object]


def intents(body: Body, plan: Plan, journal: Journal) -> list[Event]:
    """
    Return the Events of one request, the request's own first.

    Raises:
        NotFound: its subject is no replica or workload of the plan.
    """
    verb, subject = str(body["verb"]), str(body.get("subject", ""))
    names = {name for r in plan.replicas for name in (r.name, r.workload)}
    if subject and subject not in names:
        raise NotFound(
            f"{subject!r} is no replica or workload of the profile {plan.profile!r}",
            "`gpuctl status` lists them",
        )
    told: Evidence = {"uid": _whole(body.get("uid")), "pid": _whole(body.get("pid"))}
    asked = journal.event(EventKind.INTENT, subject, verb, told)
    if verb != "up":
        return [asked]
    # Settled now: this `up` does not ask for what a later version's defaults would change.
    return [
        asked,
        *(
            journal.event(EventKind.INTENT, r.name, "renew", {**told, "because": "outdated"})
            for r in plan.replicas
            if outdated(r, journal.history.replica(r.name))
        ),
    ]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
