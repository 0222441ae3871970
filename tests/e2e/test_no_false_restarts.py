"""What looks like a failure and is none restarts nothing; what is one restarts once."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import LLAMA, P106_TENTH, Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.images import REPOSITORY
from tests.rig.socket_proxy import Rule, SocketProxy
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.nvml]

REAL, SIMULATED = 18381, 18391
REAL_IMAGE = "gpuctl-rig:slow-health"
CORROBORATE = P106_TENTH.replace('vram = "strict"', 'vram = "corroborate"')
#: Longer than every threshold at which P106_TENTH restarts something.
PATIENCE_SECONDS = 14.0
#: Ten minutes over ten; gpuctl looks again 63 s after the first silence began.
HUNG_SECONDS = 60.0

Containers = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def proxy(engine: PrivateEngine) -> Iterator[SocketProxy]:
    """Between gpuctl and the engine; without rules it passes everything on."""
    with SocketProxy(engine.socket) as between:
        yield between


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, proxy: SocketProxy, record: EngineRecord) -> Iterator[Host]:
    """One real llama.cpp behind the proxy of its health, and two simulated engines."""
    with Host(engine) as started:
        started.docker_host = proxy.host
        tag_slow_health(started)
        tables = workload("real", port=REAL, image=REAL_IMAGE, gpus=[0], options={"threads": 1})
        tables += "\n" + workload("chat", port=SIMULATED, gpus=[1, 2])
        started.up(started.profile(tables, watchdog=CORROBORATE))
        yield started


@pytest.fixture(autouse=True)
def _calm(host: Host) -> None:
    """Begin with every replica ready, its VRAM known, and its past forgiven."""
    host.vram_lost.clear()
    for name in ("chat-0", "chat-1", "real-0"):
        host.wait_phase(name)
    containers = {containers[0] for containers in host.containers().values()}
    wait_for(
        lambda: containers <= {e["evidence"]["container"] for e in host.events("baseline")},
        "baselines",
    )


@contextlib.contextmanager
def asking(port: int) -> Iterator[None]:
    """Ask an engine for tokens all the while, in a thread; every answer must be a whole one."""
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            assert complete(port, tokens=100)["usage"]["completion_tokens"] == 100

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        try:
            yield
        finally:
            enough.set()
        asked.result(timeout=60)


def tag_slow_health(host: Host) -> None:
    """Give the image the entrypoint that delays /health; the repository is mounted into it."""
    made = host.client.create_container(LLAMA)
    python = Path(sys.base_prefix).resolve() / "bin" / "python3"
    program = json.dumps([str(python), "-IS", f"{REPOSITORY}/tests/e2e/health_proxy.py"])
    host.client.commit(
        made["Id"],
        repository=REAL_IMAGE.partition(":")[0],
        tag=REAL_IMAGE.partition(":")[2],
        changes=[f"ENTRYPOINT {program}", "CMD []"],
    )
    host.client.remove_container(made["Id"])


def complete(port: int, *, tokens: int) -> dict[str, Any]:
    asked = {"prompt": "Tell a story.", "max_tokens": tokens, "ignore_eos": True}
    url = f"http://127.0.0.1:{port}/v1/completions"
    request = urllib.request.Request(url, data=json.dumps(asked).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def delay_health(seconds: float) -> None:
    url = f"http://127.0.0.1:{REAL}/delay/{seconds}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
        assert answer.status == 204


def reasons(host: Host, subject: str) -> set[str]:
    """Return the reasons of every condition that status shows on that subject."""
    return {c["reason"] for c in host.status()["conditions"] if c["subject"] == subject}


def failed(host: Host, subject: str | None = None) -> int:
    return len(host.events("failed", subject=subject))


def watched(seconds: float, look: Callable[[], str]) -> set[str]:
    """Return all that *look* saw within so many seconds."""
    seen: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.add(look())
        time.sleep(0.2)
    return seen


@pytest.mark.engine
def test_health_that_is_late_while_tokens_move(host: Host) -> None:
    """A real engine whose /health comes too late is degraded, not dead, as long as it works."""
    before, told = host.containers(), failed(host)
    with asking(REAL):
        wait_for(lambda: host.replica("real-0")["in_flight"] == 1, "a request in flight")
        delay_health(0.8)
        try:
            wait_for(lambda: "health_slow" in reasons(host, "real-0"), "health_slow")
            seen = watched(PATIENCE_SECONDS, lambda: host.replica("real-0")["phase"])
        finally:
            delay_health(0.0)
    assert seen == {"degraded"}
    host.wait_phase("real-0")
    assert (host.containers(), failed(host)) == (before, told)


@pytest.mark.soak  # the short one is in test_gpu_faults.py
@pytest.mark.timeout(150)
def test_a_hung_driver_restarts_nothing(host: Host) -> None:
    """NVML hangs for ten scaled minutes: status says so, containers stay, readings come back."""
    before, told = host.containers(), failed(host)
    read_at = host.status()["gpus"][0]["at"]
    began = time.monotonic()
    host.nvml.hang("nvmlDeviceGetUtilizationRates")
    try:
        wait_for(lambda: "gpus_unread" in reasons(host, "host"), "gpus_unread")
        shown = host.run("status")
        left = HUNG_SECONDS - (time.monotonic() - began)
        seen = watched(left, lambda: str("gpus_unread" in reasons(host, "host")))
    finally:
        host.nvml.release()
    assert "gpus_unread" in shown.out
    assert seen == {"True"}
    assert host.status()["gpus"][0]["at"] < read_at + 5
    assert (host.containers(), failed(host)) == (before, told)
    # The child that hung was abandoned, and another is tried a minute later.
    wait_for(lambda: host.status()["gpus"][0]["at"] > read_at + HUNG_SECONDS, "a new reading", 30)
    wait_for(lambda: not reasons(host, "host"), "the condition to go")
    assert (host.containers(), failed(host)) == (before, told)


def test_vram_gone_and_health_failing_is_one_restart_at_once(
    host: Host, record: EngineRecord
) -> None:
    """With a second witness no more readings are waited for."""
    before, starts = host.containers(), record.starts("chat-0")
    order(SIMULATED, health_seconds=5)
    wait_for(lambda: "health_slow" in reasons(host, "chat-0"), "health_slow")
    host.vram_lost.add("chat-0")
    host.wait_replaced("chat-0", before["chat-0"][0])
    failure = host.events("failed", subject="chat-0")[-1]
    told = failure["evidence"]
    assert (failure["reason"], told["corroborated_by"]) == ("vram_lost", "probe timeout")
    # A second for a death to be told as one, and at most one look more.
    assert failure["at"] - told["seen_at"] < 2.0
    assert told["vram_bytes"] < told["baseline_bytes"] // 10
    why = host.run("why", "chat-0").out
    assert "failed: vram_lost; ready again after" in why
    assert "probe timeout" in why
    assert record.starts("chat-0") == starts + 1
    assert others(host, "chat-0") == others(before, "chat-0")


def test_vram_gone_from_a_healthy_engine_is_one_restart_after_three_readings(
    host: Host, record: EngineRecord
) -> None:
    """Without a second witness it takes three readings in a row."""
    before, starts = host.containers(), record.starts("chat-1")
    host.vram_lost.add("chat-1")
    host.wait_replaced("chat-1", before["chat-1"][0])
    failure = host.events("failed", subject="chat-1")[-1]
    told = failure["evidence"]
    assert (failure["reason"], told["readings"]) == ("vram_lost", 3)
    assert "corroborated_by" not in told
    assert record.starts("chat-1") == starts + 1
    assert others(host, "chat-1") == others(before, "chat-1")


def others(found: Host | Containers, name: str) -> Containers:
    containers = found.containers() if isinstance(found, Host) else found
    return {other: told for other, told in containers.items() if other != name}


def test_vram_gone_while_tokens_move_restarts_nothing(host: Host) -> None:
    """An engine that answers with tokens has its model, whatever the driver says."""
    before, told = host.containers(), failed(host)
    with asking(SIMULATED):
        wait_for(lambda: host.replica("chat-0")["in_flight"] == 1, "a request in flight")
        host.vram_lost.add("chat-0")
        wait_for(lambda: "vram_unloaded" in reasons(host, "chat-0"), "the veto")
        seen = watched(5.0, lambda: str("vram_unloaded" in reasons(host, "chat-0")))
        host.vram_lost.clear()
        wait_for(lambda: not reasons(host, "chat-0"), "the condition to go")
    assert seen == {"True"}
    assert (host.containers(), failed(host)) == (before, told)


def test_a_paused_container_is_shown_and_left_alone(host: Host) -> None:
    """`docker pause` is an operator's doing: status says so, and nothing is done about it."""
    before, told = host.containers(), failed(host)
    host.client.pause("gpuctl-chat-1")
    try:
        wait_for(lambda: "paused" in reasons(host, "chat-1"), "paused")
        seen = watched(PATIENCE_SECONDS, lambda: host.replica("chat-1")["phase"])
        assert host.run("status").code == 3
    finally:
        host.client.unpause("gpuctl-chat-1")
    assert seen == {"degraded"}
    host.wait_phase("chat-1")
    assert (host.containers(), failed(host)) == (before, told)


