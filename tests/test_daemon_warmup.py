"""A new replica is warmed up before it serves, under the whole daemon on fakes."""

from __future__ import annotations

from gpuctl.model import ProbeResult, ProbeSpec
from tests import make
from tests.fakes import busy
from tests.stage import Stage

WARM = ProbeSpec(
    port=8081,
    health_path="/health",
    metrics_path="/metrics",
    warmup_path="/v1/completions",
    warmup_requests=1,
)
FAILS = ProbeResult(outcome="dead", status=500, detail="HTTP 500 no kernel image")


def stage() -> Stage:
    return Stage(make.plan(make.replica(gpus=(), probe=WARM)))


def state(stage: Stage) -> str:
    return str(stage.fakes.store.status["routes"][0]["replicas"][0]["state"])


def test_it_serves_when_it_is_warm() -> None:
    """Its health is good, and until its first request is answered it is not in the routes."""
    warming = stage()
    warming.fakes.prober.warmups[8081] = FAILS
    warming.pass_(2)
    assert (warming.phase(), warming.row()["reason"]) == ("loading", "warmup_failed")
    assert (state(warming), warming.tale("ready")) == ("down", [])
    del warming.fakes.prober.warmups[8081]
    warming.pass_(5)
    assert (warming.phase(), state(warming)) == ("ready", "ready")
    assert warming.tale("ready", "failed") == ["ready"]


def test_one_that_cannot_is_started_again() -> None:
    """After three tries it has failed, with the engine's own words."""
    warming = stage()
    warming.fakes.prober.warmups[8081] = FAILS
    warming.pass_(20)
    assert warming.tale("failed")[0] == "failed warmup_failed"
    (failed, *_) = (e for e in warming.fakes.store.stored if e.kind == "failed")
    assert failed.evidence["answer"] == "HTTP 500 no kernel image"
    assert failed.evidence["tries"] == 3


def test_one_that_is_saturated_is_ready_by_what_it_answers() -> None:
    """Its warm-up requests would wait in vain; its counters move."""
    warming = stage()
    warming.fakes.prober.warmups[8081] = FAILS
    for tokens in range(1, 8):
        warming.fakes.prober.answers[8081] = busy(tokens=tokens)
        warming.pass_(4)
    assert (warming.phase(), warming.tale("failed"), warming.tale("ready")) == (
        "busy",
        [],
        ["ready"],
    )


def test_a_new_daemon_warms_nothing_that_was_ready() -> None:
    """What serves goes on serving, whatever a warm-up would say."""
    warming = stage()
    warming.up()
    warming.fakes.prober.warmups[8081] = FAILS
    warming.daemon = warming.born()
    warming.pass_(30)
    assert (warming.phase(), warming.tale("failed"), warming.tale("ready")) == (
        "ready",
        [],
        ["ready"],
    )
