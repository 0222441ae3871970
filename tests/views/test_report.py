"""The health report."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest

from gpuctl.model import Event
from gpuctl.views import report

NOW = 1_800_000_000.0
HOUR = 3600.0


def made(status: Any, events: list[Event]) -> report.Report:
    return report.report(status, events, since=NOW - 24 * HOUR, now=NOW, alive=True)


def test_uptime_counts_from_the_first_event_known(
    status: Any, happened: Callable[..., Event]
) -> None:
    """Nine hours ready and one hour failing are 90 % of ten hours."""
    events = [
        happened("ready", "chat-0", -10 * HOUR),
        happened("failed", "chat-0", -5 * HOUR, "stalled"),
        happened("ready", "chat-0", -4 * HOUR),
    ]

    assert report.uptime(events, status["replicas"][0], NOW - 24 * HOUR, NOW) == pytest.approx(0.9)


def test_a_stop_on_purpose_does_not_count(status: Any, happened: Callable[..., Event]) -> None:
    """Time an operator asked for is neither up nor down."""
    events = [
        happened("ready", "chat-0", -10 * HOUR),
        happened("intent", "chat-0", -8 * HOUR, "stop"),
        happened("ready", "chat-0", -1 * HOUR),
    ]

    assert report.uptime(events, status["replicas"][0], NOW - 24 * HOUR, NOW) == 1.0


def test_time_before_the_report_does_not_count(status: Any, happened: Callable[..., Event]) -> None:
    """A failure that was mended before the report begins is another report's."""
    events = [happened("failed", "chat-0", -50 * HOUR), happened("ready", "chat-0", -30 * HOUR)]

    assert report.uptime(events, status["replicas"][0], NOW - 24 * HOUR, NOW) == 1.0


def test_what_is_not_known_is_none(status: Any) -> None:
    """A replica without events that does not serve has no uptime to tell."""
    assert report.uptime([], status["replicas"][2], NOW - 24 * HOUR, NOW) is None


def test_restarts_by_reason_and_peaks(status: Any, happened: Callable[..., Event]) -> None:
    """Restarts within the report are counted and their reasons named; peaks are of the hours."""
    events = [
        happened("failed", "chat-2", -30 * HOUR, "exited"),
        happened("failed", "chat-2", -3 * HOUR, "oom_killed"),
        happened("attempt", "chat-2", -3 * HOUR, "oom_killed", action="start", restart=True),
        happened("failed", "chat-2", -2 * HOUR, "oom_killed"),
        happened("peak", "GPU-0", -2 * HOUR, "hour", temperature_celsius=91.0, power_watts=120.0),
    ]

    document = made(status, events)

    replica = document["replicas"][2]
    assert (replica["restarts"], replica["failures"]) == (1, {"oom_killed": 2})
    assert document["gpus"][0]["peaks"] == {
        "memory_used_bytes": status["gpus"][0]["memory_used_bytes"],
        "temperature_celsius": 91.0,
        "utilization_ratio": 0.5,
        "power_watts": 120.0,
    }


def test_the_hour_under_way_has_its_peaks(status: Any, happened: Callable[..., Event]) -> None:
    """What is not rolled up yet is in the Status; of an hour partly within all of it counts."""
    running = {"temperature_celsius": 93.0, "memory_used_bytes": 6 * 2**30}
    gpu = status["gpus"][0] | {"peaks": running}
    part = happened("peak", "GPU-0", -HOUR, "part", utilization_ratio=0.9, power_watts=130.0)

    (told,) = made(status | {"gpus": [gpu]}, [part])["gpus"]

    assert told["peaks"] == running | {"utilization_ratio": 0.9, "power_watts": 130.0}


def test_a_status_from_before_the_report_has_no_peaks(status: Any) -> None:
    """What a daemon saw that died before the report begins is another report's."""
    old = status | {"at": NOW - 30 * HOUR, "gpus": [status["gpus"][0] | {"peaks": {"x": 1.0}}]}

    (told,) = made(old, [])["gpus"]

    assert set(told["peaks"].values()) == {None}


