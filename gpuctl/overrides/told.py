"""
What `plan` says of variables of the environment in shapes that do not run yet: one line each.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.model import Profile, Variant, Workload
from gpuctl.overrides.shapes import said, shape, shapes


def elsewhere(profile: Profile) -> tuple[str, ...]:
    """
    Return what variables set in `on_cpu` and `scaled`, and what these say themselves instead.

    A shape of which nothing is said is as its workload, and is not told.
    """
    return tuple(line for workload in profile.workloads for line in _lines(workload))


def _lines(workload: Workload) -> Iterator[str]:
    for kind in sorted(shapes(workload)):
        variant = said(workload, kind)
        if variant == Variant():
            continue
        found, there = shape(workload, kind), f"{workload.name}, {kind}"
        for key, variable in sorted({**workload.set_by, **variant.set_by}.items()):
            value = _value(found, key)
            if key in workload.secrets or key == "mounts" or value is None:
                continue
            if variant.set_by.get(key):
                yield f"{there}: {key} = {value}, from {variant.set_by[key]}"
            elif variable := workload.set_by.get(key, ""):
                yield f"{there}: {key} = {value}, as it says itself, whatever {variable} says"


def _value(workload: Workload, key: str) -> str | None:
    for place in (workload.options, workload.environment):
        if key in place:
            value = place[key]
            return str(value).lower() if isinstance(value, bool) else str(value)
    found = workload.parallel if key == "max_num_seqs" else getattr(workload, key, None)
    return None if found is None else str(found)
