"""When VRAM reaches its next level, and why that cannot always be told."""

from __future__ import annotations

import pytest

from gpuctl.forecast import Forecast, forecast

TOTAL = 100_000
EDGES = (("critical", 0.85), ("full", 0.95))


def every_half_minute(*values: float) -> list[tuple[float, float]]:
    return [(30.0 * number, value) for number, value in enumerate(values)]


def ramp(start: float, step: float, count: int = 20) -> list[tuple[float, float]]:
    return every_half_minute(*(start + step * number for number in range(count)))


@pytest.mark.parametrize(
    ("samples", "unknown"),
    [
        pytest.param([], "too_few_samples", id="none"),
        pytest.param(ramp(0, 10, 11), "too_few_samples", id="eleven"),
        pytest.param([*ramp(0, 10, 11), (330.0, 60_000.0)], "level_changed", id="just-loaded"),
        pytest.param(ramp(50_000, 0), "steady", id="level"),
        pytest.param(
            every_half_minute(*([50_000, 50_100] * 10)), "steady", id="up-and-down"
        ),
        pytest.param(ramp(50_000, -100), "falling", id="falling"),
        pytest.param(ramp(96_000, 10), "full", id="above-the-last"),
        pytest.param(ramp(50_000, 10), "too_far", id="in-29-hours"),
        pytest.param(
            every_half_minute(*[79_000] * 50, *[83_000] * 50), "steady", id="one-step"
        ),
        pytest.param(
            every_half_minute(*[79_000] * 8, *[83_000] * 6), "steady", id="one-step-of-late"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_said(samples: list[tuple[float, float]], unknown: str) -> None:
    """Too few samples, a model that was just loaded, no slope beyond noise, or too far ahead."""
    assert forecast(samples, TOTAL, EDGES) == Forecast(unknown=unknown)


def test_beyond_a_day_nothing_is_foretold() -> None:
    """A line that the samples hardly tell from a level one may take for ever: that is too far."""
    barely = every_half_minute(*(50_000 + 12.2 * n + (30 if n % 2 else -30) for n in range(20)))
    assert forecast(barely, TOTAL, EDGES) == Forecast(unknown="too_far")


def test_samples_of_a_load_do_not_count() -> None:
    """It rose until the model was there: what comes after is another matter."""
    samples = ramp(20_000, 3_000)
    assert forecast(samples, TOTAL, EDGES, 570.0) == Forecast(unknown="level_changed")
    assert forecast(samples, TOTAL, EDGES, 210.0).level == "critical"


def test_a_rise_that_began_of_late_is_found() -> None:
    """The latest half of 100 samples rises all along, though the whole does not."""
    found = forecast(every_half_minute(*[50_000] * 50, *range(50_100, 55_100, 100)), TOTAL, EDGES)
    assert found.level == "critical"
    assert found.seconds == pytest.approx((85_000 - 55_000) * 0.3)


def test_a_steady_rise_is_foretold_to_the_second() -> None:
    """100 bytes in 30 s from 51,900 to 85,000 take 9,930 s; a line without error has no spread."""
    found = forecast(ramp(50_000, 100), TOTAL, EDGES)
    assert found.level == "critical"
    assert found.seconds == pytest.approx(9_930)
    assert found.least_seconds == pytest.approx(9_930)
    assert found.most_seconds == pytest.approx(9_930)


def test_noise_widens_the_forecast() -> None:
    """Between the steepest and the flattest line that the samples allow lies the answer."""
    noisy = every_half_minute(*(50_000 + 100 * n + (400 if n % 2 else -400) for n in range(20)))
    found = forecast(noisy, TOTAL, EDGES)
    assert found.unknown == ""
    assert 5_000 < found.least_seconds < found.seconds < found.most_seconds < 20_000
    assert found.least_seconds < 9_930 < found.most_seconds


def test_what_was_before_a_load_does_not_count() -> None:
    """A model loaded in between is no trend: the line goes through what came after it."""
    before = every_half_minute(*[10_000.0] * 30)
    after = [(900.0 + at, value) for at, value in ramp(50_000, 100)]
    assert forecast(before + after, TOTAL, EDGES).seconds == pytest.approx(9_930)


def test_a_card_beyond_critical_is_asked_for_full() -> None:
    """The next level is the one above the line's end."""
    found = forecast(ramp(86_000, 100), TOTAL, EDGES)
    assert found.level == "full"
    assert found.seconds == pytest.approx((95_000 - 87_900) * 0.3)
