"""
Variables of the environment that stand above a profile: a Profile and an environment in, the
Profile as it will run out, with every mistake at once. Pure.

`up`, `plan`, `check` and `reload` call `apply`; the daemon, whose profile has them in it already,
calls `apply_watchdog` with its own. What each variable does is one row of `table` or
`gateway_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gpuctl.errors import ProfileError
from gpuctl.model import GatewaySettings, Profile, WatchdogSettings, Workload
from gpuctl.overrides import gateway_rows, reach, table
from gpuctl.overrides.gateway import doubts as gateway_doubts
from gpuctl.overrides.table import TABLE, WATCHDOG, Row
from gpuctl.overrides.told import elsewhere
from gpuctl.overrides.watchdog import doubts

__all__ = [
    "FILES",
    "Applied",
    "apply",
    "apply_watchdog",
    "doubts",
    "elsewhere",
    "gateway_doubts",
    "notes",
]

Mistakes = list[tuple[str, str]]

#: The variables that name the file of a secret.
FILES = (*table.FILES, *gateway_rows.FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A profile as it will run."""

    profile: Profile
    overrides: Mapping[str, str] = field(default_factory=dict)  # variable → its text, where set


def apply(profile: Profile, environment: Mapping[str, str]) -> Applied:
    """
    Return the profile with the environment's overrides in it; a variable that is "" is not set.

    Raises:
        ProfileError: a variable is not what it should be; all of them are named.
    """
    mistakes: Mistakes = []
    watchdog, used = _watchdog(profile, environment, mistakes)
    gateway = _gateway(profile, environment, used, mistakes)
    workloads = profile.workloads
    for row in _set(environment):
        if row.refuse is not None:
            refusal = row.refuse(replace(profile, workloads=workloads), environment[row.variable])
            mistakes += [_mistake(row, refusal)] if refusal else []
        if row.twin and environment.get(row.twin, "") not in ("", environment[row.variable]):
            mistakes.append(_mistake(row, f"{row.twin} says otherwise; set one of them"))
        if row.change is not None:
            used |= {row.variable: environment[row.variable]} if row.fitting(workloads) else {}
            workloads = _changed(row, environment[row.variable], workloads, mistakes)
    if mistakes:
        raise ProfileError(tuple(mistakes))
    recorded = {**profile.overrides, **used}
    changed_profile = replace(
        profile,
        watchdog=watchdog,
        workloads=workloads,
        gateway=gateway,
        overrides=dict(sorted(recorded.items())),
    )
    return Applied(profile=changed_profile, overrides=used)


def apply_watchdog(profile: Profile, environment: Mapping[str, str]) -> Profile:
    """Return the profile with only the times of the watchdog overridden. Raises as `apply`."""
    mistakes: Mistakes = []
    watchdog, _ = _watchdog(profile, environment, mistakes)
    if mistakes:
        raise ProfileError(tuple(mistakes))
    return replace(profile, watchdog=watchdog)


def notes(profile: Profile, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what to tell of variables that change nothing: (what is so, what to do instead)."""
    return tuple(_notes(profile, environment))


def _notes(profile: Profile, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for row in _set(environment):
        if row.ignored:
            yield f"environment: {row.variable}: {row.ignored}", row.hint
        elif row.change is not None and not row.fitting(profile.workloads):
            yield f"environment: {row.variable} fits no workload: none is {row.wants}", row.hint
    yield from gateway_rows.notes(profile.gateway, environment)


def _set(environment: Mapping[str, str]) -> Iterator[Row]:
    return (row for row in TABLE if environment.get(row.variable))


def _changed(
    row: Row, text: str, workloads: tuple[Workload, ...], mistakes: Mistakes
) -> tuple[Workload, ...]:
    """Return the workloads with one variable in each that knows it."""
    fitting = row.fitting(workloads)
    if row.single and len(fitting) > 1:
        names = ", ".join(workload.name for workload in fitting)
        mistakes.append(_mistake(row, f"which of {names} is meant?; write it in the profile"))
        return workloads
    found = list(workloads)
    for index, workload in enumerate(workloads):
        if workload not in fitting:
            continue
        try:
            found[index] = reach.changed(row, text, workload)
        except ValueError as error:
            mistake = _mistake(row, str(error))
            mistakes += [mistake] if mistake not in mistakes else []
    return tuple(found)


def _watchdog(
    profile: Profile, environment: Mapping[str, str], mistakes: Mistakes
) -> tuple[WatchdogSettings, dict[str, str]]:
    """Return the watchdog's settings with their variables in them, and those that were set."""
    used: dict[str, str] = {}
    numbers: dict[str, float] = {}
    before = len(mistakes)
    for row in WATCHDOG:
        text = environment.get(row.variable)
        if not text or row.read is None:
            continue
        used[row.variable] = text
        try:
            numbers[row.field] = row.read(text)
        except ValueError as error:
            mistakes.append(_mistake(row, str(error)))
    watchdog = replace(profile.watchdog, **numbers)  # type: ignore[arg-type]  # names are fields
    if used and len(mistakes) == before:
        names = " and ".join(used)
        mistakes += [(f"environment: {names}: {what}", hint) for _, what, hint in doubts(watchdog)]
    return watchdog, used


def _gateway(
    profile: Profile, environment: Mapping[str, str], used: dict[str, str], mistakes: Mistakes
) -> GatewaySettings | None:
    """Return the gateway's settings with their variables in them, and add those to *used*."""
    if profile.gateway is None:
        return None
    settings, own, found = gateway_rows.changed(profile.gateway, environment)
    used |= own
    if own and not found:
        names = " and ".join(own)
        found = [
            (f"environment: {names}: gateway.{key}: {what}", hint)
            for key, what, hint in gateway_doubts(settings)
        ]
    mistakes += found
    return settings


def _mistake(row: Row, text: str) -> tuple[str, str]:
    """Return a mistake of `what is wrong; hint`, as a row tells it."""
    what, _, hint = text.rpartition("; ")
    return f"environment: {row.variable}: {what}", hint
