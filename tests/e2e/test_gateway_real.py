"""
Daemon and gateway, two processes of two users, over four real llama.cpp: cancel, drain, restarts.

One `up` serves every test of this module, in their order; what a test changes it leaves as found.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.chaos import Chaos, resting, wait_whole
from tests.e2e.served import WORD, Served, chat, four_replicas, processing
from tests.gateway.inside import Answered
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

pytestmark = [
    *(pytest.mark.docker, pytest.mark.engine, pytest.mark.nvml),
    *(pytest.mark.alone, pytest.mark.timeout(240)),
]


@pytest.fixture(scope="module")
def host(engine: PrivateEngine) -> Iterator[Served]:
    with four_replicas(engine) as started:
        yield started


def test_two_users(host: Served) -> None:
    """The gateway is not the daemon's user, and what it serves is what Status says."""
    gateway, daemon = psutil.Process(host.gateway()["pid"]), psutil.Process(host.daemon_pid())
    assert (daemon.uids().effective, gateway.uids().effective != 0) == (0, True)
    answer = host.ask(chat(1, tokens=4))
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(
    ("stream", "seconds"),
    [pytest.param(True, 1.0, id="streamed"), pytest.param(False, 2.5, id="whole")],
)
def test_cancel(host: Served, stream: bool, seconds: float) -> None:
    """A client that leaves frees the engine's slot: 1 s after a stream, 2.5 s after another."""
    client = host.begin(chat(1, tokens=1500, stream=stream))
    port = host.at()
    if stream:
        client.recv(100)
    used = host.upstream(port)
    assert used
    client.close()
    left = time.monotonic()
    # Another one may come: the gateway asks there how many tokens the prompt had.
    wait_for(lambda: not used & host.upstream(port), "the upstream connection to end", 1.0)
    time.sleep(max(0.0, left + seconds - time.monotonic()))
    assert not processing(port)


def test_cancel_in_prefill(host: Served) -> None:
    """During a long prompt the connection ends at once, and the slot with the batch."""
    client = host.begin(chat(3000, tokens=8))
    port = host.at()
    used = host.upstream(port)
    assert used
    client.close()
    wait_for(lambda: not used & host.upstream(port), "the upstream connection to end", 1.0)
    until = time.monotonic() + 20
    while processing(port):
        assert time.monotonic() < until, "the slot is not free one batch later"
        time.sleep(2.0)


class Load:
    """Clients that ask one after the other until told to stop."""

    def __init__(self, host: Served, clients: int = 4) -> None:
        self.answers: list[Answered | Exception] = []
        self._host = host
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._host.ask(chat(1, tokens=4)))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells of it
                self.answers.append(error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.answers) >= 4, "the load to begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def failed(self) -> list[object]:
        return [
            answer if isinstance(answer, Exception) else (answer.status, answer.body)
            for answer in self.answers
            if isinstance(answer, Exception) or answer.status != 200
        ]


def wait_renewed(host: Served, name: str, before: str) -> None:
    """Wait until a replica serves in another container; under load it is rarely idle."""

    def look() -> bool:
        row = host.replica(name)
        return row["container"] not in (None, before) and row["phase"] in ("ready", "busy")

    wait_for(look, f"{name} to be renewed\n{host.tail()}", 40.0)


def test_drain(host: Served) -> None:
    """A replica that is renewed under load costs no request, and waits for no deadline."""
    before = host.replica("chat-0")["container"]
    with Load(host) as load:
        ran = host.run("restart", "chat-0")
        assert ran.code == 0, ran.err
        wait_renewed(host, "chat-0", before)
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 4, "answers afterwards")
    assert load.failed() == []
    began = {
        event["evidence"]["action"]: event["at"]
        for event in host.events("attempt", subject="chat-0")
    }
    # The gateway said that it was empty: nobody waited for the deadline of 30 s.
    assert 0 < began["terminate"] - began["drain"] < 15


def test_daemon_killed(host: Served) -> None:
    """The daemon killed and started again under load: no request notices."""
    pid = host.gateway()["pid"]
    with Load(host) as load:
        host.kill_daemon()
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 8, "answers without a daemon")
        host.begin_daemon()
        seen = host.status()["instance"]
        wait_for(lambda: host.gateway()["instance"] == seen, "the gateway to see the new one")
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 8, "answers with the next one")
    assert load.failed() == []
    assert host.gateway()["pid"] == pid


def test_replica_killed(host: Served) -> None:
    """A replica killed under load: everybody is answered by the others."""
    before = host.replica("chat-1")["container"]
    with Load(host) as load:
        os.kill(host.pid_of("chat-1"), signal.SIGKILL)
        wait_renewed(host, "chat-1", before)
        count = len(load.answers)
        wait_for(lambda: len(load.answers) > count + 8, "answers afterwards")
    assert load.failed() == []


def test_gateway_killed(host: Served) -> None:
    """The gateway killed is back by itself, and no container was touched."""
    containers, pid = host.containers(), host.gateway()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: host.gateway()["pid"] != pid, "another gateway", 20.0)
    assert host.ask(chat(1, tokens=4)).status == 200
    assert host.containers() == containers


def test_log(host: Served) -> None:
    """Each request has one line with its timeline, and no words of anybody's."""
    requests = [line for line in host.gateway_log() if line["event"] == "request"]
    served = [line for line in requests if line["end"] == "answered"]
    assert len(served) > 20
    assert {"sent", "first_byte"} <= {what.split()[0] for what, _ in served[-1]["timeline"]}
    assert WORD.strip() * 2 not in Path(host.folder / "state" / "gateway.log").read_text()


@pytest.mark.soak  # the whole of it, five minutes long, is in test_gateway_chaos.py
def test_chaos(host: Served) -> None:
    """Two replicas killed under eight clients: no whole answer fails, and nothing is left over."""
    before = resting(host)
    with Chaos(host, seed=4) as chaos:
        for _ in range(2):
            time.sleep(3.0)
            chaos.kill()
            time.sleep(9.0)
        wait_whole(host)
    chaos.check()
    assert len(chaos.clients.outcomes) >= 20
    assert resting(host) == before
