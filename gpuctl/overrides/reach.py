"""
One variable of the environment in a workload and in its shapes elsewhere: a Row, its text and a
Workload in, the Workload out. Pure; called by `apply`.

A shape that runs the engine the variable is for gets it, on the CPU where it means something
there. What a shape says itself stays; what does not reach it stays as the profile has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpuctl.model import Variant, Workload
from gpuctl.overrides.shapes import Kind, said, shape
from gpuctl.overrides.table import Row

#: What a setting is one with: a shape that says the second has said the first.
_IMPLIED = {"max_num_seqs": "parallel", "quantization": "model"}


def changed(row: Row, text: str, workload: Workload) -> Workload:
    """Return the workload with one variable in it. Raises ValueError("what; hint")."""
    assert row.change is not None
    after = workload
    if row.fits(workload) or (row.whole and row.concerns(workload)):
        after = row.change(workload, text)
        after = replace(after, set_by=_marked(row, after, workload.set_by))
    if row.whole:
        return after
    after = replace(after, scaled=_variant(row, text, workload, after, "scaled"))
    if workload.fallback == "none":
        return after
    return replace(after, on_cpu=_variant(row, text, workload, after, "on_cpu"))


def _variant(row: Row, text: str, before: Workload, after: Workload, kind: Kind) -> Variant:
    """Return what a workload is to say of a shape; *after* has the variable in itself already."""
    assert row.change is not None
    variant, wanted = said(before, kind), shape(before, kind)
    own_word = _own(row, variant)
    reached = row.fits(wanted) and not own_word and (row.fits(before) or not row.single)
    if reached:
        wanted = row.change(wanted, text)
    inherited = shape(after, kind)
    own: dict[str, Any] = {}
    marks = dict(variant.set_by)
    if wanted.parallel != inherited.parallel:
        own["parallel"], marks["max_num_seqs"] = wanted.parallel, ""
    if wanted.options != inherited.options:
        own["options"] = wanted.options
        written = variant.options or {}
        marks = {**{key: "" for key in wanted.options if key not in written}, **marks}
    if reached:
        own |= {
            name: getattr(wanted, name)
            for name in ("model", "context")
            if getattr(wanted, name) != getattr(inherited, name)
        }
        added = _added(wanted.environment, inherited.environment)
        own |= {"environment": {**variant.environment, **added}} if added else {}
        marks = _marked(row, wanted, marks)
    elif row.fits(before) and not own_word and _beyond_options(row, inherited):
        marks[row.sets] = row.variable
    return replace(variant, **own, set_by=marks)


def _own(row: Row, variant: Variant) -> bool:
    """Return whether a shape says itself what a variable would set."""
    if row.sets in variant.set_by:
        return False
    if row.sets in (variant.options or {}) or row.sets in variant.environment:
        return True
    return getattr(variant, _IMPLIED.get(row.sets, row.sets), None) is not None


def _marked(row: Row, workload: Workload, before: Mapping[str, str]) -> dict[str, str]:
    """Return which variable set what; a setting that was taken out was set by none."""
    found = {key: name for key, name in before.items() if key != row.sets}
    places = (workload.options, workload.environment, workload.secrets)
    if any(row.sets in place for place in places) or getattr(workload, row.sets, None):
        found[row.sets] = row.variable
    return found


def _beyond_options(row: Row, workload: Workload) -> bool:
    """Return whether a shape has a setting from its workload, whatever its engine: the context."""
    return row.sets in workload.environment or bool(getattr(workload, row.sets, None))


def _added(wanted: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in wanted.items() if there.get(name) != text}
