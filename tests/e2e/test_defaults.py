"""
The P106 profile at its own numbers: how long it takes until a failure is acted on.

Part of `make soak`: two minutes of silence must pass before a hung engine counts as dead.
"""

from __future__ import annotations

import os
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.host import Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.soak]

PORT = 18081
SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "p106x8.toml"


def shipped_watchdog() -> str:
    """Return the watchdog table of the shipped profile, for one load at a time without pause."""
    table = tomllib.loads(SHIPPED.read_text())["watchdog"]
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in table.items()]
    return "\n".join([*lines, 'load_spacing = "0s"'])


@pytest.fixture(scope="module")
def host(engine: PrivateEngine) -> Iterator[Host]:
    with Host(engine) as started:
        tables = workload("chat", port=PORT, gpus=[0, 1, 2])
        started.up(started.profile(tables, watchdog=shipped_watchdog()))
        # A replica's VRAM has settled a minute after it is ready.
        wait_for(lambda: len(started.events("baseline")) == 3, "three baselines", 90)
        yield started


def refuse(host: Host) -> None:
    order(PORT, refuse=True)


def lose_vram(host: Host) -> None:
    host.vram_lost.add("chat-1")


def freeze(host: Host) -> None:
    os.kill(host.pid_of("chat-2"), signal.SIGSTOP)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "fault", "reason", "seconds"),
    [
        pytest.param("chat-0", refuse, "health_refused", 10, id="refused"),
        pytest.param("chat-1", lose_vram, "vram_lost", 7, id="vram-gone"),
        pytest.param("chat-2", freeze, "health_timeout", 130, id="sigstop"),
    ],
)
def test_time_to_the_first_action(
    host: Host,
    name: str,
    fault: Callable[[Host], None],
    reason: str,
    seconds: float,
    record_property: Callable[[str, object], None],
) -> None:
    """From the fault to the moment when its repair begins."""
    old = host.containers()[name][0]
    began = time.time()
    fault(host)
    attempt = wait_for(
        lambda: next(
            (
                event
                for event in host.events("attempt", subject=name)
                if event["at"] > began and event["reason"] == reason
            ),
            None,
        ),
        f"{name} to be repaired",
        seconds + 30,
    )
    taken = attempt["at"] - began
    record_property("figure", f"{taken:.1f} s until it was acted on, of {seconds} s")
    host.vram_lost.clear()
    host.wait_replaced(name, old, seconds=60)
    assert taken <= seconds
    assert [event["reason"] for event in host.events("failed", subject=name)] == [reason]
