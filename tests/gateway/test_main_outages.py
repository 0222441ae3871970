"""The gateway as a program: what goes on failing is told once, until it works again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

ONE = Upstream(name="chat-0", address="127.0.0.1:1", phase="failed")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess((), folder=tmp_path) as running:
        yield running


def count(gateway: GatewayProcess, event: str) -> int:
    return sum(line.get("event") == event for line in gateway.lines)


def wait(gateway: GatewayProcess, event: str, times: int = 1) -> None:
    wait_for(lambda: count(gateway, event) >= times, f"the event {event}")


def test_two_outages_of_the_status(gateway: GatewayProcess) -> None:
    """A second one is told, though it says what the first one said."""
    path = gateway.folder / "run" / "status.json"
    for told in (1, 2):
        path.with_suffix(".new").write_text("{")
        os.replace(path.with_suffix(".new"), path)
        wait(gateway, "status_unreadable", told)
        gateway.told(())


def test_a_report_that_cannot_be_written(gateway: GatewayProcess) -> None:
    """It is tried at every Status and every second, and one line is enough for all of that."""
    fresh = gateway.folder / "run-gateway" / "gateway.json.new"
    for told, upstreams, event in ((1, (ONE,), "replica"), (2, (), "replica_gone")):
        _stand_in_the_way(fresh)
        wait(gateway, "report_failed", told)
        gateway.publish(upstreams)  # taken over, and told of in vain
        wait(gateway, event)
        fresh.rmdir()
        gateway.told(upstreams)
        assert count(gateway, "report_failed") == told


def _stand_in_the_way(path: Path) -> None:
    def made() -> bool:
        try:
            path.mkdir()
        except FileExistsError:  # just being written
            return False
        return True

    wait_for(made, "a moment without that file")
