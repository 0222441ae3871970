"""The daemon dies by SIGKILL, anywhere: no container notices, and what was begun is ended once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.host import P106_TENTH, Host, overlap, workload
from tests.rig.dockerd import PrivateEngine, engine_events
from tests.rig.http import order
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[2]
PORT, SPARE_PORT = 18101, 18120
KILLS = 50
#: Every death is the first again: the faults of this module must not add up to a crash loop.
FORGIVING = P106_TENTH.replace('ready_reset = "60s"', 'ready_reset = "10ms"')
CHAT = workload("chat", port=PORT, gpus=[0, 1, 2, 3], memory="256m", memory_swap="256m")
SPARE = workload("spare", port=SPARE_PORT, gpus=[4], memory="256m", memory_swap="256m")

#: A daemon of a later version: one label more, and another default in every container's spec.
UPGRADE = """\
import dataclasses
import gpuctl.orders
import gpuctl.planning.specs

order, container_spec = gpuctl.orders.order, gpuctl.planning.specs.container_spec

def newer_order(*arguments):
    made = order(*arguments)
    return dataclasses.replace(made, labels={**made.labels, "gpuctl.edition": "next"})

def newer_spec(*arguments):
    return dataclasses.replace(container_spec(*arguments), pids_limit=5000)

gpuctl.orders.order = newer_order
gpuctl.planning.specs.container_spec = newer_spec
"""


@pytest.fixture(scope="module")
def running(engine: PrivateEngine) -> Iterator[Host]:
    with Host(engine) as started:
        started.up(started.profile(CHAT, watchdog=FORGIVING))
        yield started


@pytest.fixture
def host(running: Host) -> Iterator[Host]:
    """The host with a daemon and all replicas ready; never two of one replica, in any test."""
    since = time.time()
    for index in range(4):
        running.wait_phase(f"chat-{index}")
    yield running
    assert overlap(engine_events(running.client, since)) == 0.0


def acts(host: Host) -> Counter[str]:
    """Count the events that say something was done or had failed."""
    return Counter(e["kind"] for e in host.events("attempt", "failed", "done", "undone"))


def made(host: Host, replica: str, since: float) -> Counter[str]:
    """Count what the engine itself recorded of a replica's containers."""
    return Counter(
        event["Action"]
        for event in engine_events(host.client, since)
        if event["Actor"]["Attributes"].get("gpuctl.replica") == replica
    )


def test_fifty_kills_touch_no_container(host: Host) -> None:
    """Killed while it starts or soon after its first Status: ids and StartedAt stay, no attempt."""
    moments = random.Random(2)
    before, told = host.containers(), acts(host)
    host.kill_daemon()
    for kill in range(KILLS):
        pid = host.begin_daemon() if kill % 2 else host.start_daemon()
        time.sleep(moments.uniform(0.05, 0.4))
        os.kill(pid, signal.SIGKILL)
        host.wait_gone(pid)
    host.begin_daemon()
    host.wait_phase("chat-3")
    assert host.containers() == before
    assert acts(host) == told
    assert {row["restarts_1h"] for row in host.status()["replicas"]} == {0}


def killed(host: Host) -> None:
    host.client.kill("gpuctl-chat-1")


def refusing(host: Host) -> None:
    order(PORT + 1, refuse=True)


def obstinate(host: Host) -> None:
    order(PORT + 1, ignore_term=True, refuse=True)


