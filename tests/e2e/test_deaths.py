"""Every way a container can die: one restart, the right reason, the evidence in `why`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.host import Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.docker

PORT = 18081


@pytest.fixture(scope="module")
def host(engine: PrivateEngine) -> Iterator[Host]:
    with Host(engine) as started:
        started.up(
            started.profile(
                workload("chat", port=PORT, gpus=[0, 1], memory="256m", memory_swap="256m")
            )
        )
        yield started


def killed(host: Host) -> None:
    host.client.kill("gpuctl-chat-0")


def removed(host: Host) -> None:
    host.client.remove_container("gpuctl-chat-0", force=True)


def stopped(host: Host) -> None:
    os.kill(host.pid_of("chat-0"), signal.SIGSTOP)


@pytest.mark.parametrize(
    ("fault", "reason", "seconds"),
    [
        pytest.param(killed, "killed", 10, id="docker-kill"),
        pytest.param(lambda _: order(PORT, exit=0), "exit_0", 10, id="exit-0"),
        pytest.param(lambda _: order(PORT, exit=1), "exit_1", 10, id="exit-1"),
        pytest.param(removed, "removed", 10, id="docker-rm-f"),
        pytest.param(lambda _: order(PORT, refuse=True), "health_refused", 15, id="refused"),
        pytest.param(lambda _: order(PORT, health_status=500), "health_dead", 15, id="dead"),
        pytest.param(stopped, "health_timeout", 40, id="sigstop"),
    ],
)
def test_a_death_is_one_restart(
    host: Host, fault: Callable[[Host], None], reason: str, seconds: float
) -> None:
    """It serves again after exactly one restart; the others are untouched; `why` has it all."""
    host.run("restart", "chat-0")  # forgives what the tests before did to it
    host.wait_phase("chat-0")
    before = host.containers()
    told = len(host.events("failed", subject="chat-0"))
    fault(host)
    new = host.wait_replaced("chat-0", before["chat-0"][0], seconds=seconds)
    failures = host.events("failed", subject="chat-0")[told:]
    assert [event["reason"] for event in failures] == [reason]
    after = host.containers()
    assert after["chat-1"] == before["chat-1"]
    assert after["chat-0"][0] == new
    why = host.run("why", "chat-0").out
    assert reason in why
    assert "ready again" in why


def test_out_of_memory_is_one_restart(host: Host) -> None:
    """
    A cgroup OOM is told from a kill, where the engine noticed.

    Docker 20.10 on cgroup v1 misses some: the group is gone before its notice is read. What the
    engine says of the container decides then whether ours was wrong; never three in a row.
    """
    for _ in range(3):
        host.run("restart", "chat-0")
        host.wait_phase("chat-0")
        old = host.containers()["chat-0"][0]
        told = len(host.events("failed", subject="chat-0"))
        order(PORT, allocate=600 << 20)
        host.wait_replaced("chat-0", old, seconds=20)
        (failure,) = host.events("failed", subject="chat-0")[told:]
        left = host.events("evidence", subject="chat-0")[-1]["evidence"]
        assert left["container"] == old
        if left["oom_killed"] or failure["reason"] == "oom_killed":
            assert failure["reason"] == "oom_killed"
            return
        assert failure["reason"] == "killed"
    pytest.fail("the engine noticed none of three OOM kills")


def test_removed_by_another_client_is_told_with_its_exit(host: Host) -> None:
    """The evidence of a `docker rm -f` is the exit code and who it was."""
    host.run("restart", "chat-0")
    host.wait_phase("chat-0")
    old = host.containers()["chat-0"][0]
    removed(host)
    host.wait_replaced("chat-0", old)
    evidence = host.events("failed", subject="chat-0")[-1]["evidence"]
    assert (evidence["removed_by"], evidence["exit_code"]) == ("another client", 137)


def test_vram_that_is_gone_is_one_restart(host: Host) -> None:
    """In strict mode two readings of VRAM gone are enough, with the numbers as evidence."""
    host.wait_phase("chat-0")
    old = host.containers()["chat-0"][0]
    told = len(host.events("failed", subject="chat-0"))
    wait_baseline(host, old)
    host.vram_lost.add("chat-0")
    try:
        host.wait_replaced("chat-0", old)
    finally:
        host.vram_lost.discard("chat-0")
    failures = host.events("failed", subject="chat-0")[told:]
    assert [event["reason"] for event in failures] == ["vram_lost"]


def wait_baseline(host: Host, container: str) -> None:
    """Wait until the VRAM that a container has settled at is known."""
    wait_for(
        lambda: any(
            event["evidence"]["container"] == container
            for event in host.events("baseline", subject="chat-0")
        ),
        "a baseline",
    )
