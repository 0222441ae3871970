"""
Metrics as the lines that Prometheus reads: `metrics` and `gauges` print with these. PURE.

A sample is its labels, in the order they are shown, and its value; every name gets the gateway's
prefix. A metric without a sample is left out, never written as 0.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gpuctl.gateway.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "gpuctl_gateway_"

Labels = tuple[tuple[str, str], ...]
Samples = Iterable[tuple[Labels, float]]


def counter(name: str, words: str, samples: Samples) -> Iterator[str]:
    return _family(name, words, "counter", samples)


def gauge(name: str, words: str, samples: Samples) -> Iterator[str]:
    return _family(name, words, "gauge", samples)


def histogram(name: str, words: str, samples: Iterable[tuple[Labels, Histogram]]) -> Iterator[str]:
    seen = [(labels, one) for labels, one in samples if any(one.counts)]
    if seen:
        yield f"# HELP {_PREFIX}{name} {words}"
        yield f"# TYPE {_PREFIX}{name} histogram"
    for labels, one in seen:
        yield from one.lines(f"{_PREFIX}{name}", _inner(labels))


def by(label: str, counts: Mapping[str, int]) -> Samples:
    """Return the samples of counts by one label, in its values' order."""
    return ((((label, value),), count) for value, count in sorted(counts.items()))


def _family(name: str, words: str, kind: str, samples: Samples) -> Iterator[str]:
    """Yield one metric; one without a sample is left out, never written as 0."""
    lines = [
        f"{_PREFIX}{name}{{{_inner(labels)}}} {_number(value)}"
        if labels
        else f"{_PREFIX}{name} {_number(value)}"
        for labels, value in samples
    ]
    if lines:
        yield f"# HELP {_PREFIX}{name} {words}"
        yield f"# TYPE {_PREFIX}{name} {kind}"
        yield from lines


def _inner(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)
