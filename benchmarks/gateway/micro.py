"""
What the queue and the gate add to one request, in process and by the clock.

`costs_us` measures them as the compiled wheel installs them, in a process that imports them from
there: `python -m benchmarks.gateway.micro`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.gateway import installed
from gpuctl.gateway.admission import Admission, Seat, Ticket
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica, Route
from gpuctl.model import GatewaySettings

REPEATS = 20_000
WAITING = 99


def costs_us() -> dict[str, tuple[float, float]]:
    """Return the median and the 99th percentile of each, in microseconds."""
    ran = subprocess.run(
        (sys.executable, "-m", "benchmarks.gateway.micro"),
        env={**os.environ, **installed.environment()},
        stdout=subprocess.PIPE,
        check=True,
    )
    return {
        name: (median_us, p99_us) for name, (median_us, p99_us) in json.loads(ran.stdout).items()
    }


def measured_us() -> dict[str, tuple[float, float]]:
    """The same of what this process has imported."""
    return {
        "gate: asked, begun, succeeded": _timed(_gate()),
        "queue: a seat with nobody waiting, and back": _timed(_seat()),
        f"queue: a place behind {WAITING}, and the turn of the first": _timed(_turn()),
    }


def _timed(once: Callable[[], None]) -> tuple[float, float]:
    for _ in range(REPEATS // 10):
        once()
    spent = []
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        once()
        spent.append(time.perf_counter_ns() - began)
    spent.sort()
    return spent[REPEATS // 2] / 1000, spent[REPEATS * 99 // 100] / 1000


def _gate() -> Callable[[], None]:
    gate = Gate(5, 30.0)

    def once() -> None:
        if gate.allows(1.0):
            gate.succeeded(gate.begin(1.0))

    return once


def _seat() -> Callable[[], None]:
    admission, route = _admission()

    def once() -> None:
        found = admission.ask(_ticket(route, lambda seat: None), 1.0)
        assert isinstance(found, Seat)
        found.release(1.0)

    return once


def _turn() -> Callable[[], None]:
    admission, route = _admission()
    seats: list[Seat] = []
    for _ in range(sum(replica.slots for replica in route.replicas)):
        seat = admission.ask(_ticket(route, seats.append), 1.0)
        assert isinstance(seat, Seat)
        seats.append(seat)
    for _ in range(WAITING):
        assert admission.ask(_ticket(route, seats.append), 1.0) is None

    def once() -> None:
        admission.ask(_ticket(route, seats.append), 1.0)
        seats.pop().release(1.0)

    return once


def _admission() -> tuple[Admission, Route]:
    route = Route("mock", "chat")
    for number in range(4):
        replica = Replica(f"chat-{number}", "mock", Gate(5, 30.0))
        replica.state, replica.slots = "ready", 32
        route.replicas.append(replica)
    settings = GatewaySettings()
    admission = Admission(settings, random.Random(0).random)
    admission.configure(settings, {"mock": route})
    return admission, route


def _ticket(route: Route, serve: Callable[[Seat], None]) -> Ticket:
    return Ticket(route, "key", 5, set(), None, 1.0, 1e9, serve, lambda reason: None)


if __name__ == "__main__":
    print(json.dumps(measured_us()))
