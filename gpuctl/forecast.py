"""When a GPU's VRAM will reach its next level of pressure, or why that cannot be told. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuctl.line import latest

#: Fewer samples make no trend, which is seen in each quarter of them.
LEAST_SAMPLES = 12
#: Two samples that differ by more than this share of the card are a model that was loaded or
#: unloaded, not a trend: what was before it tells nothing of what comes.
JUMP_RATIO = 0.05
#: A line through less than an hour is not drawn on for longer than this.
HORIZON_SECONDS = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The next level and when it is reached; or `unknown` says why not."""

    #: too_few_samples | loading | level_changed | steady | falling | too_far | full; "" where it
    #: is known
    unknown: str = ""
    level: str = ""
    seconds: float = 0.0  # from now
    least_seconds: float = 0.0  # by the steepest line that the samples allow ...
    most_seconds: float = 0.0  # ... and by the flattest, both within two standard errors


def forecast(
    samples: Sequence[tuple[float, float]],
    total: int,
    edges: Sequence[tuple[str, float]],
    loaded_at: float | None = None,
) -> Forecast:
    """
    Return what the line through the samples says of the next level.

    Of VRAM that wanders without a trend something is foretold in at most 2 of 100 cases, of VRAM
    that changes by a few steps in at most 1: half of the lines that `line.latest` finds there.

    Args:
        samples: (boot seconds, bytes in use), oldest first.
        total: Bytes of the card.
        edges: The levels worth a warning and the share of the card (0-1) each begins at, rising.
        loaded_at: Boot seconds when a replica on the card was last seen loading: what was before
            tells nothing.
    """
    recent = _since_jump(_since(samples, loaded_at), JUMP_RATIO * total)
    if len(recent) < LEAST_SAMPLES:
        return Forecast(
            unknown="too_few_samples" if len(recent) == len(samples) else "level_changed"
        )
    line = latest(recent, LEAST_SAMPLES)
    if line is None:
        return Forecast(unknown="steady")
    if line.falls:
        return Forecast(unknown="falling")
    ahead = [(name, ratio * total - line.last) for name, ratio in edges]
    found = next(((name, left) for name, left in ahead if left > 0), None)
    if found is None:
        return Forecast(unknown="full")
    name, left = found
    error = 2 * line.slope_error
    most_seconds = left / (line.slope - error)
    if most_seconds > HORIZON_SECONDS:
        return Forecast(unknown="too_far")
    return Forecast(
        level=name,
        seconds=left / line.slope,
        least_seconds=left / (line.slope + error),
        most_seconds=most_seconds,
    )


def _since(
    samples: Sequence[tuple[float, float]], start: float | None
) -> Sequence[tuple[float, float]]:
    return samples if start is None else [each for each in samples if each[0] > start]


def _since_jump(
    samples: Sequence[tuple[float, float]], jump: float
) -> Sequence[tuple[float, float]]:
    for place in range(len(samples) - 1, 0, -1):
        if abs(samples[place][1] - samples[place - 1][1]) > jump:
            return samples[place:]
    return samples
