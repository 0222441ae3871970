"""Each GPU's readings within an hour, rolled up."""

from __future__ import annotations

from gpuctl.peaks import HOUR, Peaks, Span
from tests import make
from tests.make import NOW

COOL = make.gpu(temperature_celsius=40.0, memory_used_bytes=5, power_watts=None)
HOT = make.gpu(temperature_celsius=80.0, memory_used_bytes=3)


def test_what_a_gpu_reports_is_rolled_up() -> None:
    """Each number by itself; what a GPU does not report has none."""
    peaks = Peaks(since=NOW)
    for gpu in (COOL, HOT, COOL):
        peaks = peaks.with_reading(make.snapshot(gpus=[gpu]))
    assert peaks.gpus == {
        "GPU-0": {
            "memory_used_bytes": Span(lowest=3, highest=5, total=13, count=3),
            "temperature_celsius": Span(lowest=40.0, highest=80.0, total=160.0, count=3),
        }
    }


def test_a_lost_gpu_keeps_its_peaks() -> None:
    """What was read before it was lost stays in the hour; what is read after does not count."""
    lost = make.gpu(state="lost", temperature_celsius=0.0)
    peaks = Peaks(since=NOW).with_reading(make.snapshot(gpus=[COOL]))
    assert peaks.with_reading(make.snapshot(gpus=[lost])) == peaks


def test_what_could_not_be_read_counts_once() -> None:
    """While the driver does not answer the last reading is no news."""
    peaks = Peaks(since=NOW).with_reading(make.snapshot(gpus=[COOL]))
    assert peaks.with_reading(make.snapshot(gpus=[COOL], errors={"gpus": "hung"})) == peaks


def test_an_hour_under_way_tells_what_it_was_like_so_far() -> None:
    """Whoever asks before the hour is full gets the same numbers of a part of it."""
    peaks = Peaks(since=NOW)
    for gpu in (COOL, HOT):
        peaks = peaks.with_reading(make.snapshot(gpus=[gpu]))
    assert peaks.so_far() == {
        "GPU-0": {
            "memory_used_bytes": 5,
            "temperature_celsius": 80.0,
            "lowest": {"memory_used_bytes": 3, "temperature_celsius": 40.0},
            "mean": {"memory_used_bytes": 4.0, "temperature_celsius": 60.0},
        }
    }
    assert peaks.highest("GPU-0") == {"memory_used_bytes": 5, "temperature_celsius": 80.0}
    assert peaks.highest("GPU-1") == {}


def test_an_hour_is_handed_over_when_it_is_full() -> None:
    """Nothing before the hour is over; then all of it, and the next hour begins empty."""
    peaks = Peaks(since=NOW)
    for gpu in (COOL, HOT, COOL):
        peaks = peaks.with_reading(make.snapshot(gpus=[gpu]))
    early, same = peaks.taken(make.snapshot(boot_seconds=NOW + HOUR - 1))
    assert (early, same) == ({}, peaks)
    full, fresh = peaks.taken(make.snapshot(boot_seconds=NOW + HOUR))
    assert full == {
        "GPU-0": {
            "memory_used_bytes": 5,
            "temperature_celsius": 80.0,
            "lowest": {"memory_used_bytes": 3, "temperature_celsius": 40.0},
            "mean": {"memory_used_bytes": 4.333, "temperature_celsius": 53.333},
        }
    }
    assert fresh == Peaks(since=NOW + HOUR)
