"""Who gets how much: a thousand requests of eight clients on four engines, on the real clock."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from gpuctl.model import GatewaySettings
from tests.gateway.inside import Inside, answered, request
from tests.rig.gateway_process import Upstream
from tests.rig.stub_engine import StubEngine

# It starts none, and takes as long: most of it is waiting for the engines.
pytestmark = pytest.mark.program

ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
REQUESTS, CLIENTS, REPLICAS = 1000, 8, 4
#: An answer; much longer than whatever else runs on the machine holds up one of them.
USUAL_SECONDS = 0.025


class Run:
    """What came of all requests."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()  # by replica
        self.took: list[float] = []  # seconds

    @property
    def p95(self) -> float:
        return sorted(self.took)[len(self.took) * 95 // 100]


def engines(*, slow: int | None) -> Iterator[StubEngine]:
    """Yield the engines, of which one may be four times slower than the others."""
    for index in range(REPLICAS):
        times = 4 if index == slow else 1
        yield StubEngine(delay_seconds=times * USUAL_SECONDS)


@contextmanager
def gateway(routing: str, *, slow: int | None) -> Iterator[Inside]:
    with ExitStack() as started:
        upstreams = [
            Upstream(name=f"chat-{index}", address=started.enter_context(engine).address, slots=8)
            for index, engine in enumerate(engines(slow=slow))
        ]
        settings = GatewaySettings(routing=routing)  # type: ignore[arg-type]
        yield started.enter_context(Inside(upstreams, settings))


def run(routing: str, *, slow: int | None = None) -> Run:
    """Let each client ask anew when it has its answer, on a connection that it keeps."""
    told, left = Run(), itertools.count()

    def ask(inside: Inside) -> None:
        with inside.connect() as client:
            while next(left) < REQUESTS:
                began = time.monotonic()
                client.sendall(request(ASKED))
                answer = answered(client)
                assert answer.status == 200, answer.body
                told.took.append(time.monotonic() - began)
                told.served[answer.headers["x-gpuctl-replica"]] += 1

    with gateway(routing, slow=slow) as inside:
        clients = [threading.Thread(target=ask, args=(inside,)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert sum(told.served.values()) == len(told.took) == REQUESTS
    return told


def test_equals_get_equal_shares() -> None:
    """Each of four equal replicas answers 20 to 30 % of the requests."""
    served = run("least_busy").served
    assert len(served) == REPLICAS
    assert min(served.values()) >= 0.2 * REQUESTS, served
    assert max(served.values()) <= 0.3 * REQUESTS, served


def test_a_slow_one_gets_the_least() -> None:
    """One that is four times slower gets the least, and few wait for it as by round robin."""
    by_turns = run("round_robin", slow=2)
    by_load = run("least_busy", slow=2)
    (name, count) = by_load.served.most_common()[-1]
    assert (name, count < 0.05 * REQUESTS) == ("chat-2", True), by_load.served
    assert set(by_turns.served.values()) == {REQUESTS // REPLICAS}
    # By load they wait for the usual answer: a quarter, and more of it on a busy machine.
    assert by_load.p95 < by_turns.p95 / 1.5, (by_load.p95, by_turns.p95)
