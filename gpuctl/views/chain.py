"""
`why`: the chain behind the last thing done to a subject, from its events.

A chain begins with what was seen or asked for, and ends when the replica is ready again, or
with whatever was last known. Read at three in the morning: what, why, how long, then the proof.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from gpuctl.model import Event, EventKind
from gpuctl.views import journal, words

if TYPE_CHECKING:
    from gpuctl.model.status import Status

#: Evidence of a condition that says what to do.
_ADVICE = ("advice", "hint")

_CAUSES = frozenset({EventKind.FAILED, EventKind.INTENT, EventKind.ADOPTED, EventKind.MOVED})
_DEEDS = frozenset({EventKind.ATTEMPT, EventKind.DONE, EventKind.UNDONE})
_SIGNS = frozenset({EventKind.CONDITION, EventKind.CORDONED, EventKind.XID})
#: What begins the chain of a GPU, beside an operator's cordon.
_OF_GPUS = frozenset({EventKind.CORDONED, EventKind.XID})
#: Intents that lead to a move, and the reasons of those moves.
_MOVES = {
    "cordon": ("cordoned",),
    "uncordon": ("moved_back",),
    "failover": ("failover_cpu", "moved_back"),
    "scale": ("scaled",),
}

#: Intents after which a replica is not meant to be ready.
_ENDS = frozenset({"stop", "down"})

#: Why a replica goes that its workload has too many of.
_TOO_MANY = ("scaled", "max_gpus")

#: A sign this long before a failure belongs to it: the longest a failure is watched by default.
_SIGN_SECONDS = 120.0

#: What an engine says of its own death stands in its last lines.
_LOG_LINES = 15

_LABELS = {
    EventKind.FAILED: "seen",
    EventKind.CONDITION: "seen",
    EventKind.ADOPTED: "seen",
    EventKind.CORDONED: "decided",
    EventKind.MOVED: "decided",
    EventKind.INTENT: "asked",
    EventKind.ATTEMPT: "decided",
    EventKind.DONE: "done",
    EventKind.UNDONE: "not done",
    EventKind.READY: "ready",
    EventKind.EVIDENCE: "kept",
}


def last(events: Sequence[Event], subject: str = "") -> tuple[Event, ...]:
    """
    Return the newest chain among the events of one subject, oldest first.

    The newest cause with a deed after it begins it; without one, the deed itself where there is
    one, else the newest cause of all, or where there is none the newest sign of trouble. A GPU's
    begins with what last became of the GPU itself, whatever its replicas did since they left it.
    """
    events = [event for event in events if event.kind is not EventKind.PEAK]
    of_gpu = [i for i, event in enumerate(events) if _of_gpu(event, subject)]
    start = of_gpu[-1] if of_gpu else _start(events)
    why = events[start].reason if events else ""
    while start > 0 and _is_sign(events[start - 1], events[start], why):
        start -= 1
    return tuple(_until_ready(_told_once(events[start:])))


def _of_gpu(event: Event, subject: str) -> bool:
    """True of what begins the story of a GPU: it was cordoned, or told an Xid."""
    cordoned = event.kind is EventKind.INTENT and event.reason == "cordon"
    return event.subject == subject and (cordoned or event.kind in _OF_GPUS)


def _start(events: Sequence[Event]) -> int:
    """Return where the chain of a replica begins, but for the signs before it."""
    deed = _begun(events, max((i for i, e in enumerate(events) if e.kind in _DEEDS), default=-1))
    causes = [i for i, event in enumerate(events) if event.kind in _CAUSES]
    failures = [i for i in causes if events[i].kind is EventKind.FAILED]
    led = failures + [i for i in causes if i <= deed and not _idle(events, i, deed)]
    signs = [i for i, event in enumerate(events) if event.reason != "ok"]
    return max(led or ([deed] if deed >= 0 else causes or signs), default=0)


def _idle(events: Sequence[Event], asked: int, deed: int) -> bool:
    """True of an `up` that came while its replica was on the way already, for another reason."""
    if not _is_up(events[asked]):
        return False
    told = (*_CAUSES, EventKind.READY)
    before = [e for e in events[:asked] if e.kind in told and not _is_up(e)]
    led = (EventKind.FAILED, EventKind.MOVED)
    return bool(before) and before[-1].kind in led and before[-1].reason == events[deed].reason


def _is_up(event: Event) -> bool:
    return event.kind is EventKind.INTENT and event.reason == "up"


def _begun(events: Sequence[Event], deed: int) -> int:
    """Return where the deed at this place was begun; the place itself where that is not told."""
    if deed < 0:
        return deed
    attempt = events[deed].evidence.get("attempt")
    same = (i for i in range(deed + 1) if events[i].evidence.get("attempt") == attempt)
    return next(same, deed) if attempt else deed


def _told_once(events: Sequence[Event]) -> Iterator[Event]:
    """Leave out conditions that only repeat what a failure before them said, or end with it."""
    failed = ""
    for event in events:
        if event.kind is EventKind.FAILED:
            failed = event.reason
        if (
            not failed
            or event.kind is not EventKind.CONDITION
            or event.reason not in (failed, "ok")
        ):
            yield event


def lines(subject: str, chain: Sequence[Event], zone: tzinfo | None = None) -> Iterator[str]:
    """Yield the chain for reading: a headline, then each link with its time and evidence."""
    if not chain:
        yield f"{subject}: nothing has happened to it yet"
        return
    yield headline(subject, chain)
    own = {subject, subject.rpartition("-")[0], ""}  # whose deeds need no name
    first = chain[0]
    deeds = {e.evidence.get("attempt"): e.evidence.get("action") for e in chain if _begins(e)}
    for position, event in enumerate(chain):
        when = journal.moment(event.at, zone) if position == 0 else _after(first, event)
        yield ""
        sentence = f"{_about(event, own)}{_sentence(event, deeds)}"
        yield f"{_LABELS.get(event.kind, str(event.kind)):9}{when:20} {sentence}"
        for name, value in journal.details(event.evidence, zone):
            if name not in ("action", "reason"):
                yield f"{'':30}{name}: {value}"
        told = journal.log_lines(event.evidence)
        if told:
            # Not of the chain's subject, which may be a GPU.
            more = f"`gpuctl logs {event.subject} --previous` has more"
            yield f"{'':30}last lines of its log ({more}):"
            yield from (f"{'':30}| {text}" for text in told[-_LOG_LINES:])


def present(subject: str, status: Status, now: float) -> Iterator[str]:
    """Yield what is wrong with a subject at present, and with the GPUs of a replica."""
    concerned = {subject}
    for replica in status["replicas"]:
        if replica["name"] == subject:
            concerned |= {gpu["uuid"] for gpu in replica["gpus"]}
    for one in status["conditions"]:
        if one["subject"] in concerned:
            since = f"for {words.age(now - one['since'])}"
            about = "" if one["subject"] == subject else f"{one['subject']}: "
            yield ""
            yield f"{'now':9}{since:20} {about}{one['state']}: {one['reason']} ({one['check']})"
            for name, value in journal.details(one["evidence"]):
                if name in _ADVICE:
                    yield f"{'':30}{name}: {value}"


def headline(subject: str, chain: Sequence[Event]) -> str:
    """Return the whole story in one line."""
    deed = next((i for i, event in enumerate(chain) if event.kind in _DEEDS), len(chain))
    cause = next((event for event in chain[:deed] if event.kind in _CAUSES), chain[0])
    of_gpu = [event for event in chain if _of_gpu(event, subject)]
    if of_gpu:  # what an Xid led to says more than the Xid
        cause = next((e for e in reversed(of_gpu) if e.kind is not EventKind.XID), of_gpu[-1])
    ready = next((event for event in chain if event.kind is EventKind.READY), None)
    story = f"{subject}: {_cause(cause)}"
    if ready is not None:
        whose = f"{ready.subject} " if of_gpu else ""
        again = "again " if _failed(cause) or cause.kind in _OF_GPUS else ""
        return f"{story}; {whose}ready {again}after {_took(cause, ready)}"
    undone = [event for event in chain if event.kind is EventKind.UNDONE]
    if undone:
        return f"{story}; what was tried did not work: {undone[-1].reason}"
    gone = next((event for event in chain if _takes_away(event)), None)
    if gone is not None:
        return f"{story}; taken away, because {gone.reason}"
    meant = _failed(cause) or (deed < len(chain) and cause.reason not in _ENDS)
    whose = f"{chain[deed].subject} " if of_gpu and deed < len(chain) else ""
    return f"{story}; {whose}not ready yet" if meant else story


def _cause(cause: Event) -> str:
    match cause.kind:
        case EventKind.FAILED:
            return f"failed: {cause.reason}"
        case EventKind.INTENT if cause.evidence.get("by") == "gpuctl":
            return f"gpuctl asked for `{cause.reason}`, because {cause.evidence.get('because')}"
        case EventKind.INTENT if "because" in cause.evidence:
            return _beside(str(cause.evidence["because"]))
        case EventKind.INTENT:
            return f"an operator asked for `{cause.reason}`"
        case EventKind.ADOPTED:
            return "was running when the daemon started, and was adopted"
        case EventKind.ATTEMPT:
            return _decision(str(cause.evidence.get("action")), cause.reason)
        case EventKind.DAEMON:
            return cause.reason
        case EventKind.MOVED:
            return _decision(journal.whither(cause), cause.reason)
        case EventKind.CORDONED:
            return _decision("cordoned", cause.reason)
        case EventKind.CONDITION:
            return cause.reason
    return f"{cause.kind}: {cause.reason}" if cause.reason else str(cause.kind)


def _beside(because: str) -> str:
    """Return what an operator's command did that was not asked for by its name."""
    return "`scale` started it" if because == "scale" else f"`up` renewed it: {because}"


