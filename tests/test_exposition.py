"""The Prometheus text format, read tolerantly."""

from __future__ import annotations

import pytest

from gpuctl.exposition import Sample, samples, total, whole


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        pytest.param("up 1", {}, 1.0, id="bare"),
        pytest.param("up\t2.5e3", {}, 2500.0, id="tab and exponent"),
        pytest.param("up 1 1395066363000", {}, 1.0, id="with a timestamp"),
        pytest.param("up{} 1", {}, 1.0, id="no labels"),
        pytest.param('up{a="x",b="y",} 1', {"a": "x", "b": "y"}, 1.0, id="labels"),
        pytest.param('up{a="} 7 {"} 1', {"a": "} 7 {"}, 1.0, id="braces in a value"),
        pytest.param('up{a="x"} 1 # {id="y"} 9', {"a": "x"}, 1.0, id="an exemplar"),
    ],
)
def test_sample(line: str, labels: dict[str, str], value: float) -> None:
    """A line is a name, labels and a number."""
    assert samples(line, {"up"}) == (Sample(name="up", labels=labels, value=value),)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("# TYPE up gauge", id="a comment"),
        pytest.param("upper 1", id="a longer name"),
        pytest.param("up", id="no value"),
        pytest.param("up x", id="not a number"),
        pytest.param("up NaN", id="not a number by its own account"),
        pytest.param("up +Inf", id="infinite"),
        pytest.param("up 1e300", id="beyond anything counted"),
        pytest.param('up{a="x 1', id="broken off"),
    ],
)
def test_skipped(line: str) -> None:
    """What is not a finite sample of the metric asked for is passed over."""
    assert samples(line, {"up"}) == ()


def test_total() -> None:
    """A sum over every label set, and nothing where there is none."""
    found = samples('a{x="1"} 1\na{x="2"} 2\nb 4', {"a", "b"})
    assert (total(found, "a"), total(found, "a", "b"), total(found, "c")) == (3.0, 7.0, None)


def test_whole() -> None:
    """A count is a whole number, and none is none."""
    assert (whole(3.0), whole(None)) == (3, None)
