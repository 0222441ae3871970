"""The shorter checks: what stands still, what is missing, what restarts, what cannot be read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import gpu_missing, restarts, sources, stalled
from gpuctl.model import (
    Condition,
    GatewayReading,
    GatewayReplica,
    GpuReading,
    ProbeReading,
    Verdict,
)
from tests import make
from tests.make import AT, NOW

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
        pytest.param(
            make.probe(in_flight=1, moving_at=NOW - 360, slowest_seconds=350.0),
            "stalled",
            id="its-slowest-was-a-hang",
        ),
        pytest.param(make.probe(canary_failures=1), "", id="one-canary"),
        pytest.param(make.probe(canary_failures=2), "canary_failed", id="two-canaries"),
    ],
)
def test_stalled(probe: ProbeReading, reason: str) -> None:
    """Work in flight that has not moved for max(120 s, 3 × its slowest ≤ 6 min) is stalled."""
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


def held(began: float, last_byte: float | None = None) -> GatewayReading:
    """Return what a gateway tells that has held one request there since then."""
    row = GatewayReplica(in_flight=1, began_boot_seconds=began, last_byte_boot_seconds=last_byte)
    return GatewayReading(replicas={"chat-0": row})


IDLE = make.probe(in_flight=0, moving_at=NOW)
MUTE = make.probe(in_flight=None, moving_at=NOW - 5000, stats=None, stats_at=None)
MOVED = make.probe(in_flight=0, moving_at=NOW, progress_at=NOW - 119)
AT_IT = make.probe(in_flight=1, moving_at=NOW - 5)
HUNG = make.probe(in_flight=1, moving_at=NOW - 120)
UNREAD = make.probe(in_flight=0, moving_at=NOW - 90, stats_at=NOW - 90)


@pytest.mark.parametrize(
    ("probe", "gateway", "reason"),
    [
        pytest.param(IDLE, held(NOW - 120), "stalled", id="it says that it is idle"),
        pytest.param(IDLE, held(NOW - 119), "", id="not long enough"),
        pytest.param(IDLE, held(NOW - 300, NOW - 119), "", id="a byte came since"),
        pytest.param(MOVED, held(NOW - 300), "", id="it made progress since"),
        pytest.param(MUTE, held(NOW - 120), "stalled", id="it tells nothing"),
        pytest.param(MUTE, held(NOW - 1), "", id="it tells nothing, and was idle for long"),
        pytest.param(AT_IT, held(NOW - 120), "", id="it has just begun with it"),
        pytest.param(HUNG, held(NOW - 1), "stalled", id="another's request hangs"),
        pytest.param(UNREAD, held(NOW - 120), "metrics_unread", id="it may have made progress"),
    ],
)
def test_what_a_gateway_holds_stands_still_since_it_was_sent(
    probe: ProbeReading, gateway: GatewayReading, reason: str
) -> None:
    """A request that hung its engine before any probe saw it there is found by the gateway's."""
    assert still(probe, gateway).reason == reason


def test_requests_that_a_gateway_gives_up_one_after_the_other_are_one_standstill() -> None:
    """Its deadline may be shorter than the patience: what counts is since when nothing came."""
    before: list[Condition] = []
    told = []
    for after, began in ((0, 0), (60, 60), (119, 60), (120, 120)):
        at = NOW + after
        probe = make.probe(in_flight=0, moving_at=at, stats_at=at, boot_seconds=at)
        gateway = held(NOW + began)
        now = make.snapshot(make.container(), probes=[probe], boot_seconds=at, gateway=gateway)
        (verdict,) = stalled.CHECK.run(make.scene(now, past=READY, before=before))
        before = [Condition(verdict=verdict, since=AT, since_boot_seconds=NOW)]
        told.append(verdict.reason)
    assert told == ["", "", "", "stalled"]


class Standing:
    """An engine with a request in flight that does not move since NOW, over many ticks."""

    def __init__(self, *gpus: int, **probe: Any) -> None:
        self.replica, self.probe = make.replica(gpus=gpus), probe
        self.before: list[Condition] = []

    def after(self, seconds: float, used: float | None = None) -> Verdict:
        """Return what is said *seconds* later, when it has used this much processor time."""
        at = NOW + seconds
        asked: dict[str, Any] = {"stats_at": at, **self.probe}
        probe = make.probe(in_flight=1, moving_at=NOW, boot_seconds=at, **asked)
        now = make.snapshot(make.container(cpu_seconds=used), probes=[probe], boot_seconds=at)
        scene = make.scene(now, self.replica, past=READY, before=self.before)
        (verdict,) = stalled.CHECK.run(scene)
        self.before = [Condition(verdict=verdict, since=AT, since_boot_seconds=NOW)]
        return verdict

    def failed_after(self, share: float | None, *, until: float = 2000.0) -> float:
        """Return the seconds to the failure when it uses this share of a core for *until*."""
        for at in range(0, 2000, 5):
            used = None if share is None else share * min(at, until) + 0.01 * at
            if self.after(at, used).state == "failed":
                return at
        return math.inf


