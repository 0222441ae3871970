"""What a new engine must answer before it is ready, and how long a busy one is waited for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gpuctl.model import ProbeResult, ProbeSpec
from tests import make
from tests.fakes import FakeProber, busy
from tests.make import NOW
from tests.probing_bench import Probed

WARM = ProbeSpec(port=8081, health_path="/health", warmup_path="/v1/x", warmup_requests=2)
MUTE = ProbeSpec(port=8081, health_path="/v1/models", mute_at_work=True)


@dataclass
class Recorded(FakeProber):
    """Keeps what it was asked, and how long each question had."""

    asked_for: list[float] = field(default_factory=list)
    warmed: list[float] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    probed: Probed | None = None

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        self.asked_for.append(spec.timeout_seconds)
        return super().probe(spec)

    def warm_up(self, spec: ProbeSpec, seconds: float) -> ProbeResult:
        self.warmed.append(seconds)
        if self.probed is not None:
            self.seen.append(self.probed.reading().outcome)
        return super().warm_up(spec, seconds)


def warming(spec: ProbeSpec = WARM) -> tuple[Probed, Recorded]:
    prober = Recorded()
    probed = Probed(plan=make.plan(make.replica(probe=spec)), prober=prober)
    prober.probed = probed
    probed.follow(chat_0="c1")
    return probed, prober


def test_a_new_engine_is_warmed_up_at_its_first_answer() -> None:
    """It gets its requests one after the other, each with the time that work may stand still."""
    probed, prober = warming()
    probed.source.sample()
    assert (prober.warmed, prober.seen) == ([120.0, 120.0], ["ok", "ok"])
    assert probed.reading().warmed == 2
    probed.source.sample()
    assert len(prober.warmed) == 2


def test_one_that_does_not_answer_yet_is_not_warmed_up() -> None:
    """What loads is let alone."""
    probed, prober = warming()
    prober.answers[8081] = ProbeResult(outcome="loading", status=503)
    probed.source.sample()
    assert prober.warmed == []


def test_what_was_ready_is_not_warmed_up_again() -> None:
    """A daemon that adopts it disturbs nobody."""
    probed, prober = warming()
    probed.source.follow(probed.plan, {"chat-0": make.container()}, {"c1"})
    probed.source.sample()
    assert (prober.warmed, probed.reading().warmed) == ([], 0)


def test_a_warm_up_that_fails_is_tried_at_the_next_probe() -> None:
    """The rest of the requests wait for it; the loop is told each time."""
    probed, prober = warming()
    prober.warmups[8081] = ProbeResult(outcome="dead", status=500, detail="HTTP 500")
    probed.source.sample()
    found = probed.reading()
    assert (found.outcome, found.warmed, found.warmup_failures) == ("ok", 0, 1)
    assert (found.warmup_detail, len(prober.warmed)) == ("HTTP 500", 1)
    probed.wakes()
    probed.source.sample()
    assert (probed.reading().warmup_failures, probed.wakes()) == (2, ["probe chat-0"])
    del prober.warmups[8081]
    probed.source.sample()
    assert (probed.reading().warmed, probed.reading().warmup_failures) == (2, 0)


def test_what_is_at_work_for_others_is_not_warmed_up() -> None:
    """Its counters tell at the next probe that it answers them: nothing waits behind these."""
    probed, prober = warming()
    prober.answers[8081] = busy(tokens=1)
    probed.source.sample()
    assert (prober.warmed, probed.reading().serves) == ([], False)
    probed.clock.advance(4.0)
    prober.answers[8081] = busy(tokens=2)
    probed.source.sample()
    found = probed.reading()
    assert (prober.warmed, found.serves, found.warmed) == ([], True, 0)
    prober.answers[8081] = busy(tokens=2, running=0)
    probed.source.sample()
    assert (prober.warmed, probed.reading().serves) == ([], True)


def test_what_stands_still_with_requests_of_others_is_asked() -> None:
    """Once that has lasted: whether it can answer is for the request to say."""
    probed, prober = warming()
    prober.answers[8081] = busy(tokens=1)
    for seconds in (100.0, 19.0):
        probed.source.sample()
        probed.clock.advance(seconds)
        probed.latest.probes["chat-0"] = replace(
            probed.reading(), boot_seconds=probed.clock.seconds
        )
    probed.source.sample()
    assert prober.warmed == []
    probed.clock.advance(1.0)
    probed.source.sample()
    assert prober.warmed == [120.0, 120.0]


def test_its_own_requests_are_not_those_of_others() -> None:
    """Counters that move by a warm-up request which failed tell nothing."""
    probed, prober = warming()
    prober.warmups[8081] = ProbeResult(outcome="dead", status=500, detail="HTTP 500")
    prober.answers[8081] = busy(tokens=1, running=0)
    probed.source.sample()
    prober.answers[8081] = busy(tokens=2, running=0)
    probed.source.sample()
    found = probed.reading()
    assert (found.serves, found.warmup_failures) == (False, 2)


LATE = ProbeResult(outcome="timeout", latency_seconds=120.0, detail="no answer in 120 s")


def test_a_warm_up_that_was_given_up_is_not_of_others() -> None:
    """It is worked on all the same: an engine that makes one token at last is not ready by that."""
    probed, prober = warming()
    prober.warmups[8081] = LATE
    for tokens, running in ((0, 0), (0, 1), (1, 1), (2, 0)):
        prober.answers[8081] = busy(tokens=tokens, running=running)
        probed.source.sample()
        probed.clock.advance(4.0)
    found = probed.reading()
    assert (found.serves, found.warmed, found.warmup_failures) == (False, 0, 2)


def test_more_than_its_own_are_requests_of_others() -> None:
    """Beside a warm-up that was given up it answers somebody: it need not be asked again."""
    probed, prober = warming()
    prober.warmups[8081] = LATE
    for tokens, running in ((0, 0), (0, 2), (1, 2)):
        prober.answers[8081] = busy(tokens=tokens, running=running)
        probed.source.sample()
        probed.clock.advance(4.0)
    assert (probed.reading().serves, len(prober.warmed)) == (True, 1)


def test_a_container_that_was_replaced_meanwhile_gets_no_more() -> None:
    """The requests are for the one that answered, and its answers count for nobody else."""
    probed, prober = warming()
    answer = prober.warm_up

    def replaced(spec: ProbeSpec, seconds: float) -> ProbeResult:
        probed.follow(chat_0="c2")
        return answer(spec, seconds)

    prober.warm_up = replaced  # type: ignore[method-assign]
    probed.source.sample()
    assert len(prober.warmed) == 1
    assert (probed.reading().container, probed.reading().warmed) == ("c1", 0)


def test_a_busy_engine_is_waited_for_longer_each_time() -> None:
    """A question that is late is asked with twice the time, and at once."""
    probed, prober = warming(MUTE)
    for took in (5.0, 10.0, 20.0):
        prober.answers[8081] = ProbeResult(outcome="timeout", latency_seconds=took)
        probed.source.sample()
        probed.clock.advance(took)
    prober.answers[8081] = ProbeResult(outcome="ok", latency_seconds=33.0)
    probed.source.sample()
    probed.source.sample()
    assert prober.asked_for == [5.0, 10.0, 20.0, 40.0, 5.0]
    assert (probed.reading().in_flight, probed.reading().moving_at) == (0, NOW + 35.0)


def test_an_idle_engine_without_metrics_is_asked_for_a_token() -> None:
    """Its answer to the health question says that it rests, as another's counters would."""
    spec = replace(MUTE, canary_path="/v1/completions", canary_body="{}")
    probed, _ = warming(spec)
    probed.source.sample()
    probed.clock.advance(59.0)
    probed.latest.probes["chat-0"] = replace(probed.reading(), boot_seconds=NOW + 59)
    probed.source.sample()
    assert probed.reading().canary is None
    probed.clock.advance(1.0)
    probed.source.sample()
    assert (probed.reading().canary, probed.reading().canary_failures) == (True, 0)
