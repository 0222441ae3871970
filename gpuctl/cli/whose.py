"""
Whether these directories are of a simulated host or of a real one.

A simulated host has directories of its own, unless the environment names others. Every command
that acts asks here first: a simulation would take over a real host's daemon and replicas.
"""

from __future__ import annotations

import json
from dataclasses import replace

from gpuctl.cli.session import Session
from gpuctl.errors import UsageError


def refuse(session: Session) -> None:
    """Raise `UsageError` where a real host's directories are given to a simulated one, or back."""
    seen = session.seen
    _refuse(session, (seen.status, seen.applied))


def refuse_keys(session: Session) -> None:
    """Do what `refuse` does, also where only the configuration is shared with a real host."""
    refuse(session)
    real = replace(session, simulate="").seen
    if session.simulate and real.keys == session.seen.keys:
        _refuse(session, (real.status, real.applied))


def _refuse(session: Session, places: tuple[str, ...]) -> None:
    for path in places:
        told = _simulated(path)
        if told is None or told == bool(session.simulate):
            continue
        other = "name other directories by GPUCTL_STATE_DIR, GPUCTL_RUNTIME_DIR, GPUCTL_CONFIG_DIR"
        if session.simulate:
            raise UsageError(
                f"{path} is of a real host, and --simulate {session.simulate} is not for it",
                f"leave --simulate out, or {other}",
            )
        raise UsageError(
            f"{path} is of a simulated host, and this is not",
            f"use --simulate as it was begun, or {other}; if it is over, remove {path}",
        )


def _simulated(path: str) -> bool | None:
    """Return what a document says of its host; `None` where it does not, or cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    told = document.get("simulated") if isinstance(document, dict) else None
    return told if isinstance(told, bool) else None
