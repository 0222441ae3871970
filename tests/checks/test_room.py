"""Whether the host has room: on its disk, in its RAM, and on its GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import disk, host_memory, utilization
from gpuctl.judge import judge
from gpuctl.model import GIB, MIB, Condition, HostReading, Replica, Verdict
from gpuctl.plugin import Check
from gpuctl.trends import GpuTrend, Sample, Trends
from tests import make
from tests.make import NOW

HOUR = 3600.0


def filling(gib_an_hour: float, minutes: int = 30) -> tuple[tuple[float, float], ...]:
    """Down to 100 GiB free, at that rate."""
    return tuple(
        (NOW - 60.0 * n, (100 + gib_an_hour * n / 60) * GIB) for n in reversed(range(minutes))
    )


def pulled(*minutes_ago: int) -> tuple[tuple[float, float], ...]:
    """An hour that ends with 100 GiB free; in each of these minutes 8 GiB came."""
    return tuple(
        (NOW - 60.0 * n, float(100 + 8 * sum(ago < n for ago in minutes_ago)) * GIB)
        for n in reversed(range(61))
    )


def on_disk(
    free: int | None,
    points: tuple[tuple[float, float], ...] = (),
    errors: dict[str, str] | None = None,
) -> list[Verdict]:
    host = HostReading(disk_free_bytes=free, disk_total_bytes=500 * GIB, boot_seconds=NOW)
    scene = make.scene(make.snapshot(host=host, errors=errors))
    return list(disk.CHECK.run(replace(scene, trends=Trends(disk=points))))


@pytest.mark.parametrize(
    ("free", "points", "reason"),
    [
        pytest.param(5 * GIB, (), "", id="enough"),
        pytest.param(5 * GIB - 1, (), "disk_low", id="low"),
        pytest.param(100 * GIB, filling(5), "disk_filling", id="full-in-20-hours"),
        pytest.param(100 * GIB, filling(4), "", id="full-in-25-hours"),
        pytest.param(100 * GIB, filling(5, 29), "", id="too-few-samples"),
        pytest.param(100 * GIB, pulled(*range(50, 55)), "", id="a-download-of-before"),
        pytest.param(100 * GIB, pulled(*range(5)), "", id="a-download-of-now"),
        pytest.param(100 * GIB, pulled(12, 40), "", id="two-downloads"),
        pytest.param(
            100 * GIB, pulled(*range(1, 60, 4)), "disk_filling", id="a-file-every-four-minutes"
        ),
        pytest.param(100 * GIB, filling(-5), "", id="it-empties"),
        pytest.param(100 * GIB, filling(0), "", id="it-stands"),
    ],
)
def test_disk(free: int, points: tuple[tuple[float, float], ...], reason: str) -> None:
    """Little is left, or at the last hour's rate nothing will be within a day."""
    (verdict,) = on_disk(free, points)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert (verdict.subject, verdict.remedy) == ("host", "none")


def test_when_the_disk_is_full_is_told() -> None:
    """100 GiB at 5 GiB an hour last 20 hours."""
    (verdict,) = on_disk(100 * GIB, filling(5))
    assert verdict.evidence == {
        "free_bytes": 100 * GIB,
        "total_bytes": 500 * GIB,
        "full_in_seconds": 72_000,
    }


def over(check: Check, hosts: Sequence[HostReading]) -> list[str]:
    """What a check says of the host, reading by reading."""
    known: dict[tuple[str, str], Condition] = {}
    found = []
    for host in hosts:
        scene = make.scene(make.snapshot(host=host), before=known.values())
        known = dict(judge([check], scene))
        found.append(known[check.name, "host"].verdict.reason)
    return found


def test_a_disk_about_at_its_limit_does_not_come_and_go() -> None:
    """5 GiB are to be free: too little were, until there is a tenth more than that."""
    free = [5119, 5121, 5119, 5631, 5632, 5121, 5119]
    hosts = [HostReading(disk_free_bytes=mib * MIB) for mib in free]
    assert over(disk.CHECK, hosts) == [*["disk_low"] * 4, "", "", "disk_low"]


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        pytest.param("memory_available_bytes", [50, 49, 54, 55, 50, 49], "memory_low", id="ram"),
        pytest.param(
            "memory_stall_ratio", [0.1, 0.11, 0.1, 0.09, 0.1, 0.2], "memory_stalls", id="stalls"
        ),
        pytest.param("swap_free_bytes", [50, 49, 54, 55, 50, 49], "swap_in_use", id="swap"),
    ],
)
def test_memory_about_at_its_limit_does_not_come_and_go(
    name: str, values: list[float], reason: str
) -> None:
    """Once it was beyond its limit it is so until a tenth of that on the other side."""
    readings: list[dict[str, Any]] = [{name: value} for value in values]
    hosts = [
        HostReading(memory_total_bytes=1000, swap_total_bytes=100, **reading)
        for reading in readings
    ]
    assert over(host_memory.CHECK, hosts) == ["", reason, reason, "", "", reason]


