"""
One real gateway before one stub engine, for all tests of a module, which says its `SETTINGS`.

Whatever a test does to it, another client is served before and after, and it tells of no fault.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.raw_client import served
from tests.rig.stub_engine import StubEngine


@pytest.fixture(scope="module")
def stub() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def process(request: pytest.FixtureRequest, stub: StubEngine) -> Iterator[GatewayProcess]:
    upstream = Upstream(name="chat-0", address=stub.address, slots=8)
    with GatewayProcess([upstream], request.module.SETTINGS) as started:
        yield started


@pytest.fixture
def gateway(process: GatewayProcess, stub: StubEngine) -> Iterator[GatewayProcess]:
    """The gateway; the stub has seen nothing yet."""
    assert served(process.port)
    stub.seen.clear()
    yield process
    assert served(process.port)
    assert not process.broke
