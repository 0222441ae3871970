"""How a simulated engine answers, well and with every fault of its port."""

from __future__ import annotations

import pytest

from gpuctl.plugin import load_engines
from tests.adapters.simulated_bench import Stage, file, probe, stage

__all__ = ["file", "stage"]


def test_a_life_as_the_prober_sees_it(stage: Stage) -> None:
    """Refused before the start, loading for `load_seconds`, then ok, and refused after the end."""
    seen = [stage.ask()]
    container = stage.start()
    stage.clock.advance(9.9)
    seen.append(stage.ask())
    stage.clock.advance(0.2)
    seen.append(stage.ask())
    stage.runtime.signal(container, "SIGTERM")
    assert [*seen, stage.ask()] == ["refused", "loading", "ok", "refused"]


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_metrics_are_read_by_every_engine(stage: Stage, engine: str) -> None:
    """An idle engine has nothing in flight, and an answered canary moves its counter."""
    stage.loaded()
    read = load_engines()[engine].stats
    before = read(stage.prober.probe(probe()).metrics or "")
    assert (before.running, before.waiting, before.progress) == (0, 0, 0.0)
    assert stage.prober.canary(probe(canary_path="/v1/completions"))
    assert read(stage.prober.probe(probe()).metrics or "").progress == 1.0


def test_an_engine_without_metrics_is_not_asked_for_them(stage: Stage) -> None:
    """Where the probe names no path, there is no text."""
    stage.loaded()
    assert stage.prober.probe(probe(metrics_path=None)).metrics is None


@pytest.mark.parametrize("fault", ["refused", "reset", "timeout", "dead"])
def test_a_fault_of_the_port(stage: Stage, fault: str) -> None:
    """The port answers as its fault says while the container runs, and is well after the edit."""
    container = stage.loaded()
    stage.file.fault("chat-0", fault)
    assert (stage.ask(), stage.prober.canary(probe())) == (fault, False)
    stage.file.write()
    assert stage.ask() == "ok"
    assert [found.id for found in stage.runtime.list()] == [container]


def test_a_fault_is_of_one_replica(stage: Stage) -> None:
    """The others do not suffer it."""
    stage.start()
    stage.start("chat-1", 8082)
    stage.clock.advance(10)
    stage.file.fault("chat-1", "refused")
    assert (stage.ask(8081), stage.ask(8082)) == ("ok", "refused")


def test_stalled_is_ok_without_tokens(stage: Stage) -> None:
    """Health is good, a request is in flight, and neither counter nor canary moves."""
    stage.loaded()
    stage.file.fault("chat-0", "stalled")
    answer = stage.prober.probe(probe())
    stats = load_engines()["llama.cpp"].stats(answer.metrics or "")
    assert (answer.outcome, stats.running, stats.progress) == ("ok", 1, 0.0)
    assert not stage.prober.canary(probe())


def test_a_warm_up_is_answered_by_an_engine_with_tokens(stage: Stage) -> None:
    """One that loads is not warmed up yet, and one that is stalled never."""
    assert stage.prober.warm_up(probe(), 1.0).outcome == "refused"
    stage.loaded()
    assert stage.prober.warm_up(probe(), 1.0).outcome == "ok"
    stage.file.fault("chat-0", "stalled")
    assert stage.prober.warm_up(probe(), 1.0).outcome == "timeout"


def test_slow_load_takes_its_own_time(stage: Stage) -> None:
    """The load of that replica lasts as long as its fault says."""
    stage.file.fault("chat-0", "slow_load:30")
    stage.start()
    stage.clock.advance(29)
    assert stage.ask() == "loading"
    stage.clock.advance(2)
    assert stage.ask() == "ok"
