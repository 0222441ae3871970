"""NVIDIA's driver, what it asks for, and whether containers may still open their GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import gpu_driver, gpu_in_container, gpu_missing
from gpuctl.judge import judge
from gpuctl.model import Condition, GpuHealth, GpuProcess, Snapshot, SourceError, Verdict
from tests import make
from tests.make import NOW


@pytest.mark.parametrize(
    ("error", "code", "state", "reason"),
    [
        pytest.param("NVML: it failed", 18, "failed", "driver_mismatch", id="mismatch"),
        pytest.param("NVML: it failed", 9, "failed", "driver_not_loaded", id="not-loaded"),
        pytest.param("NVML: it failed", 12, "failed", "driver_library_missing", id="no-library"),
        pytest.param("NVML: no answer for 12 s", None, "degraded", "nvml_hung", id="hung"),
        pytest.param(
            "NVML: not asked since Xid 119 of GPU-0", None, "degraded", "nvml_distrusted",
            id="distrusted",
        ),
    ],
)  # fmt: skip
def test_a_driver_that_cannot_be_used(
    error: str, code: int | None, state: str, reason: str
) -> None:
    """Told with what to do; nothing that runs is touched for it."""
    (verdict,) = gpu_driver.CHECK.run(make.scene(unread(error, code)))
    assert (verdict.subject, verdict.state, verdict.reason) == ("host", state, reason)
    assert verdict.remedy == "none"
    assert verdict.evidence["error"] == error
    assert verdict.evidence["hint"]


def unread(error: str, code: int | None = None) -> Snapshot:
    """A moment at which NVML cannot be asked."""
    failed = SourceError(message=error, since_boot_seconds=NOW, code=code)
    return replace(make.snapshot(), errors={"gpus": failed})


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(make.scene(unread("NVML: no permission", 4)), id="not-for-this-user"),
        pytest.param(make.scene(make.snapshot(errors={"gpus": "NVML: broken"})), id="other-faults"),
        pytest.param(
            make.scene(unread("NVML: version mismatch", 18), make.replica(gpus=())),
            id="no-gpu-planned",
        ),
        pytest.param(make.scene(make.snapshot(gpus=[make.gpu()])), id="not-read"),
        pytest.param(
            make.scene(make.snapshot(gpus=[make.gpu(health=GpuHealth())])), id="it-does-not-tell"
        ),
    ],
)
def test_what_it_has_nothing_to_say_of(scene: Any) -> None:
    assert list(gpu_driver.CHECK.run(scene)) == []


@pytest.mark.parametrize(
    ("action", "group", "state", "remedy"),
    [
        pytest.param("none", False, "ok", "none", id="nothing"),
        pytest.param("gpu_reset", False, "failed", "avoid", id="a-reset"),
        pytest.param("node_reboot", False, "failed", "avoid", id="a-reboot"),
        pytest.param("drain_p2p", False, "degraded", "none", id="its-links"),
        pytest.param("drain_p2p", True, "failed", "avoid", id="the-links-of-a-group"),
        pytest.param("drain_and_reset", False, "failed", "avoid", id="drain-and-reset"),
        pytest.param("recover_imex_domain", False, "degraded", "none", id="its-domain"),
    ],
)
def test_what_the_driver_asks_for(action: str, group: bool, state: str, remedy: str) -> None:
    """A GPU that it wants reset or rebooted is not used."""
    gpu = make.gpu(health=GpuHealth(recovery_action=action, boot_seconds=NOW))
    other = make.gpu(1)
    scene = make.scene(
        make.snapshot(gpus=[gpu, other]), make.replica(gpus=(0, 1) if group else (0,))
    )
    (verdict,) = gpu_driver.CHECK.run(scene)
    assert (verdict.subject, verdict.state, verdict.remedy) == ("GPU-0", state, remedy)
    assert verdict.reason == ("" if state == "ok" else "recovery_asked")
    assert verdict.evidence["recovery_action"] == action
    assert verdict.drain is (remedy == "avoid" and action.startswith("drain"))


def board(access: bool | None, *, container: str = "c1", **fields: Any) -> Snapshot:
    process = GpuProcess(pid=100, container=container, device_access=access)
    made = make.container(**{"id_": container, **fields.pop("reading", {})})
    return make.snapshot(made, **{"gpus": [make.gpu(processes=[process])], **fields})


def over(*boards: Snapshot) -> Condition | None:
    """What the check says after these ticks."""
    held: dict[tuple[str, str], Condition] = {}
    for now in boards:
        held = dict(judge([gpu_in_container.CHECK], make.scene(now, before=held.values())))
    return held.get(("gpu_in_container", "chat-0"))


@pytest.mark.parametrize(
    ("boards", "state"),
    [
        pytest.param([board(True)], "ok", id="it-may"),
        pytest.param([board(True), board(False)], "failed", id="it-may-no-more"),
        pytest.param([board(True), board(False), board(None)], "failed", id="and-does-not-tell"),
        pytest.param([board(True), board(None)], "ok", id="does-not-tell-now"),
        pytest.param([board(True), board(False), board(True)], "ok", id="it-may-again"),
        pytest.param([board(False)], None, id="it-never-might"),
        pytest.param(
            # Asked while its process was not on the GPU yet, and it could not be tried.
            [board(False, device_access={"c1": None})],
            None,
            id="it-never-might-and-does-not-say",
        ),
        pytest.param([board(None)], None, id="not-known"),
        pytest.param([board(True), board(False, container="c2")], None, id="another-container"),
        pytest.param([board(True), board(None, container="c2")], None, id="another-untold"),
    ],
)
def test_devices(boards: list[Snapshot], state: str | None) -> None:
    """Only a container that had its devices can have lost them."""
    condition = over(*boards)
    assert (condition.verdict.state if condition else None) == state
    if condition is not None and state == "failed":
        assert (condition.verdict.remedy, condition.verdict.reason) == ("restart", "devices_denied")
        assert condition.due(NOW)


def test_nothing_is_said_of_what_cannot_be_asked() -> None:
    """An image without a shell is not a fault of the host: no condition stands for good."""
    assert over(asked(None), asked(None)) is None


def asked(access: bool | None, *, container: str = "c1") -> Snapshot:
    """Its cgroup tells nothing, as those of version 2; the container was asked itself."""
    return board(None, container=container, device_access={container: access})


@pytest.mark.parametrize(
    ("boards", "expected"),
    [
        pytest.param([asked(True)], ("ok", "", "none"), id="it-may"),
        pytest.param(
            [asked(True), asked(False)], ("failed", "devices_denied", "restart"), id="no-more"
        ),
        pytest.param(
            [asked(True), asked(False), asked(False)],
            ("failed", "devices_denied", "restart"),
            id="and-not-since",
        ),
        pytest.param([asked(True), asked(None)], ("ok", "", "none"), id="it-did-not-tell-once"),
        pytest.param([board(None), asked(True)], ("ok", "", "none"), id="asked-later"),
        pytest.param(
            [asked(False), asked(False)],
            ("degraded", "devices_denied", "none"),
            id="never-seen-to-have-had-them",
        ),
        pytest.param(
            [asked(None), asked(False)], ("degraded", "devices_denied", "none"), id="told-later"
        ),
        pytest.param(
            [asked(True), asked(False, container="c2")],
            ("degraded", "devices_denied", "none"),
            id="another-container",
        ),
        pytest.param(
            [board(True, device_access={"c1": False})], ("ok", "", "none"), id="the-cgroup-tells"
        ),
    ],
)
def test_devices_where_the_container_is_asked(
    boards: list[Snapshot], expected: tuple[str, str, str]
) -> None:
    """One that was denied from the first look on may never do better: told, and left alone."""
    condition = over(*boards)
    assert condition is not None
    verdict = condition.verdict
    assert (verdict.state, verdict.reason, verdict.remedy) == expected


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reading": {"state": "exited"}}, id="ended"),
        pytest.param({"reading": {"replica": "chat-9"}}, id="another-replica's"),
        pytest.param({"errors": {"gpus": "hung"}}, id="gpus-unread"),
        pytest.param({"errors": {"runtime": "down"}}, id="runtime-unread"),
        pytest.param({"gpus": []}, id="gpu-not-listed"),
        pytest.param({"gpus": [make.gpu(processes=None)]}, id="processes-not-reported"),
    ],
)
def test_what_cannot_be_seen_is_not_judged(fields: dict[str, Any]) -> None:
    assert over(board(True, **fields)) is None


def test_a_missing_gpu_says_what_was_reported_of_it() -> None:
    """Its name and place, and each Xid of this boot once: of the boot before they are over."""
    past = make.history(
        make.event("xid", "GPU-0", "13", -5.0),
        make.event("xid", "GPU-0", "31", NOW - 900),
        make.event("xid", "GPU-0", "31", NOW - 600),
        make.event("xid", "GPU-0", "79", NOW - 9),
    )
    scene = make.scene(make.snapshot(gpus=[make.gpu(state="lost")]), past=past)
    (verdict,) = gpu_missing.CHECK.run(scene)
    assert verdict == Verdict(
        check="gpu_missing",
        subject="GPU-0",
        state="failed",
        reason="gpu_lost",
        evidence={"index": 0, "name": "P106-100", "xids": (31, 79)},
        remedy="avoid",
        reading_boot_seconds=NOW,
    )
