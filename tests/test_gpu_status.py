"""What the world may see of a GPU: its reading, what was watched of it, what was reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl import gpu_status
from gpuctl.forecast import Forecast
from gpuctl.heat import LEVELS
from gpuctl.model import GpuHealth, GpuProcess, WatchdogSettings
from gpuctl.peaks import Peaks
from gpuctl.status import Header, status
from gpuctl.trends import GpuTrend, Trends
from tests import make
from tests.make import AT, MIB, NOW

SETTINGS = WatchdogSettings()


def test_what_was_watched_is_told_with_the_reading() -> None:
    """Pressure with its one action and the room it leaves, heat, forecast and samples."""
    gpu = make.gpu(memory_used_bytes=3072 * MIB)
    trend = GpuTrend(
        pressure="normal",
        heat="warning",
        forecast=Forecast(
            level="critical", seconds=2400.4, least_seconds=1500.0, most_seconds=4200.0
        ),
        columns={"celsius": (60, None, 66)},
    )
    (found,) = gpu_status.gpus(
        make.plan(), make.snapshot(gpus=[gpu]), trends=Trends(gpus={"GPU-0": trend})
    )
    assert found["pressure"] == {
        "level": "normal",
        "action": "load_below_full",
        "room_bytes": int(0.95 * 6144 * MIB) - 3072 * MIB,
    }
    assert found["heat"] == "warning"
    assert found["forecast"] == {
        "unknown": "",
        "level": "critical",
        "seconds": 2400,
        "least_seconds": 1500,
        "most_seconds": 4200,
    }
    assert found["trend"] == {"celsius": (60, None, 66)}
    assert found["xids"] == []


def test_the_peaks_of_the_hour_under_way_are_told() -> None:
    """What no Event has yet: the highest so far, of what the card reports."""
    hot, cool = make.gpu(temperature_celsius=80.0), make.gpu(temperature_celsius=40.0)
    peaks = Peaks(since=NOW).with_reading(make.snapshot(gpus=[hot]))
    (found,) = gpu_status.gpus(make.plan(), make.snapshot(gpus=[cool]), peaks=peaks)
    assert (found["temperature_celsius"], found["peaks"]) == (40.0, {"temperature_celsius": 80.0})


def test_a_lost_card_is_as_large_as_it_was() -> None:
    """A card off the bus tells nothing; how much it had was known when it was planned with."""
    known = replace(make.identity(), memory_total_bytes=6144 * MIB)
    lost = make.gpu(state="lost", memory_used_bytes=None, memory_total_bytes=None)
    plan = replace(make.plan(), gpus=(known,))
    (found,) = gpu_status.gpus(plan, make.snapshot(gpus=[lost]))
    assert (found["state"], found["memory_total_bytes"]) == ("lost", 6144 * MIB)
    (other,) = gpu_status.gpus(replace(plan, gpus=()), make.snapshot(gpus=[lost]))
    assert other["memory_total_bytes"] is None


def test_one_reading_alone_has_its_levels() -> None:
    """Without a daemon there is no past: the levels begin plainly, and nothing is foretold."""
    gpu = make.gpu(memory_used_bytes=6000 * MIB, temperature_celsius=84.0)
    found = gpu_status.now_only(gpu, SETTINGS)
    assert found["pressure"] == {"level": "full", "action": "make_room", "room_bytes": 0}
    assert found["heat"] == "throttling"
    assert {"forecast", "trend", "xids"} & set(found) == set()


def test_a_lost_card_has_no_heat() -> None:
    """How hot it was before says nothing of now."""
    lost = make.gpu(state="lost")
    trends = Trends(gpus={"GPU-0": GpuTrend(heat="normal")})
    (found,) = gpu_status.gpus(make.plan(), make.snapshot(gpus=[lost]), trends=trends)
    assert (found["state"], found["heat"]) == ("lost", None)


def test_what_a_card_does_not_report_is_null() -> None:
    found = gpu_status.now_only(make.gpu(processes=None), SETTINGS)
    assert (found["pressure"], found["heat"], found["processes"], found["health"]) == (
        None, None, None, None,
    )  # fmt: skip


def test_the_largest_processes_come_first_and_sixteen_are_enough() -> None:
    held = [GpuProcess(pid=pid, used_bytes=pid * MIB) for pid in range(1, 18)]
    held.append(GpuProcess(pid=99, name="Xorg"))
    found = gpu_status.now_only(make.gpu(processes=held), SETTINGS)["processes"]
    assert found is not None
    assert [process["pid"] for process in found] == list(range(17, 1, -1))
    assert found[0] == {"pid": 17, "name": None, "vram_bytes": 17 * MIB, "container": None}


@pytest.mark.parametrize(
    ("correctable", "uncorrectable", "rows"),
    [(1, 2, 3), (None, 2, 2), (None, None, None)],
)
def test_health_is_told_in_short(
    correctable: int | None, uncorrectable: int | None, rows: int | None
) -> None:
    """Rows of both kinds are one number; what is not reported stays unknown."""
    health = GpuHealth(
        ecc_uncorrected_volatile=0,
        remapped_rows_correctable=correctable,
        remapped_rows_uncorrectable=uncorrectable,
        recovery_action="none",
    )
    assert gpu_status.now_only(make.gpu(health=health), SETTINGS)["health"] == {
        "ecc_corrected": None,
        "ecc_uncorrected": 0,
        "remapped_rows": rows,
        "remapped_rows_pending": None,
        "remapped_rows_failure": None,
        "pcie_generation": None,
        "pcie_width": None,
        "recovery_action": "none",
    }


def test_xids_are_counted_since_an_operator_cleared_them() -> None:
    """Each number once, the latest first, with how often it came."""
    past = make.history(
        make.event("xid", "GPU-0", "79", NOW - 500),
        make.event("intent", "GPU-0", "uncordon", NOW - 400),
        make.event("xid", "GPU-0", "31", NOW - 300),
        make.event("xid", "GPU-0", "13", NOW - 200),
        make.event("xid", "GPU-0", "31", NOW - 100),
    )
    now = make.snapshot(gpus=[make.gpu()])
    (found,) = gpu_status.gpus(make.plan(), now, history=past)
    assert found["xids"] == [
        {"number": 31, "count": 2, "at": AT - 100},
        {"number": 13, "count": 1, "at": AT - 200},
    ]


@pytest.mark.parametrize(
    ("heats", "weight"),
    [
        pytest.param({}, 1.0, id="not-known"),
        pytest.param({"GPU-0": "warning"}, LEVELS["warning"].weight, id="warm"),
        pytest.param({"GPU-0": "critical", "GPU-1": "normal"}, 0.0, id="the-hottest-counts"),
        pytest.param({"GPU-0": "", "GPU-1": "throttling"}, 0.4, id="one-that-does-not-tell"),
    ],
)
def test_heat_lowers_the_weight_of_a_route(heats: dict[str, str], weight: float) -> None:
    """A replica on a hot GPU gets fewer requests than its siblings, and goes on serving."""
    trends = Trends(gpus={uuid: GpuTrend(heat=heat) for uuid, heat in heats.items()})
    plan = make.plan(make.replica(gpus=(0, 1)))
    now = make.snapshot(make.container(), probes=[make.probe()])
    header = Header(
        seq=1, instance="i", last_event=0, simulated=False, gateway=None,
        daemon={"pid": 1, "version": "1", "tick_seconds": 0.0, "started_at": 0.0,
                "interval_seconds": 5.0},
    )  # fmt: skip
    past = make.history(make.served())
    document = status(plan, now, {}, past, {}, None, header, trends)
    (route,) = document["routes"][0]["replicas"]
    assert (route["weight"], route["state"]) == (weight, "ready")


def test_a_missing_gpu_was_not_watched() -> None:
    """It has its state, and no level of anything."""
    plan = replace(make.plan(), gpus=(make.identity(3),))
    (found,) = gpu_status.gpus(plan, make.snapshot())
    assert found["state"] == "missing"
    assert "pressure" not in found


def test_what_was_never_read_is_listed_with_nothing_but_what_is_known() -> None:
    """A driver that hung before the daemon began leaves each planned GPU, and what it reported."""
    planned = replace(make.identity(3), memory_total_bytes=6 * 2**30)
    plan = replace(make.plan(), gpus=(planned, make.identity(1)))
    now = replace(make.snapshot(), gpus_boot_seconds=None)
    past = make.history(make.event("xid", "GPU-3", "79", NOW - 60))
    first, found = gpu_status.gpus(plan, now, ("GPU-3",), history=past)
    assert (first["index"], first["xids"]) == (1, [])
    told = {key: value for key, value in found.items() if value is not None}
    assert told == {
        "index": 3,
        "uuid": "GPU-3",
        "name": "P106-100",
        "memory_total_bytes": 6 * 2**30,
        "state": "unknown",
        "xids": [{"number": 79, "count": 1, "at": AT - 60}],
    }


def test_a_cordon_shows_before_the_reserve() -> None:
    """Of a GPU that answers; one that does not is lost, whatever else is said of it."""
    plan = replace(make.plan(), reserve=(make.identity(0), make.identity(1), make.identity(2)))
    now = make.snapshot(gpus=[make.gpu(0), make.gpu(1), make.gpu(2, state="lost")])
    found = gpu_status.gpus(plan, now, ("GPU-0", "GPU-2"))
    assert [gpu["state"] for gpu in found] == ["cordoned", "reserve", "lost"]
