"""The board becomes a Snapshot."""

from __future__ import annotations

import pytest

from gpuctl.model import ContainerReading, GatewayReading, HostReading, Snapshot, SourceError
from gpuctl.observe import Latest, observe
from tests import make
from tests.fakes import FakeClock
from tests.make import AT, BOOT, NOW


def test_everything_on_the_board_is_in_the_snapshot() -> None:
    """Each source's latest reading is gathered under the name a decision looks for."""
    error = SourceError(message="hung", since_boot_seconds=NOW - 9)
    latest = Latest(
        containers={"c1": make.container()},
        runtime_boot_seconds=NOW - 1,
        runtime_back_boot_seconds=NOW - 2,
        gpus=(make.gpu(1), make.gpu(0)),
        gpus_boot_seconds=NOW - 3,
        probes={"chat-0": make.probe()},
        host=HostReading(memory_total_bytes=1),
        gateway=GatewayReading(seq=4),
        errors={"gpus": error},
    )
    assert observe(latest, FakeClock(), gap=True) == Snapshot(
        at=AT,
        boot_id=BOOT,
        boot_seconds=NOW,
        gap=True,
        gpus={"GPU-1": make.gpu(1), "GPU-0": make.gpu(0)},
        gpus_boot_seconds=NOW - 3,
        owned={"chat-0": make.container()},
        runtime_boot_seconds=NOW - 1,
        runtime_back_boot_seconds=NOW - 2,
        probes={"chat-0": make.probe()},
        host=HostReading(memory_total_bytes=1),
        gateway=GatewayReading(seq=4),
        errors={"gpus": error},
    )


def test_a_snapshot_does_not_change_with_the_board() -> None:
    """What a sampler writes afterwards is seen by the next tick only."""
    latest = Latest()
    now = observe(latest, FakeClock())
    latest.probes["chat-0"] = make.probe()
    latest.errors["gpus"] = SourceError(message="hung", since_boot_seconds=NOW)
    assert (now.probes, now.errors) == ({}, {})


TRACE = make.container(id_="c0", state="removed")
OWN = make.container(id_="c1")
ASIDE = make.container(id_="c2", name="gpuctl-chat-0.old-c2", state="exited")
GONE = make.container(id_="c3", name="gpuctl-chat-0.old-c3", state="removed")


@pytest.mark.parametrize(
    ("containers", "owned", "aside"),
    [
        pytest.param([TRACE, OWN], OWN, (), id="a-container-before-a-trace"),
        pytest.param([OWN, TRACE], OWN, (), id="whatever-their-order"),
        pytest.param([TRACE], TRACE, (), id="a-trace-alone"),
        pytest.param([OWN, ASIDE], OWN, (ASIDE,), id="one-aside"),
        pytest.param([ASIDE, GONE], None, (ASIDE,), id="no-trace-of-what-was-aside"),
    ],
)
def test_whose_a_container_is(
    containers: list[ContainerReading],
    owned: ContainerReading | None,
    aside: tuple[ContainerReading, ...],
) -> None:
    """The fixed name makes it the replica's own, and any other name one that was put aside."""
    latest = Latest(containers={each.id: each for each in containers})
    now = observe(latest, FakeClock())
    assert (now.own("chat-0"), now.aside.get("chat-0", ())) == (owned, aside)


def test_a_reading_that_is_too_old_is_none() -> None:
    """A source that has been silent for too long counts as unread; its own words come first."""
    latest = Latest(runtime_boot_seconds=NOW - 31, gpus_boot_seconds=NOW - 30)
    assert observe(latest, FakeClock(), stale_seconds=30.0).errors == {
        "runtime": SourceError(message="no reading for 31 s", since_boot_seconds=NOW - 31)
    }
    said = SourceError(message="refused", since_boot_seconds=NOW - 29)
    latest.errors["runtime"] = said
    assert observe(latest, FakeClock(), stale_seconds=30.0).errors == {"runtime": said}
    assert observe(Latest(), FakeClock(), stale_seconds=30.0).errors == {}
