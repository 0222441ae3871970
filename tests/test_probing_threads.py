"""The threads that ask: none waits for another, and all of them end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from gpuctl.model import ProbeResult, ProbeSpec
from tests import make
from tests.fakes import FakeProber
from tests.probing_bench import PATIENCE_SECONDS, Probed, woken


class Gate(FakeProber):
    """A prober whose every question waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = queue.SimpleQueue[int]()
        self.go = threading.Semaphore(0)

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        self.begun.put(spec.port)
        self.go.acquire(timeout=PATIENCE_SECONDS)
        return super().probe(spec)

    def next_port(self) -> int:
        return self.begun.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def gated() -> Iterator[tuple[Probed, Gate]]:
    gate = Gate()
    plan = make.plan(*(make.replica(f"chat-{i}") for i in range(2)))
    made = Probed(plan=plan, prober=gate)
    made.source.begin()
    yield made, gate
    made.source.end()
    gate.go.release(100)


def test_a_replica_that_hangs_delays_no_other(gated: tuple[Probed, Gate]) -> None:
    """While one question waits for its answer, the other replica is asked."""
    probed, gate = gated
    probed.follow(chat_0="c1", chat_1="c2")
    assert {gate.next_port(), gate.next_port()} == {8081, 8082}
    gate.go.release(2)
    assert {woken(probed), woken(probed)} == {"probe chat-0", "probe chat-1"}


def test_a_new_container_is_asked_at_once(gated: tuple[Probed, Gate]) -> None:
    """A container that began to run does not wait for the pace of the one before."""
    probed, gate = gated
    probed.follow(chat_0="c1")
    assert gate.next_port() == 8081
    gate.go.release()
    woken(probed)
    probed.follow(chat_0="c1")
    assert gate.begun.empty()
    probed.follow(chat_0="c2")
    assert gate.next_port() == 8081
    gate.go.release()
    woken(probed)
    assert probed.reading().container == "c2"


def test_what_has_gone_is_asked_no_more(gated: tuple[Probed, Gate]) -> None:
    """A replica that stopped while it was asked has no place in the queue."""
    probed, gate = gated
    probed.follow(chat_0="c1")
    gate.next_port()
    probed.follow(chat_1="c2")
    gate.next_port()
    gate.go.release(2)
    assert woken(probed) == "probe chat-1"
    assert "chat-0" not in probed.latest.probes


def test_the_threads_end() -> None:
    """When the source ends, its threads do."""
    probed = Probed()
    probed.source.begin()
    probed.follow(chat_0="c1")
    woken(probed)
    threads = [t for t in threading.enumerate() if t._target == probed.source._run]  # type: ignore[attr-defined]
    assert threads
    probed.source.end()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