@pytest.mark.parametrize("status", [409, 500])
def test_an_old_container_that_cannot_be_removed(
    host: Host, proxy: SocketProxy, record: EngineRecord, status: int
) -> None:
    """It stays aside, the replica serves after one restart each time that it dies."""
    host.run("restart", "chat-0")  # forgives what the tests before did to it
    proxy.add(Rule(match="DELETE /containers/", do="answer", status=status))
    try:
        for _ in range(2):
            before, starts = host.containers(), record.starts("chat-0")
            host.client.kill("gpuctl-chat-0")
            new = host.wait_replaced("chat-0", before["chat-0"][0])
            assert record.starts("chat-0") == starts + 1
            assert host.events("failed", subject="chat-0")[-1]["reason"] == "killed"
            assert "rig says no" in not_removed(host, new)
            assert "not removed:" in host.run("why", "chat-0").out
            assert others(host, "chat-0") == others(before, "chat-0")
    finally:
        proxy.clear()


def not_removed(host: Host, container: str) -> str:
    """Return what the start of that container says of the old one."""
    done = host.events("done", subject="chat-0")
    (told,) = (e["evidence"] for e in done if e["evidence"].get("container") == container)
    return str(told.get("not_removed", ""))


def test_never_two_of_one_replica_ran_at_once(host: Host, record: EngineRecord) -> None:
    """The engine's own record of all of the above shows no container beside another."""
    assert host.status()["replicas"]
    assert record.starts("chat-0") >= 4
    assert overlap(record.events) == 0.0
