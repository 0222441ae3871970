"""
One replica as the gateway sees it: what Status says of it, what runs there, how it did lately.

`table` keeps one for each replica of the Status; `routing`, `admission` and `exchange` look at it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Literal

from gpuctl.gateway.gate import Gate
from gpuctl.gateway.routing import Target

if TYPE_CHECKING:
    from gpuctl.gateway.upstream import Connection

State = Literal["ready", "draining", "down"]


class Replica(Target):
    """What changes of a replica; owned by the event loop's thread."""

    __slots__ = (
        "authority",
        "authorization",
        "collect_streams",
        "coming",
        "container",
        "drain_deadline",
        "failures",
        "gate",
        "host",
        "idle",
        "kv_ratio",
        "last_byte",
        "last_use",
        "model",
        "open",
        "port",
        "requests",
        "sent",
        "signature",
        "state",
        "uds",
    )

    def __init__(self, name: str, model: str, gate: Gate) -> None:
        super().__init__(name)
        self.model = model  # of its route
        #: What the head of its answers says of it, up to the time they have waited.
        self.signature = b""
        self.sent = "sent"  # what the timeline of a request says of it
        if name:
            begins = b"x-gpuctl-replica: %s\r\nserver-timing: queue;dur="
            self.signature = begins % name.encode()
            self.sent = f"sent {name}"
        self.gate = gate
        self.state: State = "down"
        self.coming = False  # it is down, and on its way to be ready again
        self.container = ""
        self.host, self.port, self.uds = "", 0, ""
        self.authority = b"localhost"  # of the Host header
        self.authorization = b""  # the header line that its engine asks for, or nothing
        self.collect_streams = False  # asked to stream always; see `collect`
        self.kv_ratio: float | None = None
        self.drain_deadline: float | None = None  # Unix seconds
        self.requests = 0  # sent, since the gateway began
        self.failures = 0
        self.last_byte: float | None = None  # loop clock
        self.last_use: float | None = None  # loop clock
        self.idle: list[Connection] = []  # kept alive; the newest last
        self.open: dict[object, float] = {}  # requests there → loop clock when they began there


class Route:
    """The replicas that answer for one model."""

    __slots__ = ("aliases", "collects", "kind", "model", "replicas", "turns")

    def __init__(self, model: str, kind: str, aliases: tuple[str, ...] = ()) -> None:
        self.model = model
        self.kind = kind
        self.aliases = aliases
        self.replicas: list[Replica] = []
        self.collects = False  # some of them are asked to stream always
        self.turns = 0  # requests routed: whose turn it is in round robin

    def others(self, tried: Set[str]) -> bool:
        """Return whether a replica is ready that is none of these, by their names."""
        return any(
            replica.state == "ready" and replica.name not in tried for replica in self.replicas
        )