@pytest.mark.parametrize(
    ("state", "fields", "peaks", "cell"),
    [
        pytest.param("lost", {}, {}, "lost, had 6 GiB", id="lost"),
        pytest.param("missing", {}, {}, "missing, had 6 GiB", id="missing"),
        pytest.param("lost", {"memory_total_bytes": None}, {}, "lost", id="size not known"),
        pytest.param(
            "lost", {}, {"memory_used_bytes": 5 * 2**30}, "5 GiB of 6 GiB", id="lost in the window"
        ),
        pytest.param("ok", {}, {}, "-", id="does not report it"),
        pytest.param(
            "ok",
            {"memory_total_bytes": None},
            {"memory_used_bytes": 5 * 2**30},
            "5 GiB",
            id="does not report its size",
        ),
    ],
)
def test_the_vram_of_a_gpu_in_words(
    status: Any, state: str, fields: Any, peaks: Any, cell: str
) -> None:
    """A card that could not be asked is called so, with what it was last known to have."""
    gpu = status["gpus"][2] | {"state": state, "peaks": peaks, "memory_total_bytes": 6 * 2**30}

    told = report.markdown(made(status | {"gpus": [gpu | fields]}, []), UTC)

    assert f"| 2 | NVIDIA P106-100 | {state} | {cell} |" in told


def test_healthy_needs_everything(status: Any) -> None:
    """A condition, a replica that does not serve or a dead daemon make a report unhealthy."""
    well = status | {"conditions": [], "replicas": status["replicas"][:2]}
    common: Any = {"since": NOW - HOUR, "now": NOW}

    assert report.report(well, [], alive=True, **common)["healthy"]
    assert not report.report(well, [], alive=False, **common)["healthy"]
    assert not report.report(status, [], alive=True, **common)["healthy"]
    noticed = well | {"conditions": status["conditions"]}
    assert not report.report(noticed, [], alive=True, **common)["healthy"]


TEXT = """\
gpuctl report: p106x8: NOT HEALTHY
2027-01-14 08:00:00 to 2027-01-15 08:00:00 · daemon 4242 (0.1.0) · 2 s old

replica  phase    uptime  restarts  failures
chat-0   busy     100 %   0         -
chat-1   ready    100 %   0         -
chat-2   backoff  0 %     0         1× oom_killed
embed-0  ready    100 %   0         -

gpu  name             state  peak VRAM         peak heat  peak use  peak power
0    NVIDIA P106-100  ok     5.3 GiB of 6 GiB  61 °C      50 %      88 W
1    NVIDIA P106-100  ok     5.3 GiB of 6 GiB  84 °C      99 %      88 W
2    NVIDIA P106-100  lost   lost, had 6 GiB   -          -         -

backoff: chat-2: oom_killed, next in 35 s
failed: gpu 2: gpu_lost (gpu_missing) for 5 m
degraded: chat-2: many_restarts (restarts) for 1 m
warning: host RAM: limits add up to 16 GiB of 15 GiB"""


def test_text(status: Any, happened: Callable[..., Event]) -> None:
    """The text fits a mail: verdict first, then replicas, GPUs and what is wrong."""
    document = made(status, [happened("failed", "chat-2", -60, "oom_killed")])

    assert report.text(document, UTC) == TEXT


def test_what_is_on_its_way_is_named(status: Any) -> None:
    """A report that is not healthy says of which replica, whatever it waits for."""
    loading = status["replicas"][1] | {"phase": "loading"}
    waiting = {"phase": "pending", "reason": "load_spacing", "next_attempt_at": NOW - 1}
    few = {"conditions": [], "warnings": [], "replicas": [loading, loading | waiting]}

    told = report.text(made(status | few, []), UTC).splitlines()

    assert told[-2:] == ["loading: chat-1", "pending: chat-1: load_spacing"]


def test_markdown(status: Any) -> None:
    """The Markdown has a heading, two tables and a list."""
    lines = report.markdown(made(status, []), UTC).splitlines()

    assert lines[0] == "# gpuctl report: p106x8: NOT HEALTHY"
    assert "| chat-2 | backoff | - | 0 | - |" in lines
    assert "| 1 | NVIDIA P106-100 | ok | 5.3 GiB of 6 GiB | 84 °C | 99 % | 88 W |" in lines
    assert lines[-1] == "- warning: host RAM: limits add up to 16 GiB of 15 GiB"


def test_on_a_host_without_gpus_nothing_is_said_of_them(status: Any) -> None:
    """Neither an empty table nor a heading of one, as text and as Markdown."""
    few = {"gpus": [], "conditions": [], "warnings": [], "replicas": status["replicas"][3:]}
    document = made(status | few, [])

    assert report.text(document, UTC).splitlines()[-1].split()[0] == "embed-0"
    assert report.markdown(document, UTC).splitlines()[-1] == "| embed-0 | ready | 100 % | 0 | - |"
