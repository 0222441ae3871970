"""The highest readings of each GPU within an hour."""

from __future__ import annotations

from gpuctl.peaks import HOUR, Peaks
from tests import make
from tests.make import NOW

COOL = make.gpu(temperature_celsius=40.0, memory_used_bytes=5, power_watts=None)
HOT = make.gpu(temperature_celsius=80.0, memory_used_bytes=3)


def test_the_highest_of_each_reading_is_kept() -> None:
    """Each number has its own peak; what a GPU does not report has none."""
    peaks = Peaks(since=NOW)
    for gpu in (COOL, HOT, COOL):
        peaks = peaks.with_reading(make.snapshot(gpus=[gpu]))
    assert peaks.gpus == {"GPU-0": {"memory_used_bytes": 5, "temperature_celsius": 80.0}}


def test_a_lost_gpu_keeps_its_peaks() -> None:
    """What was read before it was lost stays in the hour; what is read after does not count."""
    lost = make.gpu(state="lost", temperature_celsius=0.0)
    peaks = Peaks(since=NOW).with_reading(make.snapshot(gpus=[COOL]))
    assert peaks.with_reading(make.snapshot(gpus=[lost])) == peaks


def test_an_hour_is_handed_over_when_it_is_full() -> None:
    """Nothing before the hour is over; then all of it, and the next hour begins empty."""
    peaks = Peaks(since=NOW).with_reading(make.snapshot(gpus=[HOT]))
    early, same = peaks.taken(make.snapshot(boot_seconds=NOW + HOUR - 1))
    assert (early, same) == ({}, peaks)
    full, fresh = peaks.taken(make.snapshot(boot_seconds=NOW + HOUR))
    assert full == {"GPU-0": {"memory_used_bytes": 3, "temperature_celsius": 80.0}}
    assert fresh == Peaks(since=NOW + HOUR)
