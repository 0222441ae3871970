"""What every check keeps to, whatever it looks at."""

from __future__ import annotations

import pytest

from gpuctl.model import GpuFacts, GpuHealth, GpuProcess, Plan, Snapshot
from gpuctl.plugin import Check, Scene, load_checks
from tests import make

CHECKS = load_checks()

SCENES = {
    "empty": make.scene(make.snapshot()),
    "ready": make.scene(
        make.snapshot(
            make.container(),
            gpus=[make.gpu(processes=[GpuProcess(pid=100, used_bytes=make.MIB)])],
            probes=[make.probe()],
        ),
        past=make.history(make.served(), make.event("baseline", vram_bytes=10**9)),
    ),
    "everything-wrong": make.scene(
        make.snapshot(
            make.container(state="exited", exit_code=1),
            gpus=[make.gpu(state="lost", processes=())],
            probes=[make.probe(outcome="refused")],
            errors={"gpus": "hung"},
        ),
        past=make.history(make.served(), make.failed(), cautious=True),
    ),
    "every-gpu-sick": make.scene(
        make.snapshot(
            make.container(),
            gpus=[
                make.gpu(
                    processes=[GpuProcess(pid=100, used_bytes=make.MIB, container="c1")],
                    memory_used_bytes=6 * 1024 * make.MIB,
                    temperature_celsius=101.0,
                    throttle_reasons=("hw_thermal",),
                    facts=GpuFacts(temperature_shutdown_celsius=102.0),
                    health=GpuHealth(
                        ecc_uncorrected_volatile=1,
                        remapped_rows_failure=True,
                        recovery_action="gpu_reset",
                    ),
                )
            ],
            probes=[make.probe()],
        ),
        past=make.history(make.served(), make.event("xid", "GPU-0", "79", pid=100)),
    ),
    "nothing-readable": make.scene(
        make.snapshot(make.container(), errors={"runtime": "down", "gpus": "hung", "host": "?"}),
        past=make.history(make.served()),
    ),
}


def test_checks_run_in_the_order_of_the_watchdog() -> None:
    """Stopped, then VRAM, then health, then what stands still, then the rest, each once."""
    names = [check.name for check in CHECKS]
    assert names[:5] == ["sources", "stopped", "vram", "health", "stalled"]
    assert len(set(names)) == len(names)
    assert len({check.order for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_a_check_is_a_function_of_what_it_sees(check: Check, scene: Scene) -> None:
    """The same scene gives the same verdicts, one per subject; what is not ok has a reason."""
    verdicts = list(check.run(scene))
    assert verdicts == list(check.run(scene))
    keys = [(verdict.check, verdict.subject) for verdict in verdicts]
    assert len(keys) == len(set(keys))
    assert all(verdict.reason for verdict in verdicts if verdict.state != "ok")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_what_cannot_be_read_has_no_remedy(check: Check) -> None:
    """With no source readable nothing calls for a restart, and no GPU is avoided."""
    verdicts = check.run(SCENES["nothing-readable"])
    assert [verdict.remedy for verdict in verdicts if verdict.remedy != "none"] == []


def test_an_empty_host_is_well() -> None:
    """Without a replica and without a GPU no check has anything to say."""
    scene = Scene(
        plan=Plan(profile="none", watchdog=make.SETTINGS),
        now=Snapshot(at=make.AT, boot_id=make.BOOT, boot_seconds=make.NOW),
        history=make.history(),
        before={},
    )
    assert [verdict for check in CHECKS for verdict in check.run(scene)] == []
