"""Replicas that are killed at random under load, and what must be as before when it is over."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from typing import Any

import psutil

from tests.e2e.loadtest_record import quantiles
from tests.e2e.openai_load import Clients
from tests.e2e.served import CHAT, Served, chat, processing
from tests.rig import http
from tests.rig.waiting import wait_for

CLIENTS = 8
TOKENS = 24
#: Longer than a gateway keeps a connection that nobody uses.
QUIET_SECONDS = 5.0


class Chaos:
    """Half of the clients' requests are streamed; every kill is by another way than the last."""

    def __init__(self, host: Served, *, seed: int) -> None:
        self.host = host
        self.random = random.Random(seed)
        self.killed: list[str] = []
        self.clients = Clients(f"http://127.0.0.1:{host.listen}/v1", [self._asks] * CLIENTS)
        self.ready: list[int] = []  # replicas that were, twice a second
        self._turn = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Chaos:
        self._thread.start()
        self.clients.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.clients.__exit__()
        self._over.set()
        self._thread.join()

    def kill(self) -> None:
        """Kill a random one of those that are ready."""
        name = self.random.choice(self._ready())
        if len(self.killed) % 2:
            self.host.client.kill(f"gpuctl-{name}")
        else:
            os.kill(self.host.pid_of(name), signal.SIGKILL)
        self.killed.append(name)

    def check(self) -> list[str]:
        """Hold what came of it against what must hold; return lines of figures."""
        whole, streams = self.clients.of(streamed=False), self.clients.of(streamed=True)
        assert [outcome for outcome in whole if outcome.error or not outcome.pieces] == []
        broken = [outcome for outcome in streams if outcome.error]
        # What had begun may end with an error event, one for the one slot of each that was killed.
        assert {outcome.error.partition(":")[0] for outcome in broken} <= {"APIError"}, broken
        assert [outcome for outcome in broken if not outcome.pieces] == []
        assert len(broken) <= len(self.killed), broken
        share = sum(count >= 2 for count in self.ready) / len(self.ready)
        assert share >= 0.95, self.ready
        return [
            f"{len(self.killed)} kills in {len(self.ready) / 120:.1f} minutes: "
            f"{', '.join(self.killed)}",
            f"{len(whole)} whole answers, none failed",
            f"{len(streams)} streams, {len(broken)} ended with an error after they had begun",
            f"at least 2 replicas ready for {share:.1%} of the time",
            quantiles("whole answers", (outcome.seconds for outcome in whole)),
        ]

    def _asks(self) -> dict[str, Any]:
        self._turn += 1
        body = chat(1, tokens=TOKENS)
        extra = {"ignore_eos": body.pop("ignore_eos"), "cache_prompt": body.pop("cache_prompt")}
        return {**body, "extra_body": extra, "stream": self._turn % 2 == 0}

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.ready.append(len(self._ready()))

    def _ready(self) -> list[str]:
        (route,) = self.host.status()["routes"]
        return [row["name"] for row in route["replicas"] if row["state"] == "ready"]


def wait_whole(host: Served) -> None:
    """Wait until all replicas are ready again."""

    def look() -> bool:
        return all(row["phase"] in ("ready", "busy") for row in host.status()["replicas"])

    wait_for(look, f"all to be ready\n{host.tail()}", 120.0)


def resting(host: Served) -> dict[str, Any]:
    """Return what a gateway holds that has nothing to do, and whether any engine has."""
    time.sleep(QUIET_SECONDS)
    connections = psutil.Process(host.gateway()["pid"]).net_connections("tcp")
    answer = http.get(host.listen, "/debug/runtime")
    assert answer is not None
    runtime = json.loads(answer[1])
    gateway = host.gateway()
    ports = [CHAT + index for index in range(len(gateway["replicas"]))]
    return {
        "tasks": runtime["tasks"],
        "open_fds": runtime["open_fds"],
        "connections": [connection.raddr for connection in connections if connection.raddr],
        "in_flight": sum(told["in_flight"] for told in gateway["replicas"].values()),
        "queued": gateway["queued"],
        "processing": [port for port in ports if processing(port)],
    }
