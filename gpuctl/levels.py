"""
A reading's place on a ladder of levels, or on one side of a limit, left only by a margin. PURE.

A reading that moves about at an edge would otherwise change what is told of it each time.
"""

from __future__ import annotations

from collections.abc import Sequence

#: What went beyond a limit is so until it is such a share of the limit on the other side.
MARGIN_RATIO = 0.1


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


def above(value: float, limit: float, *, before: bool) -> bool:
    """Return whether a value is above its limit, or not yet well below it if it was *before*."""
    return value > limit - (MARGIN_RATIO * limit if before else 0.0)


def below(value: float, limit: float, *, before: bool) -> bool:
    """Return whether a value is below its limit, or not yet well above it if it was *before*."""
    return value < limit + (MARGIN_RATIO * limit if before else 0.0)
