"""Model files: what is here, what one is, and where it fits. Documents in, renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from gpuctl.views import words
from gpuctl.views.tables import Columns


class ModelRow(TypedDict):
    """One model of `models list --json`; `None` is what its files do not tell."""

    name: str
    path: str
    format: str | None  # gguf, safetensors, config
    architecture: str | None
    quantization: str | None
    parameters: int | None
    size_bytes: int
    workloads: list[str]
    complete: bool
    problem: str | None


def listed(rows: Iterable[ModelRow]) -> Columns:
    """Return one line a model."""
    made = Columns(
        "model", "format", "architecture", "quantization", "size>", "used by", "complete", "where",
        spare=("where", "architecture", "format"),
    )  # fmt: skip
    for row in rows:
        made.add_row(
            row["name"],
            row["format"] or words.NONE,
            row["architecture"] or words.NONE,
            row["quantization"] or words.NONE,
            words.size(row["size_bytes"]),
            ", ".join(row["workloads"]) or words.NONE,
            "yes" if row["complete"] else "NO",
            row["path"],
        )
    return made


def problems(rows: Sequence[ModelRow]) -> list[str]:
    """Return a line for each model that is not whole, with what is wrong."""
    return [row["problem"] for row in rows if row["problem"]]
