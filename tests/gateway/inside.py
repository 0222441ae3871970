"""
A gateway in a thread of the test's process: its data path on a port of loopback, its state at hand.

Its clock is the machine's and `later` seconds more, so that a test waits for no deadline.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar, cast

import uvloop

from gpuctl.gateway import table
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.gateway import Gateway
from gpuctl.gateway.record import Record
from gpuctl.model import GatewaySettings
from tests.rig.gateway_process import Upstream, routes
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

T = TypeVar("T")

ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
STREAM: dict[str, Any] = {**ASKED, "stream": True}


class Heard:
    """Stands for the log: what was told, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.dropped = 0

    def finished(self, record: Record) -> None:
        self.records.append(record)

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def of(self, name: str) -> list[dict[str, object]]:
        """Return the fields of every event of that name."""
        return [fields for told, fields in self.events if told == name]


class Inside:
    """A context manager; *upstreams* as a Status tells of them."""

    def __init__(
        self, upstreams: Iterable[Upstream], settings: GatewaySettings | None = None
    ) -> None:
        self.upstreams = tuple(upstreams)
        self.settings = settings or GatewaySettings()
        self.log = Heard()
        self.later = 0.0
        self.port = 0
        self.gateway: Gateway
        self._seq = 0
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server

    def __enter__(self) -> Inside:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _begin(self) -> None:
        # What writes to a file in a thread of its own, outside of tests.
        log: Any = self.log
        self.gateway = Gateway(log, lambda path: f"key of {path}", "")
        self.gateway.now = lambda: time.monotonic() + self.later
        self._loop.set_exception_handler(self._broke)
        self._take()
        server: Any = await self._loop.create_server(self._client, "127.0.0.1", 0)
        self._server = server
        self.port = server.sockets[0].getsockname()[1]

    def _client(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, Client(self.gateway))

    def _broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note what went wrong in a callback, as the program does."""
        self.gateway.broke(context.get("exception") or RuntimeError(context["message"]))

    async def _finish(self) -> None:
        self._server.close()
        for exchange in tuple(self.gateway.running):
            exchange.stop("draining")
        for client in tuple(self.gateway.clients):
            client.abort()
        counting = tuple(self.gateway._counting)
        for task in counting:
            task.cancel()
        await asyncio.gather(*counting, return_exceptions=True)
        for replica in (*self.gateway.table.replicas.values(), self.gateway.operator):
            for connection in tuple(replica.idle):
                connection.drop()
        await asyncio.sleep(0)

    def call(self, what: Callable[[], T]) -> T:
        """Return what *what* gives, on the gateway's thread."""

        async def run() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def publish(self, upstreams: Iterable[Upstream]) -> None:
        """Let the gateway see another Status."""
        self.upstreams = tuple(upstreams)
        self.call(self._take)

    def pass_time(self, seconds: float) -> None:
        """Let so much time be over, and everything that is due happen."""
        self.later += seconds
        self.call(self.gateway.sweep)

    @property
    def record(self) -> Record:
        """What the log was told of the only request; it is, after the client has its answer."""
        return wait_for(lambda: self.log.records, "a request's end")[-1]

    def _take(self) -> None:
        self._seq += 1
        document: Mapping[str, Any] = {
            "at": time.time(),
            "seq": self._seq,
            "instance": "test",
            "gateway": asdict(self.settings),
            "routes": routes(self.upstreams),
        }
        self.gateway.take(table.decode(json.dumps(document).encode()))

    # A client.

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> Answered:
        """Ask on a connection of its own; header names with `_` for `-`."""
        with self.connect() as client:
            client.sendall(request(body, path, **headers))
            return answered(client)


class Answered:
    """A whole answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of its error object."""
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list[Any]:
        """What each event of a stream carries, as JSON where it is that."""
        told = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(text) if text.startswith("{") else text for text in told]


def request(body: object, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """Return the bytes of a POST of JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: test", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def answered(client: socket.socket) -> Answered:
    """Read one answer, and not a byte more where its head says how long it is."""
    file = client.makefile("rb")
    status = int(file.readline().split()[1])
    headers: dict[str, str] = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = bytearray()
        while size := int(file.readline() or b"0", 16):
            body += file.read(size + 2)[:-2]
        return Answered(status, headers, bytes(body))
    length = headers.get("content-length")
    return Answered(status, headers, file.read() if length is None else file.read(int(length)))


def upstream(engine: StubEngine, index: int = 0, **told: Any) -> Upstream:
    return Upstream(name=f"chat-{index}", address=engine.address, **told)


def with_stub(body: dict[str, Any], **orders: Any) -> dict[str, Any]:
    return {**body, "stub": orders}
