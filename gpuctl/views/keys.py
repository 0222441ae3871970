"""API keys: rows of `keys list --json` in, a table or a line of words out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from gpuctl.views import words
from gpuctl.views.journal import moment
from gpuctl.views.tables import Columns


class KeyRow(TypedDict):
    """One key of `keys list --json`; times in Unix seconds, `None` is no limit or never."""

    id: str
    name: str
    state: str  # live, expired, revoked
    models: list[str]  # [] is all
    requests_per_minute: int | None
    tokens_per_minute: int | None
    priority: int | None
    admin: bool
    created_at: float
    created_by: int
    expires_at: float | None
    revoked_at: float | None
    revoked_by: int | None


def listed(rows: Iterable[KeyRow]) -> Columns:
    """Return one line a key, oldest first."""
    made = Columns(
        "key", "name", "state", "models", "rpm>", "tpm>", "priority>", "admin", "made", "expires",
        spare=("made", "priority>", "admin", "models"),
    )  # fmt: skip
    for row in rows:
        made.add_row(
            row["id"],
            row["name"],
            row["state"],
            ", ".join(row["models"]) or "all",
            words.number(row["requests_per_minute"]),
            words.number(row["tokens_per_minute"]),
            words.number(row["priority"]),
            "yes" if row["admin"] else "no",
            moment(row["created_at"]),
            words.NONE if row["expires_at"] is None else moment(row["expires_at"]),
        )
    return made


def described(row: KeyRow) -> str:
    """Return what a key may, in a line."""
    limits = {"requests": row["requests_per_minute"], "tokens": row["tokens_per_minute"]}
    parts = [f"for {', '.join(row['models']) or 'all models'}"]
    parts += [f"{count} {what} a minute" for what, count in limits.items() if count is not None]
    if row["priority"] is not None:
        parts.append(f"priority {row['priority']}")
    if row["admin"]:
        parts.append("for operator endpoints too")
    until = "revoked" if row["expires_at"] is None else moment(row["expires_at"])
    return ", ".join([*parts, f"until {until}"])
