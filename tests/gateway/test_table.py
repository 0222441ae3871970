"""Replicas and routes by Status: what lives on from one to the next."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from gpuctl.gateway import table
from gpuctl.model import GateSettings

GATE = GateSettings()


def document(*routes: dict[str, Any], **told: Any) -> table.Document:
    body = {"at": 1.0, "seq": 7, "instance": "d1", "gateway": None, "routes": routes, **told}
    return table.decode(json.dumps(body).encode())


def route(*replicas: dict[str, Any], model: str = "chat", **told: Any) -> dict[str, Any]:
    return {"model": model, "kind": "chat", "aliases": ["gpt-4"], "replicas": replicas, **told}


def replica(name: str = "chat-0", **told: Any) -> dict[str, Any]:
    return {"name": name, "address": "127.0.0.1:8081", "state": "ready", "container": "c1", **told}


def made(*documents: table.Document) -> table.Table:
    found = table.Table(lambda path: path)
    for one in documents:
        found.apply(one, GATE)
    return found


def test_replica() -> None:
    """What the Status says of a replica is what routing sees."""
    found = made(
        document(
            route(
                replica(
                    slots=4,
                    weight=0.5,
                    kv_ratio=0.9,
                    waiting=2,
                    drain_deadline=9.0,
                    key_file="/k",
                    coming=True,
                    collect_streams=True,
                )
            )
        )
    ).replicas["chat-0"]
    assert (found.host, found.port, found.authority) == ("127.0.0.1", 8081, b"127.0.0.1:8081")
    assert (found.slots, found.weight, found.kv_ratio, found.engine_waiting) == (4, 0.5, 0.9, 2)
    assert (found.state, found.coming, found.collect_streams) == ("ready", True, True)
    assert found.authorization == b"authorization: Bearer /k\r\n"
    assert found.drain_deadline == 9.0


def test_ipv6() -> None:
    """The brackets of an address are no part of the host."""
    found = made(document(route(replica(address="[::1]:8081")))).replicas["chat-0"]
    assert (found.host, found.port) == ("::1", 8081)


def test_names() -> None:
    """A route is found by its model and by each alias; a model's own name wins over an alias."""
    found = made(document(route(replica()), route(model="gpt-4", aliases=[])))
    assert found.names["chat"].model == "chat"
    assert found.names["gpt-4"].model == "gpt-4"


def test_same_container() -> None:
    """A replica whose container is the same keeps what is held against it."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    one.gate.failed(one.gate.begin(0.0), 0.0, refused=True)
    found.apply(document(route(replica(state="draining"))), GATE)
    assert found.replicas["chat-0"] is one
    assert not one.gate.allows(1.0)
    assert one.state == "draining"


@pytest.mark.parametrize("container", ["c2", "c3"])
def test_new_container(container: str) -> None:
    """Another container begins with nothing held against it."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    one.gate.failed(one.gate.begin(0.0), 0.0, refused=True)
    one.latency.add(9.0, 0.0)
    found.apply(document(route(replica(container=None, state="down"))), GATE)
    assert not one.gate.allows(1.0)  # none runs: nothing is new yet
    found.apply(document(route(replica(container=container))), GATE)
    assert one.gate.allows(1.0)
    assert one.latency.value(1.0) == math.inf


def test_what_the_old_container_was_sent() -> None:
    """A request that ends late, with the container it was sent to, is not the new one's failure."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    late = one.gate.begin(0.0)
    found.apply(document(route(replica(container="c2"))), GATE)
    assert not one.gate.failed(late, 1.0, refused=True)
    assert one.gate.allows(1.0)


def test_openings_are_counted_on() -> None:
    """A counter that fell with each new container would tell of none."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    one.gate.failed(one.gate.begin(0.0), 0.0, refused=True)
    found.apply(document(route(replica(container="c2"))), GATE)
    assert one.gate.opened_total == 1


def test_other_settings() -> None:
    """A gate that is there takes up how soon it opens, and for how long."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    found.apply(document(route(replica())), GateSettings(allowed_fails=1, cooldown_seconds=60.0))
    one.gate.failed(one.gate.begin(0.0), 0.0, refused=False)
    assert one.gate.retry_at == 60.0


def test_gone() -> None:
    """A replica that the Status has no more takes no request, wherever it is still held."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    found.apply(document(route(replica("chat-1"))), GATE)
    assert (one.state, one.coming) == ("down", False)
    assert set(found.replicas) == {"chat-1"}


def test_moved_to_another_model() -> None:
    """A replica of the same name of another model is another replica."""
    found = made(document(route(replica())))
    one = found.replicas["chat-0"]
    found.apply(document(route(replica(), model="other")), GATE)
    assert found.replicas["chat-0"] is not one
    assert one.state == "down"
    assert set(found.routes) == {"other"}


def test_route_lives_on() -> None:
    """A route keeps its turn from one Status to the next, unless it is of another kind."""
    found = made(document(route(replica())))
    one = found.routes["chat"]
    found.apply(document(route(replica())), GATE)
    assert found.routes["chat"] is one
    found.apply(document(route(replica(), kind="embedding")), GATE)
    assert found.routes["chat"] is not one


def test_no_key() -> None:
    """A key that cannot be read is no header."""
    found = table.Table(lambda path: "")
    found.apply(document(route(replica(key_file="/k"))), GATE)
    assert found.replicas["chat-0"].authorization == b""


def test_damaged() -> None:
    """What is no Status is told as such."""
    with pytest.raises(msgspec.ValidationError):
        document(route({"name": "chat-0"}))
