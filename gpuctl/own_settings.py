"""
What the operator has set of an engine's settings, in its options or its `args`. Pure.

Every engine has one rule for `args`: a flag that an option stands for counts as that option, both
at once are a mistake, and any other that changes the sum of VRAM is named beside the sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gpuctl.model import Json, Tuned, Workload
from gpuctl.plugin import Unfit


def own(workload: Workload, key: str, flags: Collection[str]) -> Tuned | None:
    """Return a setting that stands in the profile, `None` when gpuctl may choose it."""
    if key in workload.options:
        value: Json = workload.options[key]  # type: ignore[assignment]  # options are plain JSON
        return Tuned(key=key, value=value, why=said_by(workload, key), by_operator=True)
    found = argument(workload, flags)
    if found is None:
        return None
    return Tuned(key=key, value=found[1] or found[0], why="in the profile's args", by_operator=True)


def argument(workload: Workload, flags: Collection[str]) -> tuple[str, str] | None:
    """Return the last of some flags among the args, which counts, with its word, "" for none."""
    args = workload.args
    index = next((i for i in range(len(args))[::-1] if args[i].partition("=")[0] in flags), None)
    if index is None:
        return None
    flag, equals, text = args[index].partition("=")
    following = args[index + 1] if index + 1 < len(args) else "-"
    return flag, text if equals or following.startswith("-") else following


def said(workload: Workload, flags: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the options that stand among the args instead: a flag's word, else the flag."""
    found = ((key, argument(workload, names)) for key, names in flags.items())
    return {key: one[1] or one[0] for key, one in found if one is not None}


def where(workload: Workload, key: str, flags: Collection[str]) -> str:
    """Return the key of the workload that says a setting."""
    return "args" if argument(workload, flags) is not None else f"options.{key}"


def twice(workload: Workload, flags: Mapping[str, Collection[str]]) -> Iterator[Unfit]:
    """Yield what stands in the options and among the args: the engine would take the latter."""
    for key, names in flags.items():
        found = argument(workload, names)
        if found is not None and workload.options.get(key) is not None:
            variable = workload.set_by.get(key)
            other = f"options.{key}" + (f" (from {variable})" if variable else "")
            yield Unfit(
                key="args", what=f"{found[0]} stands beside {other}", hint="keep one of them"
            )


def uncounted(workload: Workload, flags: Collection[str]) -> Iterator[str]:
    """Yield a note for each flag among the args that changes the VRAM in a way nobody sums here."""
    for flag in dict.fromkeys(word.partition("=")[0] for word in workload.args):
        if flag in flags:
            yield f"{flag} stands in args and is not in this sum: say the whole with `vram`"


def said_by(workload: Workload, key: str) -> str:
    """Return where a setting of the operator's stands: in the profile, or in a variable."""
    variable = workload.set_by.get(key)
    return f"from {variable}" if variable else "as the profile says"
