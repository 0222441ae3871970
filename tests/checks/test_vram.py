"""When VRAM counts as lost, and what speaks against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks.vram import CHECK
from gpuctl.model import Condition, EngineStats, GpuProcess, GpuReading, ProbeReading, Verdict
from tests import make
from tests.make import AT, MIB, NOW

BASELINE = 4000 * MIB
PAST = make.history(make.served(), make.event("baseline", vram_bytes=BASELINE))


def judged(
    *gpus: GpuReading,
    probe: ProbeReading | None = None,
    mode: Any = "corroborate",
    before: tuple[Condition, ...] = (),
    past: Any = PAST,
    errors: dict[str, str] | None = None,
) -> Verdict:
    probes = [probe] if probe else []
    now = make.snapshot(make.container(), gpus=gpus, probes=probes, errors=errors)
    settings = replace(make.SETTINGS, vram=mode)
    (verdict,) = CHECK.run(make.scene(now, past=past, before=before, watchdog=settings))
    return verdict


def holding(used_bytes: int | None, container: str | None = "c1", pid: int = 7) -> GpuReading:
    return make.gpu(processes=[GpuProcess(pid=pid, used_bytes=used_bytes, container=container)])


def test_a_replica_that_holds_its_vram_is_ok() -> None:
    """A tenth of the baseline is enough, by container or by the main process's pid."""
    assert judged(holding(400 * MIB)).state == "ok"
    assert judged(holding(400 * MIB, container=None, pid=100)).state == "ok"


def test_strict_wants_two_readings_a_second_apart() -> None:
    """An engine that never unloads is given no benefit of the doubt beyond one second."""
    verdict = judged(make.gpu(), probe=make.probe(), mode="strict")
    assert (verdict.state, verdict.reason, verdict.remedy) == ("failed", "vram_lost", "restart")
    assert (verdict.patience_readings, verdict.patience_seconds) == (2, 1.0)


def test_corroborate_wants_three_readings() -> None:
    """While nothing else speaks for or against it, three ticks, which span two intervals."""
    verdict = judged(make.gpu(), probe=make.probe())
    two = 2 * make.SETTINGS.interval_seconds
    assert (verdict.state, verdict.patience_readings, verdict.patience_seconds) == (
        "failed",
        3,
        two,
    )
    alone = judged(make.gpu())
    assert (alone.patience_readings, alone.patience_seconds) == (3, two)


def test_a_blink_of_the_process_list_is_no_loss() -> None:
    """Another replica's gate has the GPUs read every 250 ms: many readings are no long time."""
    verdict = judged(make.gpu(), probe=make.probe())
    blink = Condition(verdict=verdict, since=AT, since_boot_seconds=NOW, readings=20)
    two = 2 * make.SETTINGS.interval_seconds
    assert [blink.due(NOW + seconds) for seconds in (0.75, two - 0.1, two)] == [False, False, True]


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(make.probe(outcome="refused"), id="health"),
        pytest.param(make.probe(canary_failures=1), id="canary"),
    ],
)
def test_corroborated_is_one_reading(probe: ProbeReading) -> None:
    """One is enough where health or the canary agrees; a death has a second to be told as one."""
    verdict = judged(make.gpu(), probe=probe)
    assert (verdict.state, verdict.patience_readings) == ("failed", 1)
    assert verdict.patience_seconds == 1.0


@pytest.mark.parametrize(
    ("probe", "veto"),
    [
        pytest.param(
            make.probe(stats=EngineStats(sleeping=True)), "the engine sleeps", id="sleeping"
        ),
        pytest.param(make.probe(progress_at=NOW - 1), "tokens moved since", id="tokens"),
        pytest.param(
            make.probe(canary=True, canary_at=NOW - 1),
            "it answered the canary since",
            id="canary",
        ),
    ],
)
def test_a_veto_holds_the_restart(probe: ProbeReading, veto: str) -> None:
    """Sleeping on purpose, moving tokens or a good canary since: shown, and left alone."""
    before = make.condition("vram", since=NOW - 5, reason="vram_lost", streak="lost")
    verdict = judged(make.gpu(), probe=probe, before=(before,))
    assert (verdict.state, verdict.remedy, verdict.evidence["veto"]) == ("degraded", "none", veto)


def test_observe_only_shows() -> None:
    """In observe mode a loss is shown."""
    verdict = judged(make.gpu(), mode="observe")
    assert (verdict.state, verdict.remedy) == ("degraded", "none")


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        pytest.param(make.gpu(processes=None), "vram_not_reported", id="no-process-list"),
        pytest.param(holding(None), "vram_not_reported", id="no-numbers"),
        pytest.param(make.gpu(state="lost"), "vram_not_reported", id="gpu-lost"),
        pytest.param(make.gpu(5), "vram_not_reported", id="gpu-not-there"),
    ],
)
def test_what_is_not_reported_is_unknown(gpu: GpuReading, reason: str) -> None:
    """A card that does not tell is not suspected."""
    verdict = judged(gpu)
    assert (verdict.state, verdict.reason) == ("unknown", reason)


def test_below_a_small_baseline_the_check_cannot_tell() -> None:
    """A baseline under 256 MiB is no baseline."""
    past = make.history(make.served(), make.event("baseline", vram_bytes=255 * MIB))
    assert judged(make.gpu(), past=past).reason == "vram_baseline_too_small"


def test_unread_gpus_are_unknown() -> None:
    """A hung NVML is no loss."""
    verdict = judged(make.gpu(), errors={"gpus": "no answer for 42 s"})
    assert (verdict.state, verdict.reason) == ("unknown", "gpus_unread")


def test_without_a_baseline_nothing_is_judged() -> None:
    """Before it has settled, or on the CPU, a replica is not asked about."""
    now = make.snapshot(make.container(), gpus=[make.gpu()])
    assert list(CHECK.run(make.scene(now, past=make.history(make.served())))) == []
    assert list(CHECK.run(make.scene(now, make.replica(gpus=()), past=PAST))) == []
    other = make.history(make.served(id_="c0"), make.event("baseline", vram_bytes=BASELINE))
    assert list(CHECK.run(make.scene(now, past=other))) == []


def test_what_a_stranger_holds_is_not_counted() -> None:
    """Another program's VRAM on the same card does not make up for the replica's own."""
    assert judged(holding(BASELINE, container="c9")).reason == "vram_lost"
