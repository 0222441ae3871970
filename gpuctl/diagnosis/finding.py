"""One line of the doctor's: what was looked at, how bad it is, the value found, how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gpuctl.diagnosis.facts import Facts, Unread

Level = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    level: Level
    reason: str  # a stable code; "ok" where nothing is wrong
    message: str  # one sentence, with the value found
    fix: str = ""  # a command to copy, or what to do
    group: str = ""  # set by `diagnose`


Check = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Checks that are shown together."""

    name: str
    checks: tuple[Check, ...]


def ok(check: str, message: str) -> Finding:
    return Finding(check=check, level="ok", reason="ok", message=message)


def warn(check: str, reason: str, message: str, fix: str = "") -> Finding:
    return Finding(check=check, level="warn", reason=reason, message=message, fix=fix)


def fail(check: str, reason: str, message: str, fix: str = "") -> Finding:
    return Finding(check=check, level="fail", reason=reason, message=message, fix=fix)


def skip(check: str, message: str, reason: str = "not_applicable", fix: str = "") -> Finding:
    """Return what is not judged here, or (with another *reason*) what could not be."""
    return Finding(check=check, level="skip", reason=reason, message=message, fix=fix)


def needing(source: str, check: str, judge: Callable[[Any, Facts], Iterable[Finding]]) -> Check:
    """Return a check that gets one *source* of the facts, and is left out where that is unread."""

    def run(facts: Facts) -> Iterator[Finding]:
        found = getattr(facts, source)
        if isinstance(found, Unread):
            yield skip(check, found.message, found.reason, found.hint)
        else:
            yield from judge(found, facts)

    return run
