"""
A host with a gateway in front: daemon and gateway as two users, over real llama.cpp in Docker.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.host import LLAMA, Host, workload
from tests.gateway.inside import Answered, answered, request
from tests.rig import http
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import free_port
from tests.rig.reachable import reachable
from tests.rig.waiting import wait_for

CHAT = 18381
#: llama.cpp looks every second whether its client is there, and begins that second anew whenever it
#: answers anybody: asked for its metrics twice a second, it would look at the prompt's end.
WATCHDOG = 'interval = "5s"\nload_spacing = "500ms"\nstop_grace = "3s"\n'
#: A word of one token.
WORD = " the"


class Served(Host):
    """A host with a gateway in front."""

    listen = 0
    _begun_at = 0.0

    def ask(self, body: dict[str, Any], *, seconds: float = 60.0) -> Answered:
        with socket.create_connection(("127.0.0.1", self.listen), timeout=seconds) as client:
            client.sendall(request(body))
            return answered(client)

    def begin(self, body: dict[str, Any]) -> socket.socket:
        """Send a request, and leave its answer to come."""
        self._begun_at = time.time()
        client = socket.create_connection(("127.0.0.1", self.listen), timeout=60)
        client.sendall(request(body))
        return client

    def gateway(self) -> dict[str, Any]:
        path = self.folder / "run-gateway" / "gateway.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def gateway_log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "state" / "gateway.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def at(self) -> int:
        """Return the port of the one replica that works on the request begun last."""
        path = self.folder / "run-gateway" / "gateway.json"

        def look() -> str | None:
            if path.stat().st_mtime < self._begun_at:
                return None  # it tells of the request before
            busy = [n for n, told in self.gateway()["replicas"].items() if told["in_flight"]]
            return busy[0] if busy else None

        name = wait_for(look, "a request in flight")
        return CHAT + int(name.rpartition("-")[2])

    def upstream(self, port: int) -> set[int]:
        """Return the gateway's own ports of its connections to a replica."""
        found = psutil.Process(self.gateway()["pid"]).net_connections("tcp")
        return {c.laddr.port for c in found if c.raddr and c.raddr.port == port}


@contextmanager
def served(
    engine: PrivateEngine, profile: Callable[[Served], Path], *, seconds: float = 120.0
) -> Iterator[Served]:
    """Bring up a profile with a gateway, within so many seconds; it listens where it is told."""
    with reachable(), Served(engine) as started:
        started.listen = free_port()
        os.chmod(started.folder, 0o755)
        started.up(profile(started), seconds=seconds)
        wait_for(lambda: (started.folder / "run-gateway" / "gateway.json").exists(), "a gateway")
        yield started
        started.run("down", seconds=200)


@contextmanager
def four_replicas(engine: PrivateEngine) -> Iterator[Served]:
    """Bring up four chat replicas of one thread and one slot each."""
    tables = workload(
        "chat", port=CHAT, image=LLAMA, gpus=[0, 1, 2, 3], context=4096,
        options={"threads": 1, "batch": 256, "ubatch": 256},
    )  # fmt: skip

    def profile(host: Served) -> Path:
        gateway = f'[gateway]\nlisten = "127.0.0.1:{host.listen}"\n'
        return host.profile(f"{tables}\n{gateway}", watchdog=WATCHDOG)

    with served(engine, profile) as started:
        yield started


def chat(words: int, *, tokens: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{time.time()}" + WORD * words}]
    return {
        "model": "chat", "messages": messages, "max_tokens": tokens, "temperature": 0,
        "ignore_eos": True, "cache_prompt": False, **more,
    }  # fmt: skip


def processing(port: int) -> bool:
    """Return whether the engine works on anything; asked rarely, as asking delays a cancel."""
    answer = http.get(port, "/slots")
    assert answer is not None
    return any(slot["is_processing"] for slot in json.loads(answer[1]))
