"""Who is asked when, and which answers wake the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.model import ProbeReading, ProbeResult, ProbeSpec
from tests import make
from tests.fakes import FakeProber
from tests.make import NOW
from tests.probing_bench import CHAT, Probed


@pytest.fixture
def probed() -> Iterator[Probed]:
    made = Probed()
    yield made
    made.source.end()


def test_only_what_runs_and_is_planned_is_asked(probed: Probed) -> None:
    """A container that does not run, or is in no plan, is left alone."""
    dead = make.container(state="exited")
    probed.source.follow(probed.plan, {"chat-0": dead, "old-0": make.container("old-0")})
    probed.source.sample()
    assert probed.prober.asked == 0
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert (probed.prober.asked, probed.reading().container) == (1, "c1")


@pytest.mark.parametrize(
    ("outcomes", "wakes"),
    [
        (["ok", "ok"], [1, 0]),
        (["ok", "refused", "refused"], [1, 1, 1]),
        (["loading", "loading", "ok"], [1, 0, 1]),
    ],
)
def test_what_matters_wakes_the_loop(probed: Probed, outcomes: list[Any], wakes: list[int]) -> None:
    """A change, and each failure, wake the loop; what goes on well does not."""
    probed.follow(chat_0="c1")
    found = []
    for outcome in outcomes:
        probed.prober.answers[8081] = ProbeResult(outcome=outcome)
        probed.source.sample()
        found.append(len(probed.wakes()))
    assert found == wakes


def test_a_hurried_probe_wakes_the_loop_whatever_it_says(probed: Probed) -> None:
    """Who asks for an answer now is waiting for it; what does not run cannot be hurried."""
    probed.follow(chat_0="c1")
    probed.source.sample()
    probed.wakes()
    probed.source.hurry("chat-0")
    probed.source.hurry("chat-9")
    probed.source.sample()
    assert probed.wakes() == ["probe chat-0"]
    probed.source.sample()
    assert probed.wakes() == []


def test_the_answer_of_a_replaced_container_is_dropped() -> None:
    """What was asked before a restart and answered after it is of nobody's interest."""
    probed = Probed()

    class Replacing(FakeProber):
        def probe(self, spec: ProbeSpec) -> ProbeResult:
            probed.follow(chat_0="c2")
            return super().probe(spec)

    probed.source._prober = Replacing()
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.latest.probes == {}


@pytest.mark.parametrize(
    ("reading", "seconds"),
    [
        pytest.param(None, 4.0, id="never"),
        pytest.param(make.probe(), 4.0, id="ok"),
        pytest.param(make.probe(outcome="refused"), 1.0, id="refused"),
        pytest.param(make.probe(outcome="timeout", latency_seconds=3.0), 1.0, id="timeout"),
        pytest.param(make.probe(outcome="timeout", latency_seconds=9.0), 0.0, id="long-timeout"),
    ],
)
def test_the_pace(probed: Probed, reading: ProbeReading | None, seconds: float) -> None:
    """A little more often than the tick; every second while it is not well; a time-out counts."""
    if reading is not None:
        probed.latest.probes["chat-0"] = reading
    assert probed.source._pause(CHAT) == seconds


def test_a_replica_has_one_place_in_the_queue(probed: Probed) -> None:
    """One that was restarted or hurried while it was asked is not asked twice ever after."""

    def asked() -> list[tuple[float, str]]:
        with probed.source._changed:
            probed.source._put_back("chat-0")
        return probed.source._due

    assert asked() == []
    probed.follow(chat_0="c1")
    assert asked() == [(NOW, "chat-0")]
    probed.source._due.clear()
    assert asked() == [(NOW + 4, "chat-0")]
    probed.source.hurry("chat-0")
    assert asked() == [(NOW, "chat-0")]
