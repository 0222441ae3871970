"""A request of the control socket → the intents to commit for it. PURE but for the journal."""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl import moving
from gpuctl.errors import NotFound
from gpuctl.journal import Journal
from gpuctl.model import Event, EventKind, Evidence, Json, Plan
from gpuctl.moving import Present
from gpuctl.wanted import outdated

#: `verb`, `subject`, `arguments`, and the `uid` and `pid` of who asked.
Body = Mapping[str, object]


def intents(body: Body, at: Present, journal: Journal) -> list[Event]:
    """
    Return the Events of one request, the request's own first.

    Raises:
        NotFound: its subject is no replica or workload of the plan, or no GPU of the host.
        GpuctlError: it cannot be carried out.
    """
    verb, subject, plan = str(body["verb"]), str(body.get("subject", "")), at.plan
    who: dict[str, Json] = {"uid": _whole(body.get("uid")), "pid": _whole(body.get("pid"))}
    if verb in moving.VERBS:
        arguments = body.get("arguments")
        return moving.requested(
            verb, subject, arguments if isinstance(arguments, Mapping) else {}, who, at
        )
    names = {name for r in plan.replicas for name in (r.name, r.workload)}
    if subject and subject not in names:
        raise NotFound(
            f"{subject!r} is no replica or workload of the profile {plan.profile!r}",
            "`gpuctl status` lists them",
        )
    return _plain(verb, subject, who, plan, journal)


def _plain(verb: str, subject: str, told: Evidence, plan: Plan, journal: Journal) -> list[Event]:
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
