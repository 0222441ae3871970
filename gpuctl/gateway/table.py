"""
Which replicas there are, by Status: the one thing that says where a request may go. PURE.

The daemon's document comes in; `Replica` and `Route` objects live on from one to the next, so that
what is held against a replica, or runs there, is not forgotten while its container is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from gpuctl.gateway.gate import Gate
from gpuctl.gateway.latency import Latency
from gpuctl.gateway.replica import Replica, Route
from gpuctl.model import GateSettings, GatewaySettings

#: Returns the key that a file holds, one line for a header; "" where it has none.
ReadKey = Callable[[str], str]


class RouteReplica(msgspec.Struct):
    """One replica of the Status; what an older daemon does not say has a default."""

    name: str
    address: str
    state: Literal["ready", "draining", "down"]
    container: str | None = None
    slots: int = 1
    weight: float = 1.0
    drain_deadline: float | None = None
    kv_ratio: float | None = None
    key_file: str | None = None
    coming: bool = False
    waiting: int = 0
    collect_streams: bool = False


class RouteDocument(msgspec.Struct):
    """The replicas of one workload."""

    model: str
    kind: str
    replicas: list[RouteReplica]
    aliases: list[str] = []


class Load(msgspec.Struct):
    """How far a replica is that loads."""

    name: str
    stage: str | None = None  # weights_loaded | graphs_ready | warmed_up


class Document(msgspec.Struct):
    """As much of status.json as the gateway reads."""

    at: float
    seq: int
    instance: str
    routes: list[RouteDocument]
    gateway: GatewaySettings | None = None
    replicas: list[Load] = []


decode = msgspec.json.Decoder(Document).decode


class Table:
    """The replicas and routes of the latest Status."""

    def __init__(self, read_key: ReadKey) -> None:
        self._read_key = read_key
        self.replicas: dict[str, Replica] = {}
        self.routes: dict[str, Route] = {}  # by the model's own name
        self.names: dict[str, Route] = {}  # by every name that a client may use
        self.stages: dict[str, str] = {}  # by replica, of those that load and tell of it

    def apply(self, document: Document, gate: GateSettings) -> None:
        """Take over what a Status says."""
        replicas: dict[str, Replica] = {}
        routes: dict[str, Route] = {}
        for entry in document.routes:
            route = self.routes.get(entry.model)
            if route is None or route.kind != entry.kind:
                route = Route(entry.model, entry.kind)
            route.aliases = tuple(entry.aliases)
            route.replicas = [self._replica(found, entry.model, gate) for found in entry.replicas]
            route.collects = any(replica.collect_streams for replica in route.replicas)
            routes[entry.model] = route
            replicas |= {replica.name: replica for replica in route.replicas}
        for name, replica in self.replicas.items():
            if replicas.get(name) is not replica:  # what runs there may still end well
                replica.state, replica.coming = "down", False
        self.replicas, self.routes = replicas, routes
        self.stages = {load.name: load.stage for load in document.replicas if load.stage}
        self.names = dict(routes)
        for route in routes.values():
            for alias in route.aliases:
                self.names.setdefault(alias, route)

    def _replica(self, entry: RouteReplica, model: str, gate: GateSettings) -> Replica:
        replica = self.replicas.get(entry.name)
        if replica is None or replica.model != model:
            replica = Replica(entry.name, model, Gate(gate.allowed_fails, gate.cooldown_seconds))
        replica.gate.allowed_fails = gate.allowed_fails
        replica.gate.cooldown_seconds = gate.cooldown_seconds
        container = entry.container or ""
        if container and container != replica.container:
            # Another one runs there: nothing that the one before did, or still does with what it
            # was sent, is held against it.
            replica.container = container
            replica.gate.reset()
            replica.latency = Latency()
        host, _, port = entry.address.rpartition(":")
        replica.host, replica.port = host.strip("[]"), int(port)
        replica.authority = entry.address.encode()
        replica.authorization = self._authorization(entry.key_file)
        replica.state, replica.coming = entry.state, entry.coming
        replica.slots, replica.weight = entry.slots, entry.weight
        replica.kv_ratio, replica.engine_waiting = entry.kv_ratio, entry.waiting
        replica.drain_deadline = entry.drain_deadline
        replica.collect_streams = entry.collect_streams
        return replica

    def _authorization(self, key_file: str | None) -> bytes:
        key = self._read_key(key_file) if key_file else ""
        return b"authorization: Bearer %s\r\n" % key.encode() if key else b""
