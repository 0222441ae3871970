"""
All that the parts of the gateway share, and what is done again and again: sweep, watch, report.

`__main__` makes one and runs it; a `Client` hands it each request. One thread owns everything here.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from gpuctl.gateway import access, places, prompts, report, table, upstream
from gpuctl.gateway.admission import Admission
from gpuctl.gateway.budget import Budget
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.estimate import Estimate
from gpuctl.gateway.exchange import Exchange
from gpuctl.gateway.front import Front
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.idempotency import Memory
from gpuctl.gateway.keyring import Keyring
from gpuctl.gateway.limits import Limiter
from gpuctl.gateway.log import Lines
from gpuctl.gateway.metrics import Metrics
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Replica, Route
from gpuctl.gateway.request import Exchanging, Request
from gpuctl.gateway.terms import Terms
from gpuctl.gateway.turns import Turns
from gpuctl.model import GatewaySettings

#: Bodies of requests that are held at once, so that many clients cannot fill the memory.
HELD_BYTES: Final = 128 * 1024 * 1024
#: What a client may name its request.
_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_OPERATOR_SLOTS: Final = 64
#: What happens to many requests at once is told as one.
_AGAIN_SECONDS: Final = 1.0
#: Prompts that are counted at a time; what breaks off beyond that goes without.
_COUNTING: Final = 8


class Gateway:
    """The state of one gateway, while it serves."""

    def __init__(self, lines: Lines, read_key: table.ReadKey, operator_socket: str) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.now: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.settings = GatewaySettings()
        self.terms = Terms(self.settings)
        self.lines = lines
        self.metrics = Metrics()
        self.table = table.Table(read_key)
        self.admission = Admission(self.settings, random.Random().random)
        self.budget = Budget()
        self.limiter = Limiter()
        self.memory = Memory()
        self.keyring = Keyring.of(b"", ())
        self.running: set[Exchange] = set()
        self.clients: set[Client] = set()
        self.draining = False
        self.listen = ""  # host:port where it does; "" while it does not
        self.started_at = time.time()
        self.status_at: float | None = None  # Unix seconds: the daemon made the latest Status
        self.seq, self.instance = 0, ""  # of that
        self.lag_seconds = 0.0  # how late the event loop was last
        self.shutdown_seconds: float | None = None  # of the gateway before this one, then its own
        self.operator = _operator(operator_socket)
        self.operator_begun = asyncio.Event()  # what asks for it earlier waits
        self.turns = Turns(self.operator, self.soon)
        self.operators = Route("", "operator")
        self.operators.replicas.append(self.operator)
        self.emptied: Callable[[], None] = lambda: None  # a replica that drains has nothing left
        self.date = _date(self.started_at)  # a header line, anew with every sweep
        self.turned_away = 0  # requests, by a full queue, since that was told
        self._turned_away_at = -_AGAIN_SECONDS
        self.estimate: Estimate | None = None  # of prompts that no engine counted
        self._counting: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, int] = {}  # of clients → their connections
        self._held_bytes = 0
        self._id = f"req-{os.urandom(6).hex()}-"
        self._ids = 0

    # What a client's connection asks for.

    def admit(self, client: Client) -> bool:
        """Count a new connection; return whether there is room for it."""
        limits = self.settings.limits
        count = self._addresses.get(client.ip, 0)
        if len(self.clients) >= limits.connections or count >= limits.connections_per_ip:
            self.metrics.rate_limited("connections")
            return False
        self._addresses[client.ip] = count + 1
        self.clients.add(client)
        return True

    def left(self, client: Client) -> None:
        """Count one less."""
        if client not in self.clients:
            return
        self.clients.remove(client)
        count = self._addresses[client.ip] - 1
        if count:
            self._addresses[client.ip] = count
        else:
            del self._addresses[client.ip]

    def hold(self, size: int) -> bool:
        """Take or give back room for bodies, in bytes; return whether there is so much."""
        self._held_bytes += size
        return self._held_bytes <= HELD_BYTES

    def serve(self, client: Client, request: Request) -> Exchanging | None:
        """Answer a request, or return what will."""
        return Front(self, client, request).serve()

    def soon(self, do: Callable[[], None]) -> None:
        """Do it when what is done now is done."""
        self._loop.call_soon(do)

    def refused(self, client: Client, code: str, status: int, told: bytes | None) -> str:
        """Note what could not become a request; return its id, as `id_of`."""
        now, id = self.now(), self.id_of(told)
        record = Record(id, self.wall(), now)
        record.ip, record.method = client.ip, ""
        record.status, record.error, record.end = status, code, "refused"
        self.finished(record)
        return id

    def id_of(self, told: bytes | None) -> str:
        """Return what the client calls its request, or a name of ours where that is none."""
        if told is not None and _ID.fullmatch(told):
            return told.decode()
        self._ids += 1
        return self._id + str(self._ids)

    # What an exchange asks for, and tells.

    def open(
        self,
        replica: Replica,
        opened: Callable[[upstream.Connection], None],
        failed: Callable[[str], None],
    ) -> asyncio.Task[None]:
        """Open a connection to a replica."""
        connect = upstream.connect if self.operator_begun.is_set() else self._connect
        seconds = self.settings.timeouts.connect_seconds
        return self._loop.create_task(connect(replica, seconds, opened, failed))

    async def _connect(
        self,
        replica: Replica,
        seconds: float,
        opened: Callable[[upstream.Connection], None],
        failed: Callable[[str], None],
    ) -> None:
        """Connect; to the operator's endpoints when they have begun, moments after the rest."""
        if replica is self.operator:
            await self.operator_begun.wait()
        await upstream.connect(replica, seconds, opened, failed)

    def failed(self, replica: Replica, why: str) -> None:
        """Note that a replica did not do its part."""
        if replica is self.operator:
            self.lines.event("operator_failed", path=replica.uds, why=why)
            return
        self.metrics.upstream_failed(replica.name, why)
        self.lines.event("replica_failed", replica=replica.name, why=why)

    def blame(
        self, replica: Replica, token: int, now: float, why: str, *, refused: bool = False
    ) -> None:
        """Hold a failure against a replica; tell when its gate opens by it."""
        replica.failures += 1
        if replica.gate.failed(token, now, refused=refused) and replica is not self.operator:
            seconds = replica.gate.cooldown_seconds
            self.lines.event("gate_opened", replica=replica.name, why=why, seconds=seconds)

    def gate_closed(self, replica: Replica, why: str) -> None:
        """Tell that a replica gets requests again."""
        if replica is not self.operator:
            self.lines.event("gate_closed", replica=replica.name, why=why)

    def denied(self, record: Record, reason: str) -> None:
        """Note that somebody had no right to ask: for the audit."""
        self.metrics.auth_failed(reason)
        self.lines.event(
            "auth_failed", request=record.id, ip=record.ip, key=record.key, reason=reason
        )

    def limited(self, record: Record, scope: str) -> None:
        """Note that somebody asks too often."""
        self.metrics.rate_limited(scope)
        self.lines.event(
            "rate_limited", request=record.id, ip=record.ip, key=record.key, scope=scope
        )

    def finished(self, record: Record, key: access.Bearer | None = None, body: bytes = b"") -> None:
        """Note that a request with this *body* is over; the *key* pays for its tokens."""
        replica = self.table.replicas.get(record.replica)
        if replica is not None and replica.state == "draining" and not replica.open:
            self.emptied()
        broke_off = record.prompt_tokens is None and record.completion_tokens
        if broke_off and len(self._counting) < _COUNTING:
            task = self._loop.create_task(self._counted(record, key, body))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        else:
            self._count(record, key)

    async def _counted(self, record: Record, key: access.Bearer | None, body: bytes) -> None:
        """Count its prompt too: by its engine, or by the tokenizer that an operator names."""
        replica, estimate = self.table.replicas.get(record.replica), self.estimate
        try:
            if replica is not None and replica.state != "down":
                record.prompt_tokens = await prompts.count(replica, record.endpoint, body)
            if record.prompt_tokens is None and estimate is not None:
                found = await self._loop.run_in_executor(None, estimate, body)
                record.prompt_tokens = found
        finally:
            self._count(record, key)

    def _count(self, record: Record, key: access.Bearer | None) -> None:
        self.metrics.finished(record)
        self.lines.finished(record)
        if key is not None and key.tokens is not None:
            tokens = (record.prompt_tokens or 0) + (record.completion_tokens or 0)
            key.tokens.charge(tokens, self.now())

    def broke(self, error: BaseException) -> None:
        """Note a fault of the gateway itself."""
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        self.lines.event(
            "internal_error",
            error=f"{type(error).__name__}: {error}",
            where=[f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames],
        )

    # What is done again and again.

    def sweep(self) -> None:
        """Look at every deadline; a few times a second."""
        now = self.now()
        self.date = _date(self.wall())
        self.admission.wake(now)  # a gate may have cooled down
        self.admission.expire(now)  # before a stream is told that it is still waiting
        every: tuple[Exchange | Client, ...] = (*self.running, *self.clients)
        for one in every:
            try:
                one.sweep(now)
            except Exception as error:  # noqa: BLE001 - one fault must not stop every clock
                self.broke(error)
        self.memory.expire(now)
        if self.turned_away and now >= self._turned_away_at + _AGAIN_SECONDS:
            self.lines.event("queue_full", count=self.turned_away)
            self.turned_away, self._turned_away_at = 0, now
        for replica in (*self.table.replicas.values(), self.operator):
            upstream.expire(replica, now)

    def take(self, document: table.Document) -> None:
        """Take over a new Status."""
        known, settings = self.table.replicas, document.gateway or self.settings
        before = {
            name: (
                replica.container,
                replica.gate.retry_at is not None,
                places.kv_level(replica.kv_ratio),
            )
            for name, replica in self.table.replicas.items()
        }
        self.settings, self.terms = settings, Terms(settings)
        self.table.apply(document, settings.gate)
        self.seq, self.instance, self.status_at = document.seq, document.instance, document.at
        for name, replica in self.table.replicas.items():
            container, was_open, was_level = before.pop(name, ("", False, "ok"))
            if container != replica.container:
                self.lines.event("replica", replica=name, container=replica.container)
            if was_open and replica.gate.retry_at is None:
                self.gate_closed(replica, "new_container")
            level, ratio = places.kv_level(replica.kv_ratio), replica.kv_ratio
            if level != was_level:
                self.lines.event("kv_cache", replica=name, level=level, ratio=ratio)
        for name in before:
            self.lines.event("replica_gone", replica=name)
        for replica in known.values():
            if self.table.replicas.get(replica.name) is not replica:
                upstream.close(replica)
        self.admission.configure(settings, self.table.routes)
        self.admission.wake(self.now())

    def document(self) -> dict[str, object]:
        """Return what gateway.json is to say."""
        now = self.now()
        return report.document(
            self.table.replicas,
            instance=self.instance,
            seq=self.seq,
            listen=self.listen,
            queued=self.admission.waiting(),
            in_flight=self.admission.in_flight,
            offset_seconds=report.offset_seconds(now),
        )

    # The end.

    async def drain(self) -> float:
        """Take no new work and let finish what runs; return the seconds that took."""
        began = self.now()
        self.draining = True
        self.lines.event("draining", running=len(self.running))
        self.admission.drain()
        for client in tuple(self.clients):
            client.close_if_idle()
        end = began + self.settings.timeouts.drain_seconds
        while self.running and self.now() < end:
            await asyncio.sleep(0.02)
        for exchange in tuple(self.running):
            exchange.stop("draining")
        end = max(end, self.now() + _AGAIN_SECONDS)
        while any(client.behind_bytes for client in self.clients) and self.now() < end:
            await asyncio.sleep(0.02)
        if self._counting:
            _, late = await asyncio.wait(self._counting, timeout=_AGAIN_SECONDS)
            for task in late:
                task.cancel()
        self.shutdown_seconds = self.now() - began
        return self.shutdown_seconds


def _date(unix_seconds: float) -> bytes:
    # RFC 9110, 6.6.1: whoever has a clock says when an answer was made.
    return b"date: %s\r\n" % formatdate(unix_seconds, usegmt=True).encode()


def _operator(socket: str) -> Replica:
    # What is behind them is this process: it is there again at once, or not at all.
    operator = Replica("", "", Gate(5, _AGAIN_SECONDS))
    operator.uds = socket
    operator.state = "ready"
    operator.slots = _OPERATOR_SLOTS
    return operator