def test_a_disk_that_cannot_be_read_is_not_judged() -> None:
    assert on_disk(None) == []
    assert on_disk(1, errors={"host": "?"}) == []


def in_ram(**fields: Any) -> list[Verdict]:
    errors = fields.pop("errors", None)
    host = HostReading(**{"memory_total_bytes": 100, "boot_seconds": NOW, **fields})
    return list(host_memory.CHECK.run(make.scene(make.snapshot(host=host, errors=errors))))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({}, "", id="nothing-told"),
        pytest.param({"memory_available_bytes": 5}, "", id="five-percent"),
        pytest.param({"memory_available_bytes": 4}, "memory_low", id="less"),
        pytest.param({"memory_stall_ratio": 0.1}, "", id="tasks-wait-a-little"),
        pytest.param({"memory_stall_ratio": 0.11}, "memory_stalls", id="tasks-wait"),
        pytest.param({"swap_total_bytes": 10, "swap_free_bytes": 5}, "", id="half-the-swap"),
        pytest.param(
            {"swap_total_bytes": 10, "swap_free_bytes": 4}, "swap_in_use", id="more-of-it"
        ),
        pytest.param({"swap_total_bytes": 0, "swap_free_bytes": 0}, "", id="no-swap"),
        pytest.param({"swap_total_bytes": 10}, "", id="swap-half-told"),
        pytest.param(
            {"memory_available_bytes": 4, "memory_stall_ratio": 0.9}, "memory_low", id="both"
        ),
    ],
)
def test_host_memory(fields: dict[str, Any], reason: str) -> None:
    """Little RAM left, tasks that wait for it, or much in swap."""
    (verdict,) = in_ram(**fields)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert (verdict.subject, verdict.remedy) == ("host", "none")


def test_ram_that_cannot_be_read_is_not_judged() -> None:
    assert in_ram(memory_total_bytes=None) == []
    assert in_ram(errors={"host": "?"}) == []


def busy(ratios: Sequence[float | None], *replicas: Replica) -> list[Verdict]:
    samples = tuple(
        Sample(
            boot_seconds=NOW,
            memory_used_bytes=None,
            utilization_ratio=ratio,
            temperature_celsius=None,
            power_watts=None,
        )
        for ratio in ratios
    )
    scene = make.scene(make.snapshot(gpus=[make.gpu()]), *replicas)
    trends = Trends(gpus={"GPU-0": GpuTrend(samples=samples)})
    return list(utilization.CHECK.run(replace(scene, trends=trends)))


@pytest.mark.parametrize(
    ("ratios", "state", "advice"),
    [
        pytest.param([0.8] * 60, "ok", "", id="at-its-target"),
        pytest.param([0.84, 0.85] * 30, "ok", "", id="at-the-upper-edge"),
        pytest.param([0.9] * 60, "degraded", "add a replica", id="above"),
        pytest.param([1.0] * 30 + [0.0] * 30, "ok", "room for more", id="half-the-time"),
        pytest.param([0.0] * 60, "ok", "room for more", id="idle"),
    ],
)
def test_utilization(ratios: list[float], state: str, advice: str) -> None:
    """A mean above 85 % is told, one below 70 % is advice; nothing is done about either."""
    (verdict,) = busy(ratios)
    assert (verdict.state, verdict.remedy) == (state, "none")
    assert verdict.evidence["target_ratio"] == 0.8
    assert advice in str(verdict.evidence["advice"])
    assert bool(advice) is bool(verdict.evidence["advice"])


@pytest.mark.parametrize(
    ("ratios", "replicas"),
    [
        pytest.param([0.9] * 59, [], id="not-watched-for-half-an-hour"),
        pytest.param([0.9] * 59 + [None] * 9, [], id="not-reported"),
        pytest.param([0.9] * 60, [make.replica(gpus=(1,))], id="nothing-runs-there"),
    ],
)
def test_whose_use_cannot_be_judged(ratios: list[float | None], replicas: list[Replica]) -> None:
    assert busy(ratios, *replicas) == []
