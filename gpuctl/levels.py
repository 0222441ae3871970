"""A reading's place on a ladder of levels, each left only a margin below where it begins. PURE."""

from __future__ import annotations

from collections.abc import Sequence


def level(
    value: float, ladder: Sequence[tuple[str, float]], *, before: str = "", margin: float
) -> str:
    """
    Return the name of the level that a value is on.

    Args:
        value: The reading, in the unit of the ladder.
        ladder: Each level's name and the value it begins at, the lowest first; that one has no
            beginning, whatever stands there.
        before: The level of the reading before; "" or an unknown one for none.
        margin: How far below its beginning a level is still held that was held before.
    """
    names = [name for name, _ in ladder]
    held = names.index(before) if before in names else 0
    reached = names[0]
    for rank, (name, begins) in enumerate(ladder[1:], start=1):
        if value >= begins - (margin if rank <= held else 0.0):
            reached = name
    return reached