def _about(event: Event, own: Collection[str]) -> str:
    """Return whom a link is about, where that is another than the chain's subject."""
    return "" if event.subject in own else f"{event.subject}: "


def _decision(action: str, reason: str) -> str:
    return f"{action}, because {reason}" if reason else action


def _sentence(event: Event, deeds: Mapping[Any, Any]) -> str:
    action = deeds.get(event.evidence.get("attempt")) or "it"
    match event.kind:
        case EventKind.ATTEMPT:
            return _decision(action, event.reason)
        case EventKind.DONE:
            return f"{action} ended well"
        case EventKind.UNDONE:
            return f"{action} ended badly: {event.reason}"
        case EventKind.READY:
            return "it answers, its model is loaded"
        case EventKind.EVIDENCE:
            return "what the old container left behind"
    return _cause(event)


def _until_ready(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        yield event
        if event.kind is EventKind.READY:
            return


def _is_sign(earlier: Event, later: Event, why: str) -> bool:
    """True when the earlier one led to the later, in a chain that begins for that reason."""
    seconds = _seconds(earlier, later)
    if earlier.kind in (EventKind.FAILED, EventKind.MOVED):
        return seconds == 0.0 and later.kind is not EventKind.ATTEMPT  # of one moment
    if earlier.kind is EventKind.CONDITION and earlier.reason == "ok" and seconds > 0.0:
        return False  # it had passed
    if earlier.kind is EventKind.INTENT and why not in _MOVES.get(earlier.reason, ()):
        return False
    return earlier.kind in (*_SIGNS, EventKind.INTENT) and seconds <= _SIGN_SECONDS


def _begins(event: Event) -> bool:
    return event.kind is EventKind.ATTEMPT


def _takes_away(event: Event) -> bool:
    """True of the end of a replica that its workload has too many of."""
    ends = _begins(event) and event.evidence.get("action") in ("drain", "terminate")
    return ends and event.reason in _TOO_MANY


def _failed(cause: Event) -> bool:
    hurried = cause.kind is EventKind.MOVED and not cause.evidence.get("voluntary")
    return cause.kind is EventKind.FAILED or hurried


def _after(first: Event, event: Event) -> str:
    return f"+ {_took(first, event)}"


def _took(first: Event, event: Event) -> str:
    return words.lasted(_seconds(first, event))


def _seconds(first: Event, event: Event) -> float:
    # The boot's clock is never stepped; across a reboot only the wall clock is left.
    if first.boot_id == event.boot_id:
        return event.boot_seconds - first.boot_seconds
    return event.at - first.at