READ: dict[str, Any] = {}
LATE = {"stats_at": NOW, "stats_late": True}
FAILED = {"stats_at": NOW}


@pytest.mark.parametrize(
    ("probe", "share", "seconds"),
    [
        pytest.param(READ, 0.0, 120, id="read, idle"),
        pytest.param(READ, None, 120, id="read, processor time not told"),
        pytest.param(READ, 1.0, 1200, id="read, a core"),
        pytest.param(READ, 0.06, 1200, id="read, a share of a core"),
        pytest.param(LATE, 0.0, 120, id="late, idle"),
        pytest.param(LATE, None, 1200, id="late, processor time not told"),
        pytest.param(LATE, 1.0, 1200, id="late, a core"),
        pytest.param(FAILED, 0.0, 1200, id="refused, idle"),
        pytest.param(FAILED, 1.0, 1200, id="refused, a core"),
        pytest.param(FAILED, None, 1200, id="refused, processor time not told"),
    ],
)
def test_a_long_batch_is_told_from_a_standstill(
    probe: dict[str, Any], share: float | None, seconds: float
) -> None:
    """Counters stand still in both; an engine that computes is believed, but not for ever."""
    assert Standing(**probe).failed_after(share) == seconds


@pytest.mark.parametrize(
    ("gpus", "share", "seconds"),
    [
        pytest.param((), 0.0, 120, id="at rest"),
        pytest.param((), 1.0, 1800, id="a core"),
        pytest.param((), None, 1800, id="processor time not told"),
        pytest.param((0,), 1.0, 1800, id="a core, and a gpu"),
    ],
)
def test_an_engine_without_counters_is_at_work_for_a_whole_answer(
    gpus: tuple[int, ...], share: float | None, seconds: float
) -> None:
    """Where nothing tells tokens apart, one at work has the time of the longest answer."""
    standing = Standing(*gpus, **LATE)
    standing.replica = replace(
        standing.replica, probe=replace(standing.replica.probe, mute_at_work=True)
    )
    assert standing.failed_after(share) == seconds


def test_with_a_gpu_processor_time_is_believed_for_less() -> None:
    """A thread that waits for a hung GPU spins, and no batch there takes six minutes."""
    assert Standing(0, **LATE).failed_after(1.0) == 360


def test_a_request_through_a_gateway_may_be_new_where_the_counters_are_not_read() -> None:
    """How long it has stood is not told, so it is never a standstill of that length."""
    row = GatewayReplica(in_flight=1, last_byte_boot_seconds=None)
    refused = make.probe(in_flight=0, moving_at=NOW - 5000, stats_at=NOW - 5000)
    verdict = still(refused, GatewayReading(replicas={"chat-0": row}))
    assert (verdict.state, verdict.reason) == ("unknown", "metrics_unread")


def test_a_batch_is_at_work_until_it_was_watched() -> None:
    """A tick that could not look forgets what was used before: it is watched for a limit anew."""
    standing = Standing(**READ)
    assert standing.after(300, 300.0).reason == "long_batch"
    standing.before = []
    assert [standing.after(at, 305.0).reason for at in (305, 420, 425)] == [
        "long_batch", "long_batch", "stalled",
    ]  # fmt: skip


def test_what_moved_since_it_was_watched_counts_from_there() -> None:
    """Work that was seen before the last movement says nothing of the standstill after it."""
    standing = Standing(**READ)
    assert [standing.after(at, 0.0).reason for at in (-10, 115, 120)] == ["", "", "stalled"]


def test_a_batch_that_stops_half_way_is_found() -> None:
    """The limit counts from the last work that was seen."""
    assert 300 <= Standing(**LATE).failed_after(1.0, until=200) <= 320


def test_counters_that_were_seen_to_stand_still_are_a_standstill() -> None:
    """What was read for the limit holds when the next answer is an error."""
    assert (
        still(make.probe(in_flight=1, moving_at=NOW - 300, stats_at=NOW - 180)).reason == "stalled"
    )


@pytest.mark.parametrize(
    ("probe", "reason"), [(READ, "long_batch"), (LATE, "long_batch"), (FAILED, "metrics_unread")]
)
def test_what_is_not_known_to_stand_still_is_unknown(probe: dict[str, Any], reason: str) -> None:
    """From the limit on it is said that nothing is seen to move; before, nothing."""
    standing = Standing(**probe)
    told = [standing.after(seconds, float(seconds)) for seconds in (0, 60, 115, 120)]
    assert [verdict.state for verdict in told] == ["ok", "ok", "ok", "unknown"]
    assert (told[-1].reason, told[-1].remedy) == (reason, "none")


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
