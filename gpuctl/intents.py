"""A request of the control socket → the intents to commit for it. PURE but for the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpuctl import moving
from gpuctl.errors import NotFound
from gpuctl.journal import Journal
from gpuctl.model import Event, EventKind, Evidence, Json
from gpuctl.moments import event
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
        told = arguments if isinstance(arguments, Mapping) else {}
        return [*moving.requested(verb, subject, told, who, at), *_counted_in(verb, told, who, at)]
    names = {name for r in plan.replicas for name in (r.name, r.workload)}
    if subject and subject not in names:
        raise NotFound(
            f"{subject!r} is no replica or workload of the profile {plan.profile!r}",
            "`gpuctl status` lists them",
        )
    return _plain(verb, subject, who, at, journal)


def _counted_in(
    verb: str, told: Mapping[str, object], who: Evidence, at: Present
) -> Iterator[Event]:
    """Yield what has the replicas run that a `scale` counts and an earlier command stopped."""
    counts = told.get("counts") if verb == "scale" else None
    for workload, count in counts.items() if isinstance(counts, Mapping) else ():
        for name in (f"{workload}-{index}" for index in range(count)):
            intent = at.history.wanted(name, workload)
            runs = intent.verb in ("run", "up") if intent is not None else not at.history.cautious
            if not runs:
                yield event(at.now, EventKind.INTENT, name, "run", {**who, "because": "scale"})


def _plain(verb: str, subject: str, told: Evidence, at: Present, journal: Journal) -> list[Event]:
    asked = journal.event(EventKind.INTENT, subject, verb, told)
    if verb != "up":
        return [asked]
    # Settled now: this `up` does not ask for what a later version's defaults would change.
    return [
        asked,
        *(
            journal.event(EventKind.INTENT, r.name, "renew", {**told, "because": "outdated"})
            for r in at.plan.replicas
            if outdated(r, at.now.own(r.name), at.history.replica(r.name))
        ),
    ]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
