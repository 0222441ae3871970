"""One tick folded into the Status document: what it says of the daemon and of the host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.history import History
from gpuctl.model import GatewaySettings, GpuIdentity, Snapshot
from tests import make
from tests.make import AT, NOW
from tests.status_bench import DEAD, HEADER, READY, RUNNING, bad, published


def test_gpus_say_what_they_are_for() -> None:
    """A GPU in reserve is told as such while it is well; what is not reported is null."""
    now = make.snapshot(
        gpus=[make.gpu(0, throttle_reasons=("hw_thermal",)), make.gpu(1), make.gpu(2, state="lost")]
    )
    plan = make.plan(reserve=(make.identity(1), make.identity(2)))
    found = published(now, plan=plan)["gpus"]
    assert [(gpu["uuid"], gpu["state"], gpu["throttle_reasons"]) for gpu in found] == [
        ("GPU-0", "ok", ["hw_thermal"]),
        ("GPU-1", "reserve", None),
        ("GPU-2", "lost", None),
    ]


def test_a_gpu_that_is_no_longer_listed_is_missing() -> None:
    """It keeps the name and place that it was planned with, and nothing else is known of it."""
    gone = GpuIdentity(index=1, uuid="GPU-b", name="NVIDIA P106-100", memory_total_bytes=6)
    plan = replace(make.plan(), gpus=(make.identity(0), gone), reserve=(gone,))
    now = make.snapshot(gpus=[make.gpu(0), make.gpu(2)])
    now = replace(now, gpus_boot_seconds=NOW - 3)
    found = published(now, plan=plan)["gpus"]
    assert [(gpu["uuid"], gpu["state"]) for gpu in found] == [
        ("GPU-0", "ok"),
        ("GPU-b", "missing"),
        ("GPU-2", "ok"),
    ]
    assert found[1] == {
        "index": 1,
        "uuid": "GPU-b",
        "name": "NVIDIA P106-100",
        "memory_total_bytes": 6,
        "memory_used_bytes": None,
        "utilization_ratio": None,
        "temperature_celsius": None,
        "power_watts": None,
        "throttle_reasons": None,
        "state": "missing",
        "at": AT - 3,
        "power_limit_watts": None,
        "sm_clock_hertz": None,
        "memory_clock_hertz": None,
        "memory_temperature_celsius": None,
        "fan_ratio": None,
        "processes": None,
        "health": None,
    }


def test_no_gpu_is_missing_before_any_was_read() -> None:
    """What NVML has not been heard of says nothing of what is there: it is not known."""
    now = replace(make.snapshot(), gpus_boot_seconds=None)
    assert [gpu["state"] for gpu in published(now)["gpus"]] == ["unknown"]


def test_only_what_is_not_ok_is_listed() -> None:
    """Conditions are listed with since when and the evidence; what is ok is not."""
    told = bad(since=NOW - 9, evidence={"answer": "none"})
    assert published(RUNNING, READY, told, make.condition("vram", state="ok"))["conditions"] == [
        {
            "check": "health",
            "subject": "chat-0",
            "state": "failed",
            "reason": "x",
            "since": AT - 9,
            "evidence": {"answer": "none"},
        }
    ]


def test_the_document_says_whose_it_is() -> None:
    """The header, the plan's warnings and the gateway's settings are in the document."""
    header = replace(HEADER, gateway=GatewaySettings(listen="127.0.0.1:1"))
    found = published(plan=make.plan(warnings=("tight",)), header=header)
    assert (found["schema"], found["seq"], found["instance"]) == (1, 7, make.INSTANCE)
    assert (found["last_event"], found["profile"], found["mode"]) == (42, "test", "enforce")
    assert (found["at"], found["warnings"], found["daemon"]["pid"]) == (AT, ["tight"], 1)
    assert found["gateway"] is not None
    assert found["gateway"]["listen"] == "127.0.0.1:1"
    assert published()["gateway"] is None


DOWN = make.event("intent", "", "down", boot_seconds=NOW - 1)


@pytest.mark.parametrize(
    ("now", "past", "expected"),
    [
        pytest.param(RUNNING, READY, [], id="the replica's own"),
        pytest.param(DEAD, READY, [], id="stopped, and kept for its log"),
        pytest.param(
            RUNNING, make.history(make.served(), DOWN), ["gpuctl-chat-0"], id="on its way down"
        ),
        pytest.param(DEAD, make.history(make.served(), DOWN), ["gpuctl-chat-0"], id="not removed"),
        pytest.param(
            make.snapshot(make.container(state="removed")),
            make.history(make.served(), DOWN),
            [],
            id="removed",
        ),
        pytest.param(
            make.snapshot(
                make.container(),
                make.container(id_="c0", name="gpuctl-chat-0.old-c0", state="exited"),
            ),
            READY,
            ["gpuctl-chat-0.old-c0"],
            id="renamed aside by a start",
        ),
        pytest.param(
            make.snapshot(make.container("other-0")), READY, ["gpuctl-other-0"], id="not planned"
        ),
        pytest.param(
            make.snapshot(make.container(), errors={"runtime": "down"}), READY, None, id="unread"
        ),
        pytest.param(
            replace(make.snapshot(), runtime_boot_seconds=None),
            make.history(DOWN),
            None,
            id="never read",
        ),
    ],
)
def test_what_is_to_go_is_named(now: Snapshot, past: History, expected: list[str] | None) -> None:
    """Containers that must end are listed, whoever had them; null where it cannot be told."""
    assert published(now, past)["leftovers"] == expected
