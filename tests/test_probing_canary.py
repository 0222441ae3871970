"""The one token that an idle engine is asked for, and who is not asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import EngineStats, ProbeResult, ProbeSpec, Replica
from gpuctl.probing import ProbeSource
from tests import fakes, make
from tests.fakes import busy
from tests.make import NOW
from tests.probing_bench import CHAT, Probed

METRICS = fakes.METRICS.format(tokens=1, running=0)
ASKABLE = make.replica(
    probe=ProbeSpec(port=8081, health_path="/health", canary_path="/completion", canary_body="{}")
)


def canaries(replica: Replica, *, after: float = 60.0, good: Any = True, **answer: Any) -> Any:
    """Ask once now and once *after*; return what is known of the canary then."""
    probed = Probed(plan=make.plan(replica, watchdog=replica.watchdog))
    probed.prober.canaries[8081] = good
    probed.prober.answers[8081] = replace(ProbeResult(outcome="ok", metrics=METRICS), **answer)
    probed.follow(chat_0="c1")
    probed.source.sample()
    probed.clock.advance(after)
    probed.latest.probes["chat-0"] = replace(probed.reading(), boot_seconds=NOW + after - 1)
    probed.source.sample()
    found = probed.reading()
    return found.canary, found.canary_failures


def test_an_idle_engine_is_asked_for_one_token() -> None:
    """After a minute of rest, and not before, it must show that it can still answer."""
    assert canaries(ASKABLE) == (True, 0)
    assert canaries(ASKABLE, good=False) == (False, 1)
    assert canaries(ASKABLE, after=59.0) == (None, 0)


def test_a_canary_that_is_not_let_in_is_no_failure() -> None:
    """A prober that cannot tell says nothing for the engine, and nothing against it."""
    assert canaries(ASKABLE, good=None) == (None, 0)


@pytest.mark.parametrize(
    ("replica", "answer"),
    [
        pytest.param(CHAT, {}, id="no-canary"),
        pytest.param(
            replace(ASKABLE, watchdog=replace(make.SETTINGS, canary_seconds=0.0)), {}, id="off"
        ),
        pytest.param(ASKABLE, {"outcome": "refused"}, id="not-well"),
        pytest.param(ASKABLE, {"metrics": busy(1).metrics}, id="busy"),
        pytest.param(ASKABLE, {"metrics": None}, id="nobody-knows-whether-it-is-idle"),
    ],
)
def test_no_canary_where_it_would_disturb(replica: Replica, answer: dict[str, Any]) -> None:
    """Only an engine that is well, awake and certainly idle is asked."""
    assert canaries(replica, **answer) == (None, 0)


def test_a_sleeping_engine_is_left_asleep() -> None:
    """A canary would wake what was put to sleep on purpose."""
    probed = Probed(plan=make.plan(ASKABLE))
    asleep = {"llama.cpp": lambda _: EngineStats(running=0, sleeping=True)}
    probed.source = ProbeSource(
        probed.prober, probed.clock, probed.latest, probed.woken.put, asleep
    )
    probed.latest.probes["chat-0"] = make.probe(canary_at=NOW - 900)
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.reading().canary is None


def test_a_failed_canary_wakes_the_loop() -> None:
    """One that failed is news, though the engine says that it is well."""
    probed = Probed(plan=make.plan(ASKABLE))
    probed.latest.probes["chat-0"] = make.probe(canary_at=NOW - 900, boot_seconds=NOW - 1)
    probed.prober.canaries[8081] = False
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.wakes() == ["probe chat-0"]
