"""dockerd dies, hangs or is restarted under running replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import P106_TENTH, Host, workload
from tests.rig import images
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.docker

PORT = 18401
REPLICAS = 4
SPACING_SECONDS = 0.5
#: Longer than an answer of the engine is waited for (10 s).
FROZEN_SECONDS = 15.0


@contextmanager
def serving(*, live_restore: bool) -> Iterator[tuple[Host, EngineRecord]]:
    """A host with an engine of its own, its replicas ready, and the engine's record."""
    with PrivateEngine(live_restore=live_restore) as engine, EngineRecord(engine) as record:
        client = engine.client()
        images.build(client)
        client.close()
        with served(engine) as host:
            yield host, record
            assert overlap(record.events) == 0.0


@contextmanager
def served(engine: PrivateEngine) -> Iterator[Host]:
    """A host on that engine with its replicas ready."""
    with Host(engine) as host:
        limits = {"memory": "256m", "memory_swap": "256m"}
        tables = workload("chat", port=PORT, gpus=list(range(REPLICAS)), **limits)
        host.up(host.profile(tables, watchdog=P106_TENTH))
        yield host


def unread(host: Host) -> bool:
    """Return whether the runtime is told to be unread."""
    conditions = host.status()["conditions"]
    return any(condition["reason"] == "runtime_unread" for condition in conditions)


def killed(host: Host) -> None:
    host.engine.kill9()
    wait_for(lambda: unread(host), "the runtime to be told unread")
    time.sleep(5)
    assert unread(host)
    host.engine.start()


def frozen(host: Host) -> None:
    host.engine.freeze()
    until = time.monotonic() + FROZEN_SECONDS
    try:
        wait_for(lambda: unread(host), "the runtime to be told unread", FROZEN_SECONDS)
        time.sleep(max(0.0, until - time.monotonic()))
        assert unread(host)
    finally:
        host.engine.thaw()


@pytest.mark.parametrize("fault", [killed, frozen])
def test_an_engine_that_is_away_restarts_nothing(fault: Callable[[Host], None]) -> None:
    """Under live-restore: ids and StartedAt stay, and a condition says it could not be read."""
    with serving(live_restore=True) as (host, _):
        before, acts = host.containers(), len(host.events("attempt", "failed"))
        fault(host)
        wait_for(lambda: not unread(host), "the runtime to be read again", 30.0)
        for index in range(REPLICAS):
            host.wait_phase(f"chat-{index}")
        # A few ticks more: what was misread in between would be acted on now.
        time.sleep(3)
        assert host.containers() == before
        assert len(host.events("attempt", "failed")) == acts
        assert {row["restarts_1h"] for row in host.status()["replicas"]} == {0}


def test_an_engine_restarted_without_live_restore_is_no_fault_of_the_replicas() -> None:
    """All of them end with it and come back one after another; nothing is held against them."""
    with serving(live_restore=False) as (host, record):
        before = host.containers()
        known = len(host.events("failed"))
        host.engine.restart()
        for name, (container, _) in sorted(before.items()):
            host.wait_replaced(name, container, seconds=60)
        failed = host.events("failed")[known:]
        assert sorted(e["subject"] for e in failed) == sorted(before), host.tail()
        assert {e["reason"] for e in failed} == {"runtime_restarted"}
        assert {row["restarts_1h"] for row in host.status()["replicas"]} == {0}
        assert host.events("host_fault") == []
        began = [e["timeNano"] / 1e9 for e in record.events if e["Action"] == "start"]
        again = began[-REPLICAS:]
        assert len(began) == 2 * REPLICAS
        # The engine takes some time over each start; the spacing is between their beginnings.
        assert again[-1] - again[0] >= (REPLICAS - 1) * SPACING_SECONDS * 0.8
