"""
Whatever clients, engines and the clock do to a gateway, in whatever order: nothing stays behind.

Each run is one seed: 150 things done at random to a real data path and three stub engines.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from gpuctl.model import GatewaySettings, LimitSettings, QueueSettings, TimeoutSettings
from tests.gateway.inside import ASKED, STREAM, Inside, request, upstream
from tests.rig.gateway_process import Upstream
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

STEPS = 150
#: Half of them answer, so that there is something to be in the middle of.
ORDERS: tuple[dict[str, Any], ...] = (
    *({}, {}, {"tokens": 30, "interval_seconds": 0.002}, {"bytes": 30_000, "tokens": 20}),
    *({"delay_seconds": 0.01}, {"bytes": 300_000, "tokens": 3}),
    *({"fault": "hang_head"}, {"fault": "hang_stream", "after": 1}, {"fault": "close_body"}),
    *({"fault": "close_empty"}, {"fault": "close_stream", "after": 1}, {"fault": "nonsense"}),
    *({"fault": "500"}, {"fault": "503"}, {"fault": "context"}, {"fault": "error_stream"}),
)
RAW = (
    *(
        b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ),
    *(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 90\r\n\r\n{", b"GET"),
    b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
)
SETTINGS = GatewaySettings(
    queue=QueueSettings(size=4, timeout_seconds=20.0),
    timeouts=TimeoutSettings(attempt_seconds=40.0),
    limits=LimitSettings(connections=30, connections_per_ip=25),
    max_in_flight=5,
)


class Run:
    """One seed."""

    def __init__(self, seed: int, stack: ExitStack) -> None:
        self.random = random.Random(seed)
        self.engines = [stack.enter_context(StubEngine()) for _ in range(3)]
        self.containers = [0, 0, 0]
        self.clients: list[socket.socket] = []
        self.inside = stack.enter_context(Inside(self.upstreams(), SETTINGS))

    def upstreams(self, **told: Any) -> list[Upstream]:
        return [
            upstream(engine, index, container=f"c{number}", slots=index + 1, **told)
            for index, (engine, number) in enumerate(
                zip(self.engines, self.containers, strict=True)
            )
        ]

    def step(self) -> None:
        doing: list[Callable[[], None]] = [
            *[self.ask] * 6,
            *[self.ask_ahead] * 2,
            *[self.read] * 5,
            *[self.leave] * 3,
            *[self.wait] * 2,
            *[self.turn] * 6,
            *(self.send_raw, self.kill, self.publish),
        ]
        self.random.choice(doing)()

    # What a client does.

    def body(self) -> bytes:
        body = self.random.choice((ASKED, STREAM))
        key = {"idempotency_key": self.random.choice("ab")} if self.random.random() < 0.2 else {}
        return request({**body, "stub": self.random.choice(ORDERS)}, **key)

    def client(self) -> socket.socket:
        """Return one of those there are, or another."""
        if self.clients and self.random.random() < 0.4:
            return self.random.choice(self.clients)
        client = self.inside.connect()
        client.setblocking(False)
        self.clients.append(client)
        return client

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self.client().send(data)

    def ask(self) -> None:
        self.send(self.body())

    def ask_ahead(self) -> None:
        self.send(b"".join(self.body() for _ in range(self.random.randint(2, 20))))

    def send_raw(self) -> None:
        self.send(self.random.choice(RAW))

    def read(self) -> None:
        for client in self.random.sample(self.clients, min(3, len(self.clients))):
            with suppress(OSError):
                client.recv(self.random.choice((10, 1_000_000)))

    def leave(self) -> None:
        if not self.clients:
            return
        client = self.clients.pop(self.random.randrange(len(self.clients)))
        how = self.random.random()
        with suppress(OSError):
            if how < 0.3:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how < 0.5:
                client.shutdown(socket.SHUT_WR)
        client.close()

    # What others do.

    def turn(self) -> None:
        """Let the gateway and the engines go on for a moment."""
        for _ in range(self.random.randint(1, 20)):
            self.inside.call(lambda: None)

    def wait(self) -> None:
        self.inside.pass_time(self.random.choice((0.2, 1.0, 5.0, 12.0, 31.0, 61.0)))

    def kill(self) -> None:
        """End an engine, and mostly let another container be there at once."""
        index = self.random.randrange(3)
        self.engines[index].refuse()
        if self.random.random() < 0.8:
            self.engines[index].listen()
            self.containers[index] += 1

    def publish(self) -> None:
        told = self.upstreams()
        if self.random.random() < 0.5:
            index = self.random.randrange(3)
            kind = self.random.choice(("draining", "loading", "stopped"))
            told = [
                *told[:index],
                *self.upstreams(phase=kind, coming=kind != "stopped")[index:][:1],
                *told[index + 1 :],
            ]
        if self.random.random() < 0.2:
            told.pop()
        self.inside.publish(told)

    # The end.

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for engine in self.engines:
            engine.refuse()
            engine.listen()
        self.containers = [number + 1 for number in self.containers]
        self.inside.publish(self.upstreams())

    def left(self) -> dict[str, Any]:
        """Return what is there that should not be."""
        gateway = self.inside.gateway
        replicas = gateway.table.replicas.values()
        found = {
            "running": len(gateway.running),
            "clients": len(gateway.clients),
            "addresses": dict(gateway._addresses),
            "held": gateway._held_bytes,
            "in flight": gateway.admission.in_flight,
            "seats": dict(gateway.admission._seats),
            "trials": [replica.name for replica in gateway.admission._trials],
            "waiting": gateway.admission.waiting(),
            "of replicas": [replica.in_flight for replica in replicas if replica.in_flight],
            "open": [len(replica.open) for replica in replicas if replica.open],
            "shut": [
                replica.name
                for replica in replicas
                if not replica.gate.allows(gateway.now() + SETTINGS.gate.cooldown_seconds)
            ],
            "answers": sum(entry.state == "running" for entry in gateway.memory._entries.values()),
            "tasks": len(asyncio.all_tasks()) - 1,
        }
        return {name: value for name, value in found.items() if value}


# Of the engines, which run on asyncio's own loop: uvloop's transports, the gateway's, tell nothing.
@pytest.mark.parametrize("seed", range(12))
def test_nothing_stays(seed: int) -> None:
    """Every request ends once, and takes with it all that was its own."""
    with ExitStack() as stack:
        run = Run(seed, stack)
        for _ in range(STEPS):
            run.step()
        run.end()
        with suppress(AssertionError):
            wait_for(lambda: not run.inside.call(run.left), "the end of all", 5.0)
        assert run.inside.call(run.left) == {}
        assert run.inside.log.of("internal_error") == []
        wait_for(lambda: not any(engine.running for engine in run.engines), "the engines", 5.0)
        assert {record.end for record in run.inside.log.records} >= {"answered", "client_gone"}
        assert all(record.end for record in run.inside.log.records)
        assert run.inside.post(ASKED).status == 200
