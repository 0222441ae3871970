"""
The Prometheus text format, read tolerantly: the text of an engine's /metrics in, numbers out.

Engines use it to make `EngineStats`, every few seconds for every replica, so lines of other
metrics are skipped before they are parsed, and a malformed line is skipped like them.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_LINE = re.compile(r'([A-Za-z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)')
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float  # finite


def samples(text: str, names: Collection[str]) -> tuple[Sample, ...]:
    """Return the samples of the metrics named, in the text's order, without NaN and infinities."""
    prefixes = tuple(names)
    parsed = (_sample(line) for line in text.splitlines() if line.startswith(prefixes))
    return tuple(sample for sample in parsed if sample is not None and sample.name in names)


def total(found: Iterable[Sample], *names: str) -> float | None:
    """Return the sum over all samples of these names, `None` when there is none."""
    values = [sample.value for sample in found if sample.name in names]
    return math.fsum(values) if values else None


def whole(value: float | None) -> int | None:
    """Return a gauge that counts things as an integer."""
    return None if value is None else int(value)


def _sample(line: str) -> Sample | None:
    match = _LINE.match(line)
    if match is None:
        return None
    try:
        value = float(match[3])
    except ValueError:
        return None
    # Engines count far below 2**53; what is beyond is noise, and its sum might not be finite.
    if not abs(value) <= 2**53:
        return None
    return Sample(name=match[1], labels=dict(_LABEL.findall(match[2] or "")), value=value)
