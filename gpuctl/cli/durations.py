"""Durations on the command line: `90`, `30m` or `1h30m` in, seconds out; parsers for typer."""

from __future__ import annotations

from typing import Any

import typer

#: More often than this nobody sees, and the terminal alone takes a core.
_LEAST_INTERVAL_SECONDS = 0.1


def seconds(value: Any) -> float:
    """Return the seconds that an option means. Raises `typer.BadParameter`."""
    from gpuctl.quantities import parse_seconds

    try:
        number: object = float(value)
    except ValueError:
        number = value  # with its unit
    try:
        return parse_seconds(number)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def lifetime(value: Any) -> float:
    """Return the seconds that something lasts, in days where they are meant: `30d`, `12h`."""
    from gpuctl.quantities import parse_seconds

    days = str(value).removesuffix("d")
    in_days = days.isdecimal() and days != value
    try:
        found = parse_seconds(int(days) * 86400 if in_days else value)
    except ValueError:
        found = 0.0
    if not found:
        raise typer.BadParameter(f'"{value}" is no such time; write 30d, 12h, 90m')
    return found


def interval(value: Any) -> float:
    """Return the seconds between two looks. Raises `typer.BadParameter`."""
    found = seconds(value)
    if found < _LEAST_INTERVAL_SECONDS:
        raise typer.BadParameter(f"{value} is too short; write 100ms or more")
    return found
