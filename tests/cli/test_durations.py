"""Durations as options take them."""

import pytest
import typer

from gpuctl.cli import durations


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("90", 90.0, id="seconds"),
        pytest.param("0.5", 0.5, id="a part of one"),
        pytest.param("1h30m", 5400.0, id="with units"),
        pytest.param(1800, 1800.0, id="a default"),
    ],
)
def test_seconds(written: object, expected: float) -> None:
    """Plain seconds, or what a profile takes."""
    assert durations.seconds(written) == expected


@pytest.mark.parametrize("written", ["nan", "inf", "-5", "soon", "", "1e99"])
def test_no_duration(written: str) -> None:
    """What is none is refused with the forms there are."""
    with pytest.raises(typer.BadParameter, match="write seconds as a number"):
        durations.seconds(written)


@pytest.mark.parametrize("written", ["0", "50ms"])
def test_an_interval_takes_time(written: str) -> None:
    """A screen is not drawn without end."""
    with pytest.raises(typer.BadParameter, match="write 100ms or more"):
        durations.interval(written)
    assert durations.interval("100ms") == 0.1


@pytest.mark.parametrize(
    ("written", "expected"),
    [("30d", 30 * 86400.0), ("12h", 43200.0), ("1h30m", 5400.0), ("3650d", 3650 * 86400.0)],
)
def test_a_lifetime(written: str, expected: float) -> None:
    """Days are a unit here."""
    assert durations.lifetime(written) == expected


@pytest.mark.parametrize("written", ["30", "0d", "0s", "d", "1_0d", "-1d", "1d2h", "3651d", ""])
def test_no_lifetime(written: str) -> None:
    """A number alone could be seconds or days."""
    with pytest.raises(typer.BadParameter, match="write 30d, 12h, 90m"):
        durations.lifetime(written)
