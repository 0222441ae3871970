"""
The straight line through points, how far its slope can be trusted, and whether it is a trend. PURE.

A line through a step rises as well: a trend is what goes one way all along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

#: A trend goes its way in each of so many parts. One step is in one of them and leaves the others
#: level, and so do three; more parts would find a noisy trend later.
_PARTS = 4
#: The pace of each part is at least the whole's divided by this, and at most that times this.
_LIKENESS = 1.75
#: A trend is looked for in the latest part of the points as well: in the whole, the half, the
#: quarter.
_WINDOWS = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A least-squares line through (x, y)."""

    slope: float  # y for each x
    slope_error: float  # its standard error
    last: float  # the line's own y at the last x
    growth: float = 0.0  # by how much its y grows from the first x to the last

    @property
    def rises(self) -> bool:
        """
        True when the slope is above zero by more than two standard errors.

        Noise around a level does that in 2 or 3 of 100 cases; a step or a walk does it far more
        often, which is why `even` asks for more.
        """
        return self.slope > 2 * self.slope_error

    @property
    def falls(self) -> bool:
        return -self.slope > 2 * self.slope_error


def fit(points: Sequence[tuple[float, float]]) -> Line | None:
    """Return the line through points in order of x; `None` for too few to tell its error."""
    count = len(points)
    if count < 3:
        return None
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0.0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Line(
        slope=slope,
        slope_error=math.sqrt(left / (count - 2) / spread),
        last=mean_y + slope * (points[-1][0] - mean_x),
        growth=slope * (points[-1][0] - points[0][0]),
    )


def even(points: Sequence[tuple[float, float]]) -> Line | None:
    """
    Return the line through points in order of x that rise, or fall, all along.

    `None` for fewer than 12, or where a quarter of them goes another way or at another pace. Of
    windows without a trend a line is found in at most 2 of 100 where each point is a chance step
    from the one before, and in 1 where there are up to four steps or noise around a level
    (simulated, 12 to 100 points).
    """
    line = fit(points)
    if line is None or not (line.rises or line.falls):
        return None
    edges = [part * len(points) // _PARTS for part in range(_PARTS + 1)]
    for start, end in itertools.pairwise(edges):
        part = fit(points[start:end])
        if part is None or not 1 / _LIKENESS <= part.slope / line.slope <= _LIKENESS:
            return None
    return line


def latest(points: Sequence[tuple[float, float]], least: int) -> Line | None:
    """
    Return the line through the longest of the latest points that rise, or fall, all along.

    What was before a trend began would hide it until it is forgotten. Looking three times, a line
    is found in at most 3 of 100 cases where each point is a chance step from the one before.

    Args:
        points: In order of x.
        least: Fewer points make no line.
    """
    for share in _WINDOWS:
        count = len(points) // share
        if count < least:
            return None
        line = even(points[-count:])
        if line is not None:
            return line
    return None
