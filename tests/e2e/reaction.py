"""
How soon a death is answered: the engine's own time of the die event, until the daemon's first
write to the engine and until the engine's start event, beside a container that the engine itself
restarts. The test and the benchmark both measure with this.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from tests.e2e.engine_record import EngineRecord
from tests.e2e.host import P106_TENTH, Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.socket_proxy import SocketProxy
from tests.rig.waiting import wait_for

PORT, SLOW_PORT, PEER_PORT = 18201, 18210, 18220
PEER = "peer"
#: Only the reaction is measured: nothing waits, every death is the first, a frozen one is left.
WATCHDOG = {
    "backoff": ["0s", "0s", "0s", "0s", "0s"],
    "load_spacing": "0s",
    "loads_at_once": 0,
    "host_fault_ratio": 0,
    "ready_reset": "10ms",
    "soft": "3600s",
    "stalled": "3600s",
    "tick_gap": "30s",
}


@dataclass(kw_only=True)
class Reactions:
    """Seconds from each die event on, in the order of the deaths."""

    write: list[float] = field(default_factory=list)  # to the daemon's first write
    start: list[float] = field(default_factory=list)  # to the start of the new container
    peer: list[float] = field(default_factory=list)  # the same, by `--restart=always`


@dataclass(kw_only=True)
class Stage:
    host: Host
    proxy: SocketProxy
    record: EngineRecord


@contextmanager
def stage(engine: PrivateEngine, *, interval: str, proxied: bool = True) -> Iterator[Stage]:
    """
    A replica to kill, one that is frozen, and one whose stop is in progress all the time.

    Not *proxied*, the daemon talks to the engine as the peer's policy does: with nothing between.
    """
    with (
        SocketProxy(engine.socket) as proxy,
        EngineRecord(engine) as record,
        Host(engine) as host,
    ):
        host.docker_host = proxy.host if proxied else engine.host
        limits = {"memory": "256m", "memory_swap": "256m"}
        orders = ["--orders", json.dumps({"ignore_term": True})]
        tables = workload("chat", port=PORT, gpus=[0, 1], **limits)
        # A stop that outlasts the run is one that is in progress at every death.
        tables += workload(
            "slow", port=SLOW_PORT, gpus=[2], args=orders, stop_grace="3600s", **limits
        )
        host.up(host.profile(tables, watchdog=_watchdog(interval)))
        os.kill(host.pid_of("chat-1"), signal.SIGSTOP)
        assert host.run("stop", "slow", "--no-wait").code == 0
        host.wait_phase("slow-0", "draining")
        yield Stage(host=host, proxy=proxy, record=record)
        assert host.replica("slow-0")["phase"] == "draining"
        assert host.events("failed", subject="chat-1") == []


def measured(on: Stage, deaths: int, *, peer: bool = True) -> Reactions:
    """Kill the replica that often, one death at a time, and each time a peer after it."""
    found = Reactions()
    for _ in range(deaths):
        on.host.wait_phase("chat-0")
        # Ready for longer than `ready_reset`, and quiet: no reading of the start is under way.
        time.sleep(0.3)
        died, started = _death(on, "gpuctl-chat-0", "chat-0")
        if write := on.proxy.first_write(died):
            found.write.append(write.at - died)
        found.start.append(started - died)
        if peer:
            found.peer.append(_peer_death(on))
    return found


def quantile(seconds: Sequence[float], ratio: float) -> float:
    """Return the nearest-rank quantile."""
    return sorted(seconds)[math.ceil(ratio * len(seconds)) - 1]


def told(seconds: Sequence[float]) -> str:
    """Return the median, the 99th percentile and the maximum in milliseconds."""
    p50, p99 = statistics.median(seconds), quantile(seconds, 0.99)
    return f"p50 {p50 * 1e3:7.1f} ms  p99 {p99 * 1e3:7.1f} ms  max {max(seconds) * 1e3:7.1f} ms"


def _death(on: Stage, container: str, replica: str) -> tuple[float, float]:
    """End a container's init by SIGKILL; return when the engine saw it die, and the next start."""
    inspected = on.host.client.inspect_container(container)
    known = len(on.record.events)
    on.proxy.clear_calls()
    os.kill(int(inspected["State"]["Pid"]), signal.SIGKILL)

    def after(action: str, fits: Callable[[dict[str, Any]], bool]) -> float:
        def look() -> float | None:
            events = on.record.events[known:]
            at = (e["timeNano"] / 1e9 for e in events if e["Action"] == action and fits(e))
            return next(at, None)

        return wait_for(look, f"{container} to {action}\n{on.host.tail()}", 40.0)

    died = after("die", lambda event: event["Actor"]["ID"] == inspected["Id"])
    started = after("start", lambda event: _subject(event) == replica)
    return died, started


def _subject(event: dict[str, Any]) -> str:
    attributes = event["Actor"]["Attributes"]
    return str(attributes.get("gpuctl.replica") or attributes.get("name"))


def _peer_death(on: Stage) -> float:
    """
    Return what `--restart=always` takes for a container like the replica's own.

    Always a new one: the engine waits twice as long after each restart of the same container.
    """
    client = cast(Any, on.host.client)
    like = client.inspect_container("gpuctl-chat-0")
    port = [{"HostIp": "127.0.0.1", "HostPort": str(PEER_PORT)}]
    settings = {
        **like["HostConfig"],
        "RestartPolicy": {"Name": "always"},
        "PortBindings": dict.fromkeys(like["HostConfig"]["PortBindings"], port),
    }
    body = {**like["Config"], "Labels": {}, "HostConfig": settings}
    made = client.create_container_from_config(body, PEER)["Id"]
    try:
        client.start(made)
        time.sleep(0.5)
        died, started = _death(on, made, PEER)
        return started - died
    finally:
        client.remove_container(made, force=True)


def _watchdog(interval: str) -> str:
    """Return the tenth's table with the settings above and *interval* in it."""
    own = {**WATCHDOG, "interval": interval}
    kept = [row for row in P106_TENTH.splitlines() if row.split(" = ")[0] not in own]
    return "\n".join([*kept, *(f"{key} = {json.dumps(value)}" for key, value in own.items())])
