"""What Xids lead to: a restart of whom they name, or a GPU that is not used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from gpuctl.checks import xid
from gpuctl.model import Event, GpuHealth, GpuProcess, Verdict, Xid
from gpuctl.xids import AVOIDED, TABLE, UNKNOWN
from tests import make
from tests.make import AT, NOW


def reported(number: int, ago: float = 60.0, gpu: str = "GPU-0", **evidence: Any) -> Event:
    return make.event("xid", gpu, str(number), NOW - ago, **evidence)


def ran(*events: Event, **fields: Any) -> list[Verdict]:
    """The verdicts on a replica that has run for 1000 s, with pid 100 on GPU 0."""
    process = GpuProcess(pid=107, container="c1")
    gpus = fields.pop("gpus", [make.gpu(processes=[process])])
    replica = make.replica(gpus=fields.pop("group", (0,)))
    container = make.container(**fields.pop("container", {}))
    now = make.snapshot(container, gpus=gpus, **fields)
    return list(xid.CHECK.run(make.scene(now, replica, past=make.history(make.served(), events))))


def on(subject: str, verdicts: Iterable[Verdict]) -> Verdict | None:
    return next((each for each in verdicts if each.subject == subject), None)


@pytest.mark.parametrize("number", [*TABLE, 999])
def test_the_table_is_obeyed(number: int) -> None:
    """
    Each Xid of the table does what is written there, and one that is not only tells.

    It names the replica's process: an application's own error restarts it, a sick GPU is avoided.
    """
    verdicts = ran(reported(number, pid=100))
    effect = TABLE.get(number, UNKNOWN).effect
    of_gpu, of_replica = on("GPU-0", verdicts), on("chat-0", verdicts)
    assert of_gpu is not None
    expected = {"info": "ok", "app": "ok", "alert": "degraded"}.get(effect, "failed")
    assert (of_gpu.state, of_gpu.remedy) == (expected, "avoid" if effect in AVOIDED else "none")
    assert (of_replica is not None) == (effect == "app")
    if of_replica is not None:
        assert (of_replica.state, of_replica.remedy) == ("failed", "restart")
        assert of_replica.reason == f"xid_{number}"


def test_what_is_told_of_a_gpu() -> None:
    """Number, meaning, what NVIDIA says to do, how often, when, and what else there was."""
    verdict = on("GPU-0", ran(reported(92, 300), reported(79, 100)))
    assert verdict == Verdict(
        check="xid",
        subject="GPU-0",
        state="failed",
        reason="xid_79",
        evidence={
            "xid": 79,
            "meaning": "GPU has fallen off the bus",
            "calls_for": "reboot",
            "advice": "reboot the host; contact support if it comes again",
            "count": 1,
            "last_at": AT - 100,
            "others": (92,),
        },
        remedy="avoid",
    )


def test_what_is_told_of_a_replica() -> None:
    verdict = on("chat-0", ran(reported(94, 20, pid=107)))
    assert verdict == Verdict(
        check="xid",
        subject="chat-0",
        state="failed",
        reason="xid_94",
        evidence={
            "container": "c1",
            "xid": 94,
            "meaning": "contained memory error",
            "advice": "restart the application",
            "pid": 107,
            "last_at": AT - 20,
        },
        remedy="restart",
    )


@pytest.mark.parametrize(
    ("event", "restarts"),
    [
        pytest.param(reported(31, pid=100), True, id="its-first-process"),
        pytest.param(reported(31, pid=107), True, id="one-of-its-processes"),
        pytest.param(reported(31, pid=555, container="c1"), True, id="one-that-is-gone"),
        pytest.param(reported(31, pid=555), False, id="a-stranger's"),
        pytest.param(reported(31), False, id="nobody-named"),
        pytest.param(reported(31, ago=2000, pid=100), False, id="before-it-was-started"),
        pytest.param(reported(31, gpu="GPU-7", pid=100), False, id="on-another-gpu"),
        pytest.param(reported(79, pid=100), False, id="not-the-application's-fault"),
        pytest.param(reported(999, pid=100), False, id="not-known"),
    ],
)
def test_who_is_restarted(event: Event, restarts: bool) -> None:
    """The replica whose running container has the process that is named, and no other."""
    assert (on("chat-0", ran(event)) is not None) is restarts


@pytest.mark.parametrize(
    ("number", "others", "restarts"),
    [
        pytest.param(94, [], True, id="it-is-alone-there"),
        pytest.param(94, [GpuProcess(pid=9)], False, id="a-stranger-is-there-too"),
        pytest.param(94, [GpuProcess(pid=9, container="c9")], False, id="another-replica-is"),
        pytest.param(31, [], False, id="one-that-may-have-hit-nobody"),
    ],
)
def test_what_hit_somebody_hit_the_only_one(
    number: int, others: list[GpuProcess], restarts: bool
) -> None:
    """A contained memory error has cost an application its data; NVML does not say which."""
    holders = [GpuProcess(pid=107, container="c1"), *others]
    found = ran(reported(number), gpus=[make.gpu(processes=holders)])
    assert (on("chat-0", found) is not None) is restarts


def test_the_latest_is_what_it_is_restarted_for() -> None:
    verdict = on("chat-0", ran(reported(31, 500, pid=100), reported(94, 300, pid=100)))
    assert verdict is not None
    assert verdict.reason == "xid_94"


def heard(number: int, ago: float, pid: int | None, gpu: str = "GPU-0") -> Xid:
    return Xid(
        number=number, gpu=gpu, source="kernel", pid=pid, at=AT - ago, boot_seconds=NOW - ago
    )


@pytest.mark.parametrize(
    ("xids", "restarts"),
    [
        pytest.param([heard(31, 59, 100)], True, id="the-kernel-named-what-nvml-did-not"),
        pytest.param([heard(31, 59, 5), heard(31, 58, 107)], True, id="one-of-several"),
        pytest.param([heard(31, 59, 5)], False, id="a-stranger's"),
        pytest.param([heard(31, 59, 100, "GPU-7")], False, id="on-another-gpu"),
        pytest.param([heard(31, 2000, 100)], False, id="before-it-was-started"),
    ],
)
def test_a_burst_may_name_its_process_later(xids: list[Xid], restarts: bool) -> None:
    """Of a burst one Xid is remembered; what was read beside it may know more."""
    found = ran(reported(31), xids=tuple(xids))
    assert (on("chat-0", found) is not None) is restarts


def test_what_was_read_before_an_operator_cleared_it_does_not_count() -> None:
    cleared = make.event("intent", "GPU-0", "uncordon", NOW - 50)
    assert ran(reported(31), cleared, xids=(heard(31, 59, 100),)) == []
    assert on("chat-0", ran(reported(31), cleared, xids=(heard(31, 40, 100),))) is not None


def test_a_repeated_one_tells_of_the_gpu_too() -> None:
    """The second page fault in a day: the replica is restarted, and somebody should look."""
    verdicts = ran(reported(31, 5000), reported(31, 60, pid=100))
    of_gpu = on("GPU-0", verdicts)
    assert of_gpu is not None
    assert (of_gpu.state, of_gpu.evidence["count"]) == ("degraded", 2)
    assert on("chat-0", verdicts) is not None


def test_a_group_is_hit_by_its_links() -> None:
    """An NVLink error keeps a group from its GPUs, and tells a single one."""
    alone, group = ran(reported(74)), ran(reported(74), group=(0, 1))
    assert [(v.state, v.remedy) for v in alone] == [("degraded", "none")]
    assert [(v.state, v.remedy) for v in group] == [("failed", "avoid")]


def test_a_failure_since_counts() -> None:
    """A breakpoint of the micro-controller is a sick card once its replica has failed."""
    failed = make.failed(at=NOW - 10)
    assert [v.remedy for v in ran(reported(61), failed)] == ["avoid"]
    assert [v.remedy for v in ran(reported(61))] == ["none"]


def test_what_the_driver_asks_for_stands_above_the_table() -> None:
    """It wants nothing after the Xid: told, and the GPU is used."""
    health = GpuHealth(recovery_action="none", boot_seconds=NOW)
    (verdict,) = ran(reported(95), gpus=[make.gpu(health=health)])
    assert (verdict.state, verdict.remedy) == ("degraded", "none")


def test_an_operator_who_found_it_well_is_believed() -> None:
    """What was before `uncordon` does not count; what comes after does."""
    cleared = make.event("intent", "GPU-0", "uncordon", NOW - 50)
    assert ran(reported(79, 60), cleared) == []
    assert [v.reason for v in ran(reported(79, 60), cleared, reported(79, 40))] == ["xid_79"]


@pytest.mark.parametrize("number", [48, 79, 140, 143])
def test_the_second_in_a_month_counts_the_first_that_was_cleared(number: int) -> None:
    """Each cordon is ended by `uncordon`: the card that needs one again is still to examine."""
    cordoned = make.event("cordoned", "GPU-0", f"xid_{number}", NOW - 7999)
    cleared = make.event("intent", "GPU-0", "uncordon", NOW - 4000)
    (verdict,) = ran(reported(number, 8000), cordoned, cleared, reported(number, 60))
    assert (verdict.remedy, verdict.evidence["calls_for"]) == ("avoid", "hardware")
    assert verdict.evidence["count"] == 2


def test_a_burst_of_others_makes_no_sick_gpu_well() -> None:
    """However often an application fails after it, an uncontained error stays."""
    (verdict,) = ran(reported(95, 1500), *(reported(13, 1400 - n) for n in range(64)))
    assert (verdict.reason, verdict.remedy) == ("xid_95", "avoid")


def test_nvml_need_not_answer() -> None:
    """After an Xid that hangs the driver there is nothing but what is remembered."""
    (verdict,) = ran(reported(119), gpus=[], errors={"gpus": "not asked since Xid 119"})
    assert (verdict.subject, verdict.remedy) == ("GPU-0", "avoid")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"container": {"state": "exited"}}, id="it-has-ended"),
        pytest.param({"container": {"replica": "chat-9"}}, id="it-is-another's"),
        pytest.param({"errors": {"runtime": "down"}}, id="the-runtime-is-away"),
    ],
)
def test_only_what_runs_is_restarted(fields: dict[str, Any]) -> None:
    assert on("chat-0", ran(reported(31, pid=100), **fields)) is None


def test_a_gpu_that_is_not_listed_names_no_process() -> None:
    """The container's own process is known without it."""
    assert on("chat-0", ran(reported(31, pid=107), gpus=[])) is None
    assert on("chat-0", ran(reported(31, pid=100), gpus=[])) is not None


def test_what_was_told_before_a_gpu_was_read_counts_for_it() -> None:
    """NVML that hung at the boot leaves the kernel's bus id, which is whose it turns out to be."""
    bus = "00000000:06:00.0"
    known = [make.gpu(pci_bus_id=bus), make.gpu(1, pci_bus_id="00000000:07:00.0")]
    verdicts = ran(reported(48, gpu=bus), group=(0, 1), gpus=known)
    assert [(v.subject, v.reason, v.remedy) for v in verdicts] == [("GPU-0", "xid_48", "avoid")]
    cleared = make.event("intent", "GPU-0", "uncordon", NOW - 50)
    assert ran(reported(48, gpu=bus), cleared, gpus=known) == []
