"""What the operator set himself of an engine's settings, in its options or its `args`. Pure."""

from __future__ import annotations

from collections.abc import Collection

from gpuctl.model import Json, Tuned, Workload


def own(workload: Workload, key: str, flags: Collection[str]) -> Tuned | None:
    """Return a setting that stands in the profile, `None` when gpuctl may choose it."""
    if key in workload.options:
        value: Json = workload.options[key]  # type: ignore[assignment]  # options are plain JSON
        return Tuned(key=key, value=value, why=said_by(workload, key), by_operator=True)
    args = workload.args
    index = next((i for i, word in enumerate(args) if word.partition("=")[0] in flags), None)
    if index is None:
        return None
    flag, equals, text = args[index].partition("=")
    following = args[index + 1] if index + 1 < len(args) else "-"
    if not equals:
        text = flag if following.startswith("-") else following
    return Tuned(key=key, value=text, why="in the profile's args", by_operator=True)


def said_by(workload: Workload, key: str) -> str:
    """Return where a setting of the operator's stands: in the profile, or in a variable."""
    variable = workload.set_by.get(key)
    return f"from {variable}" if variable else "as the profile says"