@pytest.mark.parametrize(
    ("point", "provoke"),
    [
        ("start.reserved", killed),
        ("start.renamed", killed),
        ("start.created", killed),
        ("start.started", killed),
        ("start.logs_saved", killed),
        ("start.cleared", killed),
        ("stop.terminate", refusing),
        ("stop.terminate.asked", refusing),
        ("stop.kill", obstinate),
        ("stop.kill.asked", obstinate),
    ],
)
def test_a_restart_cut_off_anywhere_is_one_restart(
    host: Host, point: str, provoke: Callable[[Host], None]
) -> None:
    """One new container, every other untouched, counted once, and the engine saw the same."""
    before, since = host.containers(), time.time()
    count, known = host.replica("chat-1")["restarts_1h"], len(host.events())
    host.kill_daemon()
    host.wait_gone(host.begin_daemon(GPUCTL_FAULT=point), lambda: provoke(host))
    host.begin_daemon()
    new = host.wait_replaced("chat-1", before["chat-1"][0])
    host.wait_calm("chat-1")
    after = host.containers()
    assert after.pop("chat-1")[0] == new
    assert after == {name: kept for name, kept in before.items() if name != "chat-1"}
    assert host.replica("chat-1")["restarts_1h"] == count + 1
    added = host.events()[known:]
    attempts = {
        event["evidence"]["attempt"]
        for event in added
        if event["kind"] == "attempt" and event["evidence"]["action"] == "start"
    }
    seen = made(host, "chat-1", since)
    assert len([event for event in added if event["kind"] == "failed"]) == 1
    assert (len(attempts), seen["create"], seen["start"]) == (1, 1, 1)
    assert (seen["die"], seen["destroy"]) == (1, 1)


@pytest.mark.parametrize("point", ["stop.remove", "stop.remove.logs_saved", "stop.remove.asked"])
def test_a_removal_cut_off_anywhere_is_one_removal(host: Host, point: str) -> None:
    """What left the profile is gone, removed once with its log kept; every other is untouched."""
    host.up(host.profile(CHAT + SPARE, watchdog=FORGIVING))
    before, since = host.containers(), time.time()
    known = len(host.events())
    host.kill_daemon()
    pid = host.begin_daemon(GPUCTL_FAULT=point)
    path = host.profile(CHAT, watchdog=FORGIVING)
    host.wait_gone(pid, lambda: host.run("up", str(path), "--detach"))
    host.begin_daemon()
    spare = before.pop("spare-0")[0]
    wait_for(lambda: made(host, "spare-0", since)["destroy"], "spare-0 to be removed")
    wait_for(lambda: host.events("done", subject="spare-0")[-1]["id"] > known, "it to be told")
    assert host.containers() == before
    assert host.client.containers(all=True, filters={"id": spare}) == []
    seen = made(host, "spare-0", since)
    assert (seen["destroy"], seen["create"], seen["start"]) == (1, 0, 0)


def test_a_stop_cut_off_holds(host: Host) -> None:
    """A `stop` that was accepted is carried out by the next daemon, and nothing is started."""
    before, since = host.containers(), time.time()
    host.kill_daemon()
    pid = host.begin_daemon(GPUCTL_FAULT="stop.terminate")
    host.wait_gone(pid, lambda: host.run("stop", "chat-2", "--timeout", "1"))
    assert host.containers() == before
    host.begin_daemon()
    host.wait_phase("chat-2", "stopped")
    del before["chat-2"]
    assert host.containers() == before
    assert made(host, "chat-2", since)["create"] == 0
    assert host.run("start", "chat-2").code == 0


def test_an_upgrade_replaces_nothing_until_up(host: Host, tmp_path: Path) -> None:
    """Labels and defaults that grew leave containers alone; `status` says outdated; `up` renews."""
    (tmp_path / "sitecustomize.py").write_text(UPGRADE)
    before, told = host.containers(), acts(host)
    host.end_daemon()
    host.extra["PYTHONPATH"] = f"{tmp_path}:{REPOSITORY}"
    try:
        host.begin_daemon()
        wait_for(lambda: host.status()["seq"] > 4, "some ticks of the new daemon")
        assert (host.containers(), acts(host)) == (before, told)
        assert {row["outdated"] for row in host.status()["replicas"]} == {True}
        host.up(host.folder / "profile.toml")
        after = host.containers()
        assert not {id_ for id_, _ in before.values()} & {id_ for id_, _ in after.values()}
        assert {row["outdated"] for row in host.status()["replicas"]} == {False}
        labels = host.client.inspect_container("gpuctl-chat-0")["Config"]["Labels"]
        assert labels["gpuctl.edition"] == "next"
    finally:
        del host.extra["PYTHONPATH"]
        host.end_daemon()
        host.begin_daemon()
