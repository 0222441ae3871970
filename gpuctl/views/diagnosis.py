"""
`doctor` for people: one line a check by group, its fix below, and what could not be looked at.

Readable without colour: every colour only repeats the word that stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gpuctl.diagnosis import Finding, Level
from gpuctl.views import words

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
_GAP = 2
#: Reasons of a check that was left out which are no fault of the host's: it has no such thing.
_QUIET = ("not_applicable", "not_reported", "not_looked", "absent", "simulated")


def listed(findings: Sequence[Finding], *, everything: bool = False) -> Group:
    """Return the groups with their checks; with *everything* also those that were left out."""
    shown = [each for each in findings if everything or each.level != "skip"]
    # As one host has them all: the columns of every group stand below each other.
    width = max((len(each.check) for each in shown), default=0)
    parts: list[RenderableType] = []
    for name, members in groupby(shown, key=lambda each: each.group):
        parts += [Text(name, style="bold"), _table(members, width), Text()]
    parts += [Text(line, style="yellow") for line in _unseen(findings)]
    parts.append(Text(summed(findings), style="bold"))
    return Group(*parts)


def summed(findings: Iterable[Finding]) -> str:
    """Return how many of each level there are: `1 fail, 2 warn, 30 ok, 8 not judged`."""
    levels = [each.level for each in findings]
    names: Mapping[Level, str] = {"fail": "fail", "warn": "warn", "ok": "ok", "skip": "not judged"}
    return ", ".join(f"{levels.count(level)} {name}" for level, name in names.items())


def _table(findings: Iterable[Finding], width: int) -> Table:
    made = Table.grid(padding=(0, _GAP, 0, 0))
    made.add_column(no_wrap=True, min_width=6, justify="right")
    made.add_column(no_wrap=True, min_width=width)
    made.add_column(overflow="fold")
    for each in findings:
        reason = "" if each.reason == "ok" else f" [{each.reason}]"
        made.add_row(
            Text(each.level, style=_STYLES[each.level]),
            each.check,
            Text.assemble(each.message, (reason, "dim")),
        )
        if each.fix and each.level in ("warn", "fail"):
            made.add_row("", "", f"fix: {each.fix}")
    return made


def _unseen(findings: Iterable[Finding]) -> Iterable[str]:
    """Yield a line for each source that could not be read, with the checks that wanted it."""
    skipped = [each for each in findings if each.level == "skip"]
    if simulated := [each for each in skipped if each.reason == "simulated"]:
        count = words.counted(len(simulated), "check")
        yield f"simulated host: its GPUs and the profile are judged; {count} were not made"
    unread = [each for each in skipped if each.reason not in _QUIET]
    for source in dict.fromkeys((each.message, each.fix) for each in unread):
        checks = ", ".join(each.check for each in unread if (each.message, each.fix) == source)
        message, hint = source
        yield f"not judged: {checks}: {message}" + (f" ({hint})" if hint else "")
