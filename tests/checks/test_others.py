"""The shorter checks: what stands still, what is missing, what restarts, what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.checks import gpu_missing, restarts, sources, stalled
from gpuctl.model import GatewayReading, GatewayReplica, GpuReading, ProbeReading, Verdict
from tests import make
from tests.make import NOW

READY = make.history(make.served())


def still(probe: ProbeReading, gateway: GatewayReading | None = None) -> Verdict:
    now = make.snapshot(make.container(), probes=[probe], gateway=gateway)
    (verdict,) = stalled.CHECK.run(make.scene(now, past=READY))
    return verdict


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        pytest.param(make.probe(in_flight=1, moving_at=NOW - 119), "", id="not-long-enough"),
        pytest.param(make.probe(in_flight=1, moving_at=NOW - 120), "stalled", id="stalled"),
        pytest.param(make.probe(in_flight=0, moving_at=NOW - 999), "", id="idle"),
        pytest.param(make.probe(in_flight=None, moving_at=NOW - 999), "", id="not-told"),
        pytest.param(
            make.probe(in_flight=1, moving_at=NOW - 299, slowest_seconds=100.0), "", id="slow-batch"
        ),
        pytest.param(
            make.probe(in_flight=1, moving_at=NOW - 300, slowest_seconds=100.0),
            "stalled",
            id="slower-than-its-slowest",
        ),
        pytest.param(make.probe(canary_failures=1), "", id="one-canary"),
        pytest.param(make.probe(canary_failures=2), "canary_failed", id="two-canaries"),
    ],
)
def test_stalled(probe: ProbeReading, reason: str) -> None:
    """Work in flight that has not moved for max(120 s, 3 × the slowest batch) is stalled."""
    verdict = still(probe)
    assert verdict.reason == reason
    assert verdict.remedy == ("restart" if reason else "none")


def test_a_gateway_is_the_better_witness() -> None:
    """Bytes that a gateway passed on are progress; requests that it holds are in flight."""
    hung = make.probe(in_flight=0, moving_at=NOW - 500)

    def through(last_byte: float | None) -> GatewayReading:
        replica = GatewayReplica(in_flight=1, last_byte_boot_seconds=last_byte)
        return GatewayReading(replicas={"chat-0": replica})

    assert still(hung, through(NOW - 1)).state == "ok"
    assert still(hung, through(None)).reason == "stalled"


def test_only_a_ready_container_that_was_asked_can_stall() -> None:
    """A load, a new container, a stopped one or an unread runtime is no stall."""
    hung = make.probe(in_flight=1, moving_at=NOW - 500)
    now = make.snapshot(make.container(), probes=[hung])
    run = stalled.CHECK.run
    assert list(run(make.scene(now, past=make.history(make.started())))) == []
    assert list(run(make.scene(make.snapshot(make.container()), past=READY))) == []
    ended = make.snapshot(make.container(state="exited"), probes=[hung])
    assert list(run(make.scene(ended, past=READY))) == []
    unread = make.snapshot(make.container(), probes=[hung], errors={"runtime": "down"})
    assert list(run(make.scene(unread, past=READY))) == []


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        pytest.param((make.gpu(),), "", id="there"),
        pytest.param((make.gpu(state="lost"),), "gpu_lost", id="lost"),
        pytest.param((make.gpu(3),), "gpu_missing", id="gone"),
    ],
)
def test_gpu_missing(gpus: tuple[GpuReading, ...], reason: str) -> None:
    """A planned GPU that is lost or gone is to be avoided."""
    verdicts = list(gpu_missing.CHECK.run(make.scene(make.snapshot(gpus=gpus))))
    assert [(v.subject, v.reason, v.remedy) for v in verdicts] == [
        ("GPU-0", reason, "avoid" if reason else "none")
    ]


def test_fewer_gpus_than_expected() -> None:
    """A host with fewer GPUs than its profile says is degraded, with the numbers."""
    scene = make.scene(make.snapshot(gpus=[make.gpu()]), expected_gpus=8, missing_gpus=("7",))
    verdict = list(gpu_missing.CHECK.run(scene))[-1]
    assert (verdict.subject, verdict.reason) == ("host", "fewer_gpus")
    assert verdict.evidence == {"expected": 8, "present": 1, "missing": ("7",)}


def test_gpus_not_read_yet_are_unknown() -> None:
    """No reading is not the same as no GPU."""
    now = replace(make.snapshot(), gpus_boot_seconds=None)
    (verdict,) = gpu_missing.CHECK.run(make.scene(now))
    assert (verdict.state, verdict.reason) == ("unknown", "gpus_unread")


@pytest.mark.parametrize(
    ("ages", "reason"),
    [
        pytest.param([100] * 5, "", id="five-an-hour"),
        pytest.param([100] * 6, "restarts_often", id="six-an-hour"),
        pytest.param([5000 + n for n in range(8)], "", id="eight-a-day"),
        pytest.param([5000 + n for n in range(9)], "restarts_often", id="nine-a-day"),
    ],
)
def test_restarts(ages: list[float], reason: str) -> None:
    """More than five restarts an hour, or eight a day, are too many."""
    past = make.history(
        *(
            make.event("attempt", at=NOW - age, action="start", restart=True)
            for age in sorted(ages, reverse=True)
        )
    )
    (verdict,) = restarts.CHECK.run(make.scene(make.snapshot(), past=past))
    assert verdict.reason == reason


def test_no_restart_is_not_worth_a_word() -> None:
    """A replica that was never restarted has no such condition."""
    assert list(restarts.CHECK.run(make.scene(make.snapshot(), past=READY))) == []


def test_what_cannot_be_read_is_told_in_its_own_words() -> None:
    """One condition per unreadable source, and one where the events were lost."""
    scene = make.scene(
        make.snapshot(errors={"gpus": "no answer for 42 s"}), past=make.history(cautious=True)
    )
    verdicts = list(sources.CHECK.run(scene))
    assert [(v.check, v.reason) for v in verdicts] == [
        ("gpus_readable", "gpus_unread"),
        ("state_intact", "events_lost"),
    ]
    assert verdicts[0].evidence["error"] == "no answer for 42 s"
