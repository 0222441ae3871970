"""A bench on a private Docker Engine: what every test of the Docker runtime starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.adapters.docker import DockerRuntime
from gpuctl.model import ContainerSpec
from tests.adapters.runtime_contract import (
    Bench,
)
from tests.rig import http, images
from tests.rig.dockerd import PrivateEngine


def simulator(port: int) -> ContainerSpec:
    return ContainerSpec(
        image=images.IMAGE,
        entrypoint=(images.GPUSIM,),
        host_port=port,
        container_port=8080,
        mounts=images.rig_mounts(),
    )


def bench_on(engine: PrivateEngine) -> Bench:
    client = engine.client()

    def foreign() -> str:
        host = client.create_host_config(init=True, binds=["/usr:/usr:ro"])
        client.create_container(
            images.IMAGE, ["/bin/sleep", "600"], name="stranger", host_config=host
        )
        client.start("stranger")
        return "stranger"

    return Bench(
        client=lambda: DockerRuntime(environment=engine.environment),
        spec=simulator,
        broken=replace(simulator(http.free_port()), entrypoint=("/no-such-program",)),
        foreign=foreign,
        alive=lambda name: bool(client.inspect_container(name)["State"]["Running"]),
    )


def clear(engine: PrivateEngine) -> None:
    """Remove every container, ours or not."""
    client = engine.client()
    for row in client.containers(all=True):
        client.remove_container(row["Id"], force=True, v=True)
    client.close()


def inspected(engine: PrivateEngine, container: str) -> dict[str, Any]:
    client = engine.client()
    try:
        return dict(client.inspect_container(container))
    finally:
        client.close()


@pytest.fixture
def bench(engine: PrivateEngine) -> Iterator[Bench]:
    made = bench_on(engine)
    yield made
    made.close()
    clear(engine)


@pytest.fixture
def own_engine() -> Iterator[PrivateEngine]:
    """An engine that this test may stop; its containers outlive it."""
    with PrivateEngine(live_restore=True) as engine:
        client = engine.client()
        images.build(client)
        client.close()
        yield engine
