"""Histograms: what is counted where, and how it is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import histogram
from gpuctl.gateway.histogram import Histogram


def of(values: Sequence[float]) -> Histogram:
    made = Histogram((1.0, 2.5))
    for value in values:
        made.add(value)
    return made


def test_a_bucket_includes_its_bound_and_those_below() -> None:
    """Prometheus' buckets are cumulative, and `le` is less or equal."""
    assert list(of([0.5, 1.0, 1.5, 2.5, 9.0]).lines("x_seconds", 'model="chat"')) == [
        'x_seconds_bucket{model="chat",le="1.0"} 2',
        'x_seconds_bucket{model="chat",le="2.5"} 4',
        'x_seconds_bucket{model="chat",le="+Inf"} 5',
        'x_seconds_sum{model="chat"} 14.5',
        'x_seconds_count{model="chat"} 5',
    ]


def test_one_without_labels_has_no_empty_braces() -> None:
    """Only the buckets have a label then."""
    assert list(of([3.0]).lines("x_seconds", "")) == [
        'x_seconds_bucket{le="1.0"} 0',
        'x_seconds_bucket{le="2.5"} 0',
        'x_seconds_bucket{le="+Inf"} 1',
        "x_seconds_sum 3.0",
        "x_seconds_count 1",
    ]


@given(st.lists(st.floats(min_value=0, max_value=1e6)))
def test_nothing_is_lost(values: list[float]) -> None:
    """Whatever is added is in exactly one bucket, the one whose bounds hold it, and in the sum."""
    made = of(values)
    assert made.counts == [
        sum(value <= 1.0 for value in values),
        sum(1.0 < value <= 2.5 for value in values),
        sum(value > 2.5 for value in values),
    ]
    assert math.isclose(made.sum, sum(values))


@pytest.mark.parametrize(
    "bounds",
    [pytest.param(getattr(histogram, name), id=name) for name in vars(histogram) if name.isupper()],
)
def test_bounds_ascend(bounds: Sequence[float]) -> None:
    """Bisection needs them sorted, Prometheus without doubles."""
    assert list(bounds) == sorted(set(bounds))
