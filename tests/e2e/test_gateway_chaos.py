"""
Five minutes of `make soak`: real replicas that are killed at random, under clients that ask on.

`test_gateway_real.py` has the same with two kills, among the everyday tests.
"""

from __future__ import annotations

import time

import pytest

from tests.e2e.chaos import Chaos, resting, wait_whole
from tests.e2e.loadtest_record import record
from tests.e2e.served import four_replicas
from tests.rig.dockerd import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.engine, pytest.mark.nvml, pytest.mark.soak]

SECONDS, EVERY_SECONDS = 300.0, 30.0


def test_chaos(engine: PrivateEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """One of four is killed every 30 s: no whole answer fails, and nothing is left over."""
    seed = int(time.time())
    with four_replicas(engine) as host:
        before = resting(host)
        with Chaos(host, seed=seed) as chaos:
            began = time.monotonic()
            while time.monotonic() < began + SECONDS - EVERY_SECONDS:
                time.sleep(EVERY_SECONDS)
                chaos.kill()
            time.sleep(max(0.0, began + SECONDS - time.monotonic()))
            wait_whole(host)
        figures = [*chaos.check(), f"seed {seed}"]
        assert len(chaos.killed) >= 8
        assert len(chaos.clients.outcomes) >= 200
        assert resting(host) == before, figures
        assert "internal_error" not in {line["event"] for line in host.gateway_log()}
    record(capsys, "chaos", figures)
