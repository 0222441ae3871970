"""What the last hour's readings were like, taken in tick by tick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.forecast import Forecast
from gpuctl.history import History
from gpuctl.model import GpuHealth, GpuProcess, GpuReading, HostReading, Snapshot
from gpuctl.trends import SAMPLES_KEPT, GpuTrend, Held, Sample, Trends
from tests import make
from tests.make import MIB, NOW

PLAN = make.plan()
UUID = "GPU-0"


def at(seconds: float, *gpus: GpuReading, **fields: Any) -> Snapshot:
    return make.snapshot(gpus=gpus or [make.gpu()], boot_seconds=NOW + seconds, **fields)


def taken(snapshots: Iterable[Snapshot]) -> Trends:
    trends = Trends()
    for now in snapshots:
        trends = trends.with_reading(PLAN, now)
    return trends


def test_a_sample_is_kept_every_half_minute() -> None:
    """Ticks in between change the levels, and add no sample."""
    trends = taken(
        at(seconds, make.gpu(memory_used_bytes=seconds * MIB, temperature_celsius=40.0))
        for seconds in (0, 5, 29, 30, 59, 61)
    )
    assert trends.gpu(UUID).samples == tuple(
        Sample(
            boot_seconds=NOW + seconds,
            memory_used_bytes=seconds * MIB,
            utilization_ratio=None,
            temperature_celsius=40.0,
            power_watts=None,
        )
        for seconds in (0, 30, 61)
    )


def test_a_hundred_samples_are_kept_in_whole_numbers() -> None:
    """The oldest go; what a Status shows of them is whole, and None where nothing was told."""
    trends = taken(
        at(30.0 * n, make.gpu(memory_used_bytes=n * MIB, utilization_ratio=0.456, power_watts=99.6))
        for n in range(SAMPLES_KEPT + 5)
    )
    columns = trends.gpu(UUID).columns
    assert columns["memory_mib"] == tuple(range(5, SAMPLES_KEPT + 5))
    assert columns["utilization_percent"] == (46,) * SAMPLES_KEPT
    assert columns["celsius"] == (None,) * SAMPLES_KEPT
    assert columns["watts"] == (100,) * SAMPLES_KEPT


def test_a_forecast_is_made_of_the_samples() -> None:
    """Six GiB that fill by 10 MiB in 30 s from 3 GiB on are critical at 5,222.4 MiB."""
    trends = taken(
        at(30.0 * n, make.gpu(memory_used_bytes=(3072 + 10 * n) * MIB)) for n in range(20)
    )
    found = trends.gpu(UUID).forecast
    assert found.level == "critical"
    assert found.seconds == pytest.approx((5222.4 - 3262) * 3)


def test_without_vram_there_is_no_forecast() -> None:
    trends = taken(at(30.0 * n) for n in range(20))
    assert trends.gpu(UUID).forecast == Forecast(unknown="too_few_samples")


def filled(seconds: float, *, gpus: tuple[str, ...] = (UUID,)) -> Snapshot:
    """GPU 0 fills by 10 MiB in 30 s, and a container that may use these GPUs runs."""
    gpu = make.gpu(memory_used_bytes=3072 * MIB + int(seconds / 3) * MIB)
    return make.snapshot(make.container(gpus=gpus), gpus=[gpu], boot_seconds=NOW + seconds)


def forecasts(snapshots: Iterable[Snapshot], past: History) -> list[str]:
    """Return what was not known, tick by tick."""
    trends, told = Trends(), []
    for now in snapshots:
        trends = trends.with_reading(PLAN, now, past)
        told.append(trends.gpu(UUID).forecast.unknown)
    return told


@pytest.mark.parametrize("gpus", [(UUID,), ()], ids=["its-own-label", "as-planned"])
def test_while_a_replica_loads_nothing_is_foretold(gpus: tuple[str, ...]) -> None:
    """It fills its card until it is ready, and that rise ends."""
    loading = [filled(30.0 * n, gpus=gpus) for n in range(20)]
    assert forecasts(loading, make.history(make.started())) == ["loading"] * 20


def test_what_a_load_took_is_no_trend() -> None:
    """Once it is ready the samples of the load are left out; twelve others make a forecast."""
    trends, loading = Trends(), make.history(make.started())
    for n in range(20):
        trends = trends.with_reading(PLAN, filled(30.0 * n), loading)
    told = []
    for n in range(20, 33):
        trends = trends.with_reading(PLAN, filled(30.0 * n), make.history(make.served()))
        told.append(trends.gpu(UUID).forecast.unknown)
    assert told == ["level_changed"] * 11 + ["", ""]


def test_a_load_elsewhere_holds_back_no_forecast() -> None:
    """Nor does a replica that is ready, or a container that has ended."""
    past = make.history(make.started())
    elsewhere = [filled(30.0 * n, gpus=("GPU-7",)) for n in range(12)]
    assert forecasts(elsewhere, past)[-1] == ""
    ready = [filled(30.0 * n) for n in range(12)]
    assert forecasts(ready, make.history(make.served()))[-1] == ""
    ended = [replace(now, owned={"chat-0": make.container(state="exited")}) for now in ready]
    assert forecasts(ended, past)[-1] == ""


def test_levels_have_a_memory() -> None:
    """A level that was reached is left only below its margin: 83 °C is critical after 86."""
    first = taken([at(0, make.gpu(temperature_celsius=86.0, memory_used_bytes=5223 * MIB))])
    again = first.with_reading(
        PLAN, at(5, make.gpu(temperature_celsius=83.0, memory_used_bytes=5200 * MIB))
    )
    assert (first.gpu(UUID).heat, first.gpu(UUID).pressure) == ("critical", "critical")
    assert (again.gpu(UUID).heat, again.gpu(UUID).pressure) == ("critical", "critical")


@pytest.mark.parametrize(
    ("reasons", "slowed", "braked"),
    [
        pytest.param(("hw_thermal",), True, False, id="hardware-thermal"),
        pytest.param(("sw_thermal",), True, False, id="software-thermal"),
        pytest.param(("hw_slowdown",), True, False, id="an-old-driver-tells-no-more"),
        pytest.param(("hw_slowdown", "hw_power_brake"), False, True, id="power-brake"),
        pytest.param(("hw_thermal", "hw_power_brake"), True, True, id="both"),
        pytest.param(("idle", "sw_power_cap"), False, False, id="by-design"),
        pytest.param(None, False, False, id="not-reported"),
    ],
)
def test_which_minutes_count(reasons: tuple[str, ...] | None, slowed: bool, braked: bool) -> None:
    """Heat and the power brake are counted apart; a card at its power limit does as it should."""
    trend = taken([at(0, make.gpu(throttle_reasons=reasons))]).gpu(UUID)
    assert (bool(trend.slowed), bool(trend.braked)) == (slowed, braked)


def test_a_minute_counts_once_and_for_ten() -> None:
    """However often a minute saw it; ten minutes later it is forgotten."""
    hot, cool = make.gpu(throttle_reasons=("hw_thermal",)), make.gpu(throttle_reasons=())
    minute = int(NOW // 60)
    start = minute * 60 - NOW
    trends = taken([at(start, hot), at(start + 5, hot), at(start + 10, cool), at(start + 60, hot)])
    assert trends.gpu(UUID).slowed == (minute, minute + 1)
    later = trends.with_reading(PLAN, at(start + 600, cool))
    assert later.gpu(UUID).slowed == (minute + 1,)


def test_slow_counters_are_kept_for_an_hour_one_a_reading() -> None:
    """The same reading seen twice is one; what is older than an hour goes."""
    readings = [GpuHealth(pcie_replays=n, boot_seconds=NOW + 60.0 * n) for n in range(63)]
    trends = taken(
        at(60.0 * n + again, make.gpu(health=health))
        for n, health in enumerate(readings)
        for again in (0, 5)
    )
    assert trends.gpu(UUID).aging == tuple(readings[2:])


def test_a_lost_gpu_keeps_what_was_known() -> None:
    """And an unread driver changes nothing at all."""
    before = taken([at(0, make.gpu(temperature_celsius=70.0))])
    lost = before.with_reading(PLAN, at(30, make.gpu(state="lost")))
    unread = before.with_reading(PLAN, at(30, errors={"gpus": "hung"}))
    assert lost.gpu(UUID) == before.gpu(UUID)
    assert (unread.gpus, unread.sampled_at) == (before.gpus, NOW + 30)


def test_after_a_gap_everything_begins_anew() -> None:
    """What was before a suspend says little of now."""
    before = taken(at(30.0 * n) for n in range(5))
    after = before.with_reading(PLAN, replace(at(900), gap=True))
    assert len(after.gpu(UUID).samples) == 1


def test_an_unknown_gpu_has_a_blank_trend() -> None:
    assert Trends().gpu("GPU-none") == GpuTrend()


def holding(seconds: float, used: int | None, **container: Any) -> Snapshot:
    process = GpuProcess(pid=100, used_bytes=used, container=container.get("id_", "c1"))
    now = make.snapshot(
        make.container(**container),
        gpus=[make.gpu(processes=[process])],
        boot_seconds=NOW + seconds,
    )
    return now


def test_the_vram_of_a_replica_is_followed_while_its_container_lives() -> None:
    """Another container begins anew; one that has ended, or tells nothing, is not followed."""
    two = taken([holding(0, 5), holding(30, 7)])
    assert two.replicas == {"chat-0": Held(container="c1", points=((NOW, 5.0), (NOW + 30, 7.0)))}
    other = two.with_reading(PLAN, holding(60, 9, id_="c2"))
    assert other.replicas == {"chat-0": Held(container="c2", points=((NOW + 60, 9.0),))}
    assert two.with_reading(PLAN, holding(60, None)).replicas == {}
    assert two.with_reading(PLAN, holding(60, 9, state="exited")).replicas == {}
    assert two.with_reading(PLAN, holding(45, 9)).replicas == two.replicas


def test_a_replica_without_a_gpu_or_a_container_is_not_followed() -> None:
    plan = make.plan(make.replica(gpus=()), make.replica("chat-1"))
    assert Trends().with_reading(plan, holding(0, 5)).replicas == {}


def test_the_disk_is_sampled_every_minute_for_an_hour() -> None:
    """An unread host adds nothing."""
    trends = taken(
        at(30.0 * n, host=HostReading(disk_free_bytes=n, boot_seconds=NOW + 30.0 * n))
        for n in range(130)
    )
    assert trends.disk == tuple((NOW + 60.0 * n, 2.0 * n) for n in range(4, 65))
    unread = trends.with_reading(PLAN, at(9999, host=HostReading(boot_seconds=NOW + 9999)))
    assert unread.disk == trends.disk
