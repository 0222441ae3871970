"""What each of four replicas gets of 1,000 requests, through the real gateway."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import Literal

import httpx
import pytest

from gpuctl.model import GatewaySettings
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.stub_engine import StubEngine

pytestmark = pytest.mark.program

REQUESTS = 1000
CLIENTS = 4
ASKED = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def answered(
    routing: Literal["least_busy", "round_robin"], seconds: Sequence[float]
) -> tuple[Counter[str], float]:
    """Return how many each replica answered, which takes it so long, and the p95 of all."""
    with ExitStack() as stack:
        engines = [stack.enter_context(StubEngine(delay_seconds=delay)) for delay in seconds]
        upstreams = [
            Upstream(name=f"chat-{index}", address=engine.address, slots=4)
            for index, engine in enumerate(engines)
        ]
        gateway = stack.enter_context(GatewayProcess(upstreams, GatewaySettings(routing=routing)))

        def asking(_: int) -> list[tuple[str, float]]:
            with httpx.Client(base_url=gateway.base_url, timeout=20) as client:
                return list(islice(iter(lambda: ask(client), None), REQUESTS // CLIENTS))

        with ThreadPoolExecutor(CLIENTS) as pool:
            found = [one for each in pool.map(asking, range(CLIENTS)) for one in each]
        assert not gateway.broke
    took = sorted(seconds for _, seconds in found)
    return Counter(name for name, _ in found), took[len(took) * 95 // 100]


def ask(client: httpx.Client) -> tuple[str, float]:
    """Return which replica answered, and how long that took."""
    began = time.monotonic()
    answer = client.post("chat/completions", json=ASKED)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gpuctl-replica"], time.monotonic() - began


def test_equals_share_evenly() -> None:
    """Each of four that are equal gets 20 to 30 %."""
    counts, _ = answered("least_busy", [0.02] * 4)
    assert counts.total() == REQUESTS
    assert [name for name, count in counts.items() if not 200 <= count <= 300] == []
    assert len(counts) == 4


def test_a_slow_one_gets_the_least() -> None:
    """One that is four times slower gets the least, and p95 is below round robin's."""
    seconds = [0.02, 0.02, 0.02, 0.08]
    counts, p95 = answered("least_busy", seconds)
    in_turn, p95_in_turn = answered("round_robin", seconds)
    assert counts["chat-3"] < min(counts[f"chat-{index}"] for index in range(3))
    assert p95 < p95_in_turn
    assert in_turn["chat-3"] == REQUESTS // 4
