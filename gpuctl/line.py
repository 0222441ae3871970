"""The straight line through points, and how far its slope can be trusted. PURE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A least-squares line through (x, y)."""

    slope: float  # y for each x
    slope_error: float  # its standard error
    last: float  # the line's own y at the last x

    @property
    def rises(self) -> bool:
        """True when the slope is above zero by more than two standard errors: 95 of 100 times."""
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
    )
