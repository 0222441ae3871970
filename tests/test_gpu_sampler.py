"""The GPUs, the host and the gateway's file, each with its latest reading on the board."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.gpu_sampler import AccessSource, GpuSource
from gpuctl.model import (
    ContainerReading,
    GatewayReading,
    GpuProcess,
    GpuReading,
    HostReading,
    SourceError,
)
from gpuctl.observe import Latest
from gpuctl.samplers import HostSource
from tests import make
from tests.fakes import FakeWorld

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0


class Cards:
    """A source of GPUs on fakes, and what woke the loop."""

    def __init__(self) -> None:
        self.fakes = FakeWorld()
        self.latest, self.woken = Latest(), list[str]()
        self.source = GpuSource(
            self.fakes.gpus, self.fakes.host, self.fakes.clock, self.latest, self.woken.append
        )

    def read(self, *gpus: GpuReading) -> int:
        """Read these; return how often the loop was woken."""
        self.woken.clear()
        self.fakes.gpus.readings = gpus
        self.source.sample()
        return len(self.woken)


@pytest.fixture
def cards() -> Cards:
    made = Cards()
    made.read(make.gpu())
    return made


def holding(used: int | None, pid: int = 7, **fields: Any) -> GpuReading:
    return make.gpu(processes=[GpuProcess(pid=pid, used_bytes=used, **fields)])


def test_the_first_reading_of_the_gpus_wakes_the_loop() -> None:
    """A daemon waits for it before its first Status, also on a host without a GPU."""
    fakes = FakeWorld()
    woken: list[str] = []
    source = GpuSource(fakes.gpus, fakes.host, fakes.clock, Latest(), woken.append)
    source.sample()
    source.sample()
    assert woken == ["gpus"]


def test_each_process_is_joined_to_its_container(cards: Cards) -> None:
    """The host knows whose a process is; what the device says of it comes first."""
    cards.fakes.host.owners = {7: "c1"}
    cards.read(holding(5))
    assert cards.latest.gpus[0].processes == (
        GpuProcess(pid=7, used_bytes=5, container="c1", name="llama-server"),
    )
    cards.read(holding(5, container="c2", name="python"))
    assert cards.latest.gpus[0].processes == (
        GpuProcess(pid=7, used_bytes=5, container="c2", name="python"),
    )


def test_a_process_keeps_its_owner_while_it_is_listed(cards: Cards) -> None:
    """One that hangs on its way out may not tell whose it was; a new one of its pid does."""
    cards.fakes.host.owners = {7: "c1"}
    cards.read(holding(5))
    cards.fakes.host.owners = {7: "c2"}

    def owner() -> str | None:
        (process,) = cards.latest.gpus[0].processes or ()
        return process.container

    cards.read(holding(5))
    assert owner() == "c1"
    cards.read(make.gpu())
    cards.read(holding(5))
    assert owner() == "c2"


def test_a_gpu_that_does_not_report_its_processes(cards: Cards) -> None:
    """Not reported is not empty."""
    cards.read(make.gpu(processes=None))
    assert cards.latest.gpus[0].processes is None


@pytest.mark.parametrize(
    ("before", "after", "wakes"),
    [
        pytest.param(make.gpu(), make.gpu(), 0, id="the-same"),
        pytest.param(make.gpu(), make.gpu(state="lost"), 1, id="lost"),
        pytest.param(make.gpu(), make.gpu(1), 1, id="another"),
        pytest.param(holding(100), holding(50), 0, id="half"),
        pytest.param(holding(100), holding(49), 1, id="less-than-half"),
        pytest.param(holding(100), make.gpu(), 1, id="gone"),
        pytest.param(holding(100), holding(100, pid=8), 0, id="in-another-process"),
        pytest.param(holding(None), make.gpu(), 0, id="not-reported"),
        pytest.param(make.gpu(), holding(100), 0, id="more"),
    ],
)
def test_what_of_the_gpus_wakes_the_loop(
    cards: Cards, before: GpuReading, after: GpuReading, wakes: int
) -> None:
    """A GPU that is lost or back, and a container that holds much less, are looked at at once."""
    cards.fakes.host.owners = {7: "c1", 8: "c1"}
    cards.read(before)
    assert cards.read(after) == wakes


def test_a_hurried_reading_wakes_the_loop_once(cards: Cards) -> None:
    """The loop waits for it, whatever it shows."""
    cards.source.hurried = True
    assert (cards.read(make.gpu()), cards.read(make.gpu())) == (1, 0)


def test_gpus_that_cannot_be_read_keep_their_last_reading(cards: Cards) -> None:
    """The failure and the return wake the loop; between them the last reading stays."""
    cards.fakes.gpus.broken = "hung"
    assert (cards.read(), cards.read()) == (1, 0)
    assert (cards.latest.errors["gpus"].message, len(cards.latest.gpus)) == ("hung", 1)
    cards.fakes.gpus.broken = ""
    assert (cards.read(make.gpu()), cards.latest.errors) == (1, {})


def test_the_host_and_the_gateways_file() -> None:
    """Both are read in one pass; a host that cannot be read does not hide the gateway."""
    fakes, latest = FakeWorld(), Latest()
    source = HostSource(fakes.host, fakes.gateway, fakes.clock, latest, lambda _: None)
    source.sample()
    assert (latest.host, latest.gateway, latest.errors) == (fakes.host.read(), None, {})

    def broken() -> HostReading:
        raise GpuctlError("no /proc")

    fakes.host.read = broken  # type: ignore[method-assign]
    fakes.gateway.reading = GatewayReading(seq=3)
    source.sample()
    assert latest.gateway == GatewayReading(seq=3)
    assert latest.errors["host"].message == "no /proc"
    del fakes.host.read
    source.sample()
    assert latest.errors == {}


class Doors:
    """Ready replicas with GPUs, whose containers are asked whether they may open them."""

    def __init__(self, *containers: ContainerReading, kind: str = "docker") -> None:
        self.fakes, self.latest, self.woken = FakeWorld(), Latest(), list[str]()
        self.runtime = self.fakes.runtime
        self.runtime.kind = kind
        self.source = AccessSource(self.runtime, self.latest, self.woken.append)
        plan = make.plan(make.replica(), make.replica("chat-1"), make.replica("chat-2", gpus=()))
        owned = {each.replica: each for each in containers}
        self.source.follow(plan, owned, {"c1", "c2", "c3"})

    def asked(self) -> dict[str, bool | None]:
        self.source.sample()
        return dict(self.latest.device_access)


def doors(**fields: Any) -> Doors:
    return Doors(make.container(), make.container("chat-1", "c2"), **fields)


def test_containers_are_asked_what_their_cgroup_does_not_tell() -> None:
    """What is told wakes the loop when it is new."""
    found = doors()
    found.runtime.opens_gpus = {"c1": True, "c2": False}
    assert (found.asked(), found.asked()) == ({"c1": True, "c2": False},) * 2
    assert found.woken == ["devices"]
    found.runtime.opens_gpus = {"c1": True}
    assert found.asked() == {"c1": True, "c2": None}
    assert found.woken == ["devices"] * 2


def test_one_whose_cgroup_tells_is_not_asked() -> None:
    """That costs nothing, and a process in a container does."""
    found = doors()
    held = [GpuProcess(pid=7, container="c1", device_access=False), GpuProcess(pid=8)]
    found.latest.gpus = (make.gpu(processes=held), make.gpu(1, processes=None))
    assert found.asked() == {"c2": None}


@pytest.mark.parametrize(
    "containers",
    [
        pytest.param([], id="none"),
        pytest.param([make.container(state="exited")], id="ended"),
        pytest.param([make.container(id_="c9")], id="not-ready"),
        pytest.param([make.container("chat-2", "c3")], id="without-a-gpu"),
        pytest.param([make.container("chat-7")], id="of-no-replica"),
    ],
)
def test_only_ready_replicas_with_gpus_are_asked(containers: list[ContainerReading]) -> None:
    assert Doors(*containers).asked() == {}


def test_only_containers_of_docker_are_asked() -> None:
    """A plain process has no devices of its own that could be taken away."""
    assert doors(kind="process").asked() == {}


@pytest.mark.parametrize("source", ["gpus", "runtime"])
def test_nobody_is_asked_while_a_driver_or_a_runtime_does_not_answer(source: str) -> None:
    """Whatever opens a device of a driver that hangs, hangs with it."""
    found = doors()
    found.runtime.opens_gpus = {"c1": True, "c2": True}
    before = found.asked()
    found.latest.errors[source] = SourceError(message="no answer", since_boot_seconds=1.0)
    found.runtime.opens_gpus = {}
    assert found.asked() == before


def test_one_that_cannot_be_asked_is_what_it_was() -> None:
    """It did not answer in time, or has just ended; one that is gone is forgotten."""
    found = doors()
    found.runtime.opens_gpus = {"c1": True, "c2": True}
    found.asked()
    found.runtime.unreachable = True
    assert found.asked() == {"c1": True, "c2": True}
    found.source.follow(make.plan(), {"chat-0": make.container()}, {"c1"})
    assert found.asked() == {"c1": True}
    late = doors()
    late.runtime.unreachable = True
    assert late.asked() == {}
