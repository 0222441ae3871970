"""The daemon dies by SIGKILL, anywhere: no container notices, and what was begun is ended once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import P106_TENTH, Host, workload
from tests.rig.dockerd import PrivateEngine, engine_events
from tests.rig.http import order
from tests.rig.waiting import wait_for

# Its kills come at moments that are measured by how fast a daemon begins.
pytestmark = [pytest.mark.docker, pytest.mark.alone]

REPOSITORY = Path(__file__).resolve().parents[2]
PORT, SPARE_PORT, SLOW_PORT = 18101, 18120, 18130
#: Fifty kills: some of a daemon with nothing to do, the others in rounds of work that lasts.
KILLS_AT_REST, ROUNDS, KILLS_A_ROUND = 30, 4, 5
#: Its imports take a third of a second, its first Status comes after another.
AT_REST_SECONDS = (0.15, 0.7)
#: Lowest, highest, likeliest: a round's work takes 5 s, and several daemons are to see some of it.
AT_WORK_SECONDS = (0.0, 3.0, 0.4)
#: So many kills must have come before the work of their round was done.
CUT_OFF = ROUNDS * KILLS_A_ROUND // 2
#: Every death is the first again: the faults of this module must not add up to a crash loop.
FORGIVING = P106_TENTH.replace('ready_reset = "60s"', 'ready_reset = "10ms"')
#: A busy Docker tells of a death later than two probes are refused half a second apart.
FORGIVING = FORGIVING.replace('hard = "500ms"', 'hard = "2s"')
CHAT = workload("chat", port=PORT, gpus=[0, 1, 2, 3], memory="256m", memory_swap="256m")
SPARE = workload("spare", port=SPARE_PORT, gpus=[4], memory="256m", memory_swap="256m")
#: Each stop takes its whole grace, each start has a load.
SLOW = workload(
    "slow",
    port=SLOW_PORT,
    gpus=[4, 5, 6],
    memory="256m",
    memory_swap="256m",
    stop_grace="3s",
    args=["--orders", json.dumps({"ignore_term": True, "load_seconds": 1.5})],
)

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
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def running(engine: PrivateEngine, record: EngineRecord) -> Iterator[Host]:
    with Host(engine) as started:
        started.up(started.profile(CHAT, watchdog=FORGIVING))
        yield started


@pytest.fixture
def host(running: Host, record: EngineRecord) -> Iterator[Host]:
    """The host with a daemon and all replicas ready; never two of one replica, in any test."""
    for index in range(4):
        running.wait_phase(f"chat-{index}")
    yield running
    assert overlap(record.events) == 0.0


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


def starts_begun(events: list[dict[str, Any]], replica: str) -> int:
    """Count the starts of a replica that were begun; one that was taken up again is the same."""
    attempts = (e["evidence"] for e in events if (e["kind"], e["subject"]) == ("attempt", replica))
    return len({told["attempt"] for told in attempts if told["action"] == "start"})


def kill_after(host: Host, seconds: float) -> None:
    """Start a daemon, and end it with SIGKILL so long after."""
    pid = host.start_daemon()
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    host.wait_gone(pid)


def test_kills_of_a_daemon_at_rest_touch_no_container(host: Host) -> None:
    """Killed while it starts or soon after its first Status: ids and StartedAt stay, no attempt."""
    moments = random.Random(2)
    before, told = host.containers(), acts(host)
    host.kill_daemon()
    for _ in range(KILLS_AT_REST):
        kill_after(host, moments.uniform(*AT_REST_SECONDS))
    host.begin_daemon()
    host.wait_phase("chat-3")
    assert host.containers() == before
    assert acts(host) == told
    assert {row["restarts_1h"] for row in host.status()["replicas"]} == {0}


@pytest.fixture
def at_work(host: Host) -> Iterator[Host]:
    """Three replicas more, whose stops and starts last; gone again after the test."""
    host.up(host.profile(CHAT + SLOW, watchdog=FORGIVING))
    yield host
    for index in range(3):
        order(SLOW_PORT + index, ignore_term=False)
    host.up(host.profile(CHAT, watchdog=FORGIVING))
    wait_for(lambda: not any(name.startswith("slow") for name in host.containers()), "them to go")


def test_kills_of_a_daemon_at_work_end_what_was_begun_once(
    at_work: Host, record: EngineRecord
) -> None:
    """A restart, a death, and a stop or a start go on at the kills: one new container for each."""
    moments = random.Random(2)
    rest = {name: kept for name, kept in at_work.containers().items() if name.startswith("chat")}
    verbs = ("start" if number % 2 else "stop" for number in range(ROUNDS))
    assert sum(one_round(at_work, record, moments, verb) for verb in verbs) >= CUT_OFF
    after = at_work.containers()
    assert {name: after[name] for name in rest} == rest
    assert {at_work.replica(name)["restarts_1h"] for name in rest} == {0}


def one_round(host: Host, record: EngineRecord, moments: random.Random, verb: str) -> int:
    """
    Have three things done at once, kill daemon after daemon, and look what came of them.

    Returns how many kills came before all of it was done.
    """
    before, since, known = host.containers(), time.time(), len(host.events())
    assert host.run("restart", "slow-0", "--no-wait").code == 0
    assert host.run(verb, "slow-2", "--no-wait").code == 0
    host.client.kill("gpuctl-slow-1")
    time.sleep(moments.uniform(0.0, 1.0))
    host.kill_daemon()
    cut_off = [not finished(host, known, verb)]
    for _ in range(KILLS_A_ROUND - 1):
        kill_after(host, moments.triangular(*AT_WORK_SECONDS))
        cut_off.append(not finished(host, known, verb))
    host.begin_daemon()
    expected = converged(host, before, verb)
    wait_for(lambda: lives(record, since) == expected, f"the engine to tell of {expected}")
    added = host.events()[known:]
    begun = {name: starts_begun(added, name) for name in expected}
    assert begun == {"slow-0": 1, "slow-1": 1, "slow-2": int(verb == "start")}
    failed = [(event["subject"], event["reason"]) for event in added if event["kind"] == "failed"]
    assert failed == [("slow-1", "killed")]
    return sum(cut_off)


def finished(host: Host, known: int, verb: str) -> bool:
    """Return whether all that was started since is ready; a stop takes no longer than that."""
    ready = {event["subject"] for event in host.events()[known:] if event["kind"] == "ready"}
    return ready >= {"slow-0", "slow-1", *(("slow-2",) if verb == "start" else ())}


Lives = dict[str, list[tuple[str, str]]]


def lives(record: EngineRecord, since: float) -> Lives:
    """Return replica → (`start` or `die`, container) of all that lived or died, oldest first."""
    found: Lives = {}
    for replica, action, container in record.lives(since):
        found.setdefault(replica, []).append((action, container))
    return found


def converged(host: Host, before: dict[str, tuple[str, str]], verb: str) -> Lives:
    """Wait until all that was asked for is done; return what the engine must have seen of it."""
    old = {name: container for name, (container, _) in before.items()}
    new = {name: host.wait_replaced(name, old[name]) for name in ("slow-0", "slow-1")}
    found = {name: [("die", old[name]), ("start", new[name])] for name in new}
    if verb == "stop":
        host.wait_phase("slow-2", "stopped")
        found["slow-2"] = [("die", old["slow-2"])]
    else:
        host.wait_phase("slow-2")
        found["slow-2"] = [("start", host.containers()["slow-2"][0])]
    for name in found:
        host.wait_calm(name)
    return found


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
        ("start.created", killed),
        ("start.aside", killed),
        ("start.vacated", killed),
        ("start.named", killed),
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
    seen = made(host, "chat-1", since)
    assert len([event for event in added if event["kind"] == "failed"]) == 1
    assert (starts_begun(added, "chat-1"), seen["create"], seen["start"]) == (1, 1, 1)
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
