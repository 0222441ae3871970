"""Which of the Xids reported are news: one Event for each burst, and none twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import XIDS_KEPT, History, fold, remember
from gpuctl.model import Event, EventKind, GpuProcess, Snapshot, SourceError, Xid
from gpuctl.sightings import sightings
from tests import make
from tests.make import AT, BOOT, NOW

BUS = "00000000:01:00.0"
#: A daemon that was started long before.
BEGUN = make.history(make.event("daemon", "daemon", at=NOW - 5000))


def xid(number: int = 79, ago: float = 10.0, **fields: Any) -> Xid:
    return Xid(
        **{
            "number": number,
            "gpu": "GPU-0",
            "pci_bus_id": BUS,
            "source": "kernel",
            "at": AT - ago,
            "boot_seconds": NOW - ago,
            **fields,
        }
    )


def board(*xids: Xid, **fields: Any) -> Snapshot:
    holder = GpuProcess(pid=100, name="llama-server", container="c1")
    told = tuple(sorted(xids, key=lambda each: each.boot_seconds))
    return replace(make.snapshot(gpus=[make.gpu(processes=[holder])], **fields), xids=told)


def news(history: History, *xids: Xid, **fields: Any) -> list[tuple[str, str, float]]:
    """Return subject, number and age of what is news."""
    found = sightings(board(*xids, **fields), history)
    return [(event.subject, event.reason, NOW - event.boot_seconds) for event in found]


def told(number: int, ago: float, subject: str = "GPU-0") -> Event:
    return make.event("xid", subject, str(number), at=NOW - ago)


def test_an_xid_is_an_event_of_its_own_time() -> None:
    """It tells its number, the kernel's words, and whose process it names."""
    found = sightings(board(xid(pid=100, message="GPU has fallen off the bus")), BEGUN)
    assert found == (
        Event(
            kind=EventKind.XID,
            subject="GPU-0",
            reason="79",
            evidence={
                "source": "kernel",
                "message": "GPU has fallen off the bus",
                "pid": 100,
                "process": "llama-server",
                "container": "c1",
                "pci_bus_id": BUS,
            },
            at=AT - 10,
            boot_id=BOOT,
            boot_seconds=NOW - 10,
        ),
    )


def test_a_process_that_is_gone_is_named_by_its_pid_alone() -> None:
    """The GPU lists it no more, or is listed no more itself."""
    for gone in (xid(pid=7), xid(pid=7, gpu="GPU-9")):
        (event,) = sightings(board(gone), BEGUN)
        named = [event.evidence[name] for name in ("pid", "process", "container")]
        assert named == [7, None, None]


@pytest.mark.parametrize(
    ("number", "seconds", "ages"),
    [
        pytest.param(31, 180.0, [500.0], id="within-three-minutes"),
        pytest.param(31, 180.5, [500.0, 319.5], id="later"),
        pytest.param(13, 15.0, [500.0], id="13-within-fifteen-seconds"),
        pytest.param(13, 15.5, [500.0, 484.5], id="13-later"),
        pytest.param(31, 0.0, [500.0], id="at-once"),
    ],
)
def test_a_burst_is_told_once(number: int, seconds: float, ages: list[float]) -> None:
    """What follows soon is the same error; an application's own is another sooner."""
    pair = (xid(number, 500), xid(number, 500 - seconds))
    assert [age for _, _, age in news(BEGUN, *pair)] == ages


def test_a_storm_is_told_every_three_minutes() -> None:
    """A burst that never ends is not one for ever; each look at it tells the same."""
    storm = [xid(31, 1000 - each) for each in range(0, 1000, 10)]
    ages = [1000, 810, 620, 430, 240, 50]
    assert [age for _, _, age in news(BEGUN, *storm)] == ages
    history = BEGUN
    for event in sightings(board(*storm), BEGUN):
        history = fold(history, event)
    assert news(history, *storm) == []


def test_nvml_and_the_kernel_tell_of_one_xid() -> None:
    """The one that came first is told, whichever it was."""
    pair = (xid(48, 10.0), xid(48, 9.5, source="nvml"))
    (event,) = sightings(board(*pair), BEGUN)
    assert event.evidence["source"] == "kernel"


def test_other_numbers_and_other_gpus_have_bursts_of_their_own() -> None:
    """Each is told."""
    others = (xid(79, 12), xid(48, 11), xid(79, 10, gpu="GPU-1"))
    assert news(BEGUN, *others) == [("GPU-0", "79", 12), ("GPU-0", "48", 11), ("GPU-1", "79", 10)]


@pytest.mark.parametrize(
    ("remembered", "ago", "again"),
    [
        pytest.param(told(79, 20), 10, False, id="since"),
        pytest.param(told(79, 10), 10, False, id="itself"),
        pytest.param(told(79, 5), 400, False, id="before-it"),
        pytest.param(told(79, 400), 10, True, id="long-since"),
        pytest.param(told(48, 20), 10, True, id="another-number"),
        pytest.param(told(79, 20, "GPU-1"), 10, True, id="another-gpu"),
        pytest.param(told(79, 20, BUS), 10, False, id="by-its-bus-id"),
    ],
)
def test_what_is_remembered_is_not_told_again(remembered: Event, ago: float, again: bool) -> None:
    """A log that is read anew tells nothing that is known."""
    history = fold(BEGUN, remembered)
    assert news(history, xid(79, ago)) == ([("GPU-0", "79", ago)] if again else [])


def test_an_xid_right_after_a_boot_is_another_one() -> None:
    """The same error three minutes before and after a reboot has come twice."""
    before = replace(told(79, 0), boot_id="earlier", at=AT - NOW - 60)
    history = remember((before,), boot_id=BOOT, boot_seconds=NOW, now=AT, cautious=False)
    after = xid(79, ago=NOW - 20)
    assert history.gpu("GPU-0").xids[0].at == -60
    assert news(history, after) == [("GPU-0", "79", NOW - 20)]


def test_what_is_older_than_the_history_is_not_looked_at() -> None:
    """A fresh journal begins now, not with what the log still has of last week."""
    begun = make.history(make.event("daemon", "daemon", at=NOW - 30))
    assert news(begun, xid(79, 31), xid(48, 30)) == [("GPU-0", "48", 30)]
    assert news(History(), xid(79, 1)) == []


def test_what_made_way_in_the_history_is_not_told_again() -> None:
    """A card that tells more than is remembered does not begin from the first."""
    history = BEGUN
    for count in range(XIDS_KEPT + 1):
        history = fold(history, told(79, 900 - count))
    assert news(history, xid(79, 900), xid(79, 60)) == [("GPU-0", "79", 60)]


def test_a_card_that_is_not_known_yet_is_waited_for() -> None:
    """Its bus id has a UUID as soon as the GPUs are read; where that fails, it is the name."""
    unnamed = xid(79, gpu="")
    unread = replace(board(unnamed), gpus={}, gpus_boot_seconds=None)
    failed = {"gpus": SourceError(message="hung", since_boot_seconds=NOW)}
    assert sightings(unread, BEGUN) == ()
    assert [e.subject for e in sightings(replace(unread, errors=failed), BEGUN)] == [BUS]
    assert news(BEGUN, unnamed) == [(BUS, "79", 10)]
    assert news(BEGUN, replace(unnamed, pci_bus_id=None)) == [("host", "79", 10)]
