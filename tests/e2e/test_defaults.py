"""
The P106 profile as it ships, sixteen containers: how long until a failure is acted on.

What differs from the shipped file is what a GPU or a registry would be needed for: the image is
the rig's scripted engine, which takes the same arguments and loads in a tenth of a second; the
model is one that is here, whose VRAM is what the fake driver is told; the folders that the rig's
image needs are mounted besides. All else is the file's own: every number of the watchdog, so the
defaults of those it does not name, the load spacing among them; limits of memory, ports, options.
Part of `make soak`: two minutes of silence must pass before a hung engine counts as dead.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import tomlkit

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import GPUSIM, MODEL, MODELS, Host
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.images import rig_mounts
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.nvml, pytest.mark.soak, pytest.mark.timeout(600)]

SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "p106x8.toml"
SHIPPED_MODELS = "/var/lib/gpuctl/models:/models:ro"
REPLICAS = 16
#: Sixteen loads, two at once and 5 s apart, on two shared cores.
UP_SECONDS = 240.0


def shipped() -> str:
    """Return the shipped profile with what the rig has for images, models and mounts."""
    document = cast(dict[str, Any], tomlkit.parse(SHIPPED.read_text()))
    rig = [f"{mount.source}:{mount.target}:ro" for mount in rig_mounts()]
    for workload in document["workloads"].values():
        models, *others = workload["mounts"]
        assert models == SHIPPED_MODELS
        workload["image"], workload["model"] = GPUSIM, MODEL
        workload["mounts"] = [f"{MODELS}:/models:ro", *others, *rig]
    return tomlkit.dumps(document)


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, record: EngineRecord) -> Iterator[Host]:
    with Host(engine) as started:
        profile = started.folder / "p106x8.toml"
        profile.write_text(shipped())
        started.up(profile, seconds=UP_SECONDS)
        # A replica's VRAM has settled a minute after it is ready.
        wait_for(lambda: len(started.events("baseline")) == REPLICAS, "sixteen baselines", 120)
        yield started
        assert overlap(record.events) == 0.0


def refuse(host: Host) -> None:
    order(host.replica("chat-0")["port"], refuse=True)


def lose_vram(host: Host) -> None:
    host.vram_lost.add("chat-1")


def freeze(host: Host) -> None:
    os.kill(host.pid_of("chat-2"), signal.SIGSTOP)


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
    record: EngineRecord,
    name: str,
    fault: Callable[[Host], None],
    reason: str,
    seconds: float,
    record_property: Callable[[str, object], None],
) -> None:
    """From the fault to the moment when its repair begins; the other fifteen run on."""
    before, began = host.containers(), time.time()
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
    old = before[name][0]
    new = host.wait_replaced(name, old, seconds=60)
    assert taken <= seconds
    assert [event["reason"] for event in host.events("failed", subject=name)] == [reason]
    assert record.lives(began) == [(name, "die", old), (name, "start", new)]
    assert set(before.items()) - set(host.containers().items()) == {(name, before[name])}
