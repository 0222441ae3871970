"""A replica that never comes up: its budget, what is said of it, and what a kill forgets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import P106_TENTH, Host, Ran, workload
from tests.rig.dockerd import PrivateEngine

pytestmark = pytest.mark.docker

PORT = 18301
#: The profile's budget with every threshold divided by ten, and its 15 min by twenty: 45 s.
BUDGET, WINDOW_SECONDS = 6, 45.0
WATCHDOG = P106_TENTH.replace('crash_loop = "90s"', f'crash_loop = "{WINDOW_SECONDS:g}s"')
BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
LAST_WORDS = "gpusim: no kernel image is available for this device"


@pytest.fixture(scope="module")
def host(engine: PrivateEngine) -> Iterator[Host]:
    with Host(engine) as started:
        yield started


@pytest.fixture(scope="module")
def record(host: Host) -> Iterator[EngineRecord]:
    with EngineRecord(host.engine) as following:
        yield following
        assert overlap(following.events) == 0.0


@pytest.fixture(scope="module")
def came_up(host: Host, record: EngineRecord) -> Ran:
    """What `up` said of a replica that ends with code 3 whenever it starts."""
    orders = json.dumps({"print": LAST_WORDS, "exit": 3})
    limits = {"memory": "256m", "memory_swap": "256m"}
    tables = workload("chat", port=PORT, gpus=[0], args=["--orders", orders], **limits)
    profile = host.profile(tables, watchdog=WATCHDOG)
    return host.run("up", str(profile), "--timeout", "60", seconds=80)


def row(host: Host) -> dict[str, Any]:
    return host.replica("chat-0")


def starts(record: EngineRecord) -> list[float]:
    return [e["timeNano"] / 1e9 for e in record.events if e["Action"] == "start"]


def test_up_says_what_failed_and_why(came_up: Ran) -> None:
    """Exit code 3, with the replica, the reason and its last words; the daemon goes on."""
    assert came_up.code == 3, came_up
    assert "chat-0" in came_up.err
    assert "exit_3" in came_up.err
    assert LAST_WORDS in came_up.err


def test_it_obeys_the_budget_and_says_when_it_tries_next(
    host: Host, record: EngineRecord, came_up: Ran
) -> None:
    """After the back-off's five steps a crash loop: the engine saw six starts, each spaced."""
    host.wait_reason("chat-0", "crash_loop: exit_3", seconds=60)
    began = starts(record)
    assert len(began) == BUDGET
    for (before, after), least in zip(pairwise(began), BACKOFF_SECONDS, strict=True):
        assert after - before >= least
    told = row(host)
    assert told["phase"] == "backoff"
    # Counted from the sixth death, some tenths of a second after the sixth start.
    assert began[-1] + WINDOW_SECONDS <= told["next_attempt_at"] <= began[-1] + WINDOW_SECONDS + 3
    shown = json.loads(host.run("status", "--json").out)["replicas"][0]
    assert shown["next_attempt_at"] == pytest.approx(told["next_attempt_at"], abs=0.01)


def test_a_kill_of_the_daemon_forgets_nothing(
    host: Host, record: EngineRecord, came_up: Ran
) -> None:
    """A new daemon waits for the same moment, tries once then, and waits again as long."""
    due = row(host)["next_attempt_at"]
    host.kill_daemon()
    host.begin_daemon()
    host.wait_reason("chat-0", "crash_loop: exit_3")
    assert abs(row(host)["next_attempt_at"] - due) <= 1.0
    host.wait_reason("chat-0", "crash_loop: exit_3", later_than=due, seconds=WINDOW_SECONDS + 30)
    began = starts(record)
    assert len(began) == BUDGET + 1
    assert began[-1] >= due - 0.05
    assert row(host)["next_attempt_at"] >= began[-1] + WINDOW_SECONDS
    assert not any(
        sum(first <= at < first + WINDOW_SECONDS for at in began) > BUDGET for first in began
    )
    assert time.time() < row(host)["next_attempt_at"]
