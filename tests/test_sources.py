"""Every source of a host, begun and ended as one."""

from __future__ import annotations

import queue
import threading

from gpuctl.observe import Latest
from gpuctl.sources import Sources
from tests import make
from tests.fakes import FakeWorld

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0


class Host:
    def __init__(self) -> None:
        self.fakes, self.latest = FakeWorld(), Latest()
        self.woken = queue.SimpleQueue[str]()
        self.sources = Sources(self.fakes.world, self.latest, self.woken.put, 3600.0)


def test_each_source_is_read_once_on_request() -> None:
    """A host without threads of its own reads everything in one pass."""
    host = Host()
    host.fakes.runtime.containers = {"c1": make.container()}
    host.sources.probes.follow(make.plan(), {"chat-0": make.container()})
    host.sources.sample()
    assert list(host.latest.containers) == ["c1"]
    assert host.latest.gpus_boot_seconds is not None
    assert host.latest.host == host.fakes.host.read()
    assert list(host.latest.probes) == ["chat-0"]


def test_a_source_has_spoken_when_it_was_read_or_could_not_be() -> None:
    """The first Status waits for the runtime and the GPUs, well or not."""
    host = Host()
    assert not host.sources.spoken()
    host.sources.runtime.sample()
    assert not host.sources.spoken()
    host.fakes.gpus.broken = "hung"
    host.sources.gpus.sample()
    assert host.sources.spoken()


def test_threads_read_until_they_are_ended() -> None:
    """They begin at once, the GPUs again when hurried, and none is left at the end."""
    before = set(threading.enumerate())
    host = Host()
    host.sources.begin()
    told = {host.woken.get(timeout=PATIENCE_SECONDS) for _ in range(3)}
    assert told == {"runtime", "gpus", "events"}
    threads = set(threading.enumerate()) - before
    assert {t.name for t in threads} >= {"runtime", "gpus", "host", "gateway", "events"}
    while host.latest.gpus_boot_seconds is None or host.latest.runtime_boot_seconds is None:
        host.woken.get(timeout=PATIENCE_SECONDS)
    while not host.woken.empty():
        host.woken.get()
    host.sources.hurry_gpus()
    while host.woken.get(timeout=PATIENCE_SECONDS) != "gpus":
        pass
    host.sources.end()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_a_pace_is_that_of_every_source_but_the_gateways_file() -> None:
    """The interval is for what costs something to read; a drain waits for the gateway."""
    host = Host()
    host.sources.pace(0.5)
    assert {s._name: s._seconds for s in host.sources._samplers} == {
        "runtime": 0.5,
        "gpus": 0.5,
        "host": 0.5,
        "gateway": 0.25,
        "loads": 3.0,
        "xids": 0.5,
        "access": 60.0,
    }
