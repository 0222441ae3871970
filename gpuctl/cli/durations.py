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


def interval(value: Any) -> float:
    """Return the seconds between two looks. Raises `typer.BadParameter`."""
    found = seconds(value)
    if found < _LEAST_INTERVAL_SECONDS:
        raise typer.BadParameter(f"{value} is too short; write 100ms or more")
    return found
