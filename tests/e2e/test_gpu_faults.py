"""
Faults of GPUs while real containers run: each has its verdict and its one action, and nothing
else moves. The driver is the fake one, under the real binding.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.e2e.host import P106_TENTH, Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.nvml, pytest.mark.timeout(240)]

CHAT, OTHER = 18381, 18391
#: Checks of what is read once a minute.
SLOW = ("ecc", "remapped_rows")
GIB = 1024**3


@pytest.fixture(scope="module")
def host(engine: PrivateEngine) -> Iterator[Host]:
    with Host(engine, gpus="a100x8") as started:
        tables = (
            workload("chat", port=CHAT, gpus=[0, 1], vram="20g"),
            workload("other", port=OTHER, gpus=[[2, 3]], vram="60g"),
        )
        watchdog = f'{P106_TENTH}throttle_minutes = 1\ncreep_ratio = "50%"\ntrend = "500ms"\n'
        path = started.profile(
            "\n".join(tables), watchdog=watchdog, gpus="8x A100", reserve=(5, 6, 7)
        )
        ran = started.run("up", str(path), "--timeout", "60", seconds=80)
        assert ran.code == 0, f"{ran.out}\n{ran.err}\n{started.tail()}"
        yield started


@pytest.fixture(autouse=True)
def _as_it_was(host: Host) -> Iterator[None]:
    """Leave every card well, no cordon, and every replica at home."""
    fresh = host.nvml.host
    yield
    host.strangers.clear()
    host.held.clear()
    host.nvml.restore(fresh)
    if condition(host, "gpu_driver", "host"):
        # It waits a minute before it asks such a driver again; a new one asks at once.
        host.end_daemon()
        host.begin_daemon()
    else:
        read_anew(host)
    wait_for(lambda: not _failed(host), f"the GPUs to be well: {_failed(host)}", 120.0)
    for row in host.status()["gpus"]:
        if row["state"] == "cordoned":
            assert host.run("uncordon", str(row["index"]), "--timeout", "60").code == 0
    wait_for(
        lambda: all(r["phase"] == "ready" and not r["moved"] for r in host.status()["replicas"]),
        f"all to be home: {host.status()['replicas']}\n{host.tail()}",
        60.0,
    )


def _failed(host: Host) -> list[tuple[str, str]]:
    """Return what is failed of a GPU by what it says of itself now: an Xid stays until cleared."""
    return [
        (c["check"], c["subject"])
        for c in host.status()["conditions"]
        if c["state"] == "failed" and c["check"] in ("gpu_missing", "ecc", "remapped_rows")
    ]


def read_anew(host: Host) -> None:
    """End the reader of NVML: the next one reads at once what is read once a minute."""
    for child in psutil.Process(host.daemon_pid()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended already
            if "nvml" in " ".join(child.cmdline()):
                child.kill()
    ended = time.time()
    # The second reading is of one that listens for Xids as well.
    wait_for(lambda: host.status()["gpus"][1]["at"] > ended + 1.0, "a reader of NVML", 20.0)


def uuid(host: Host, index: int) -> str:
    return next(gpu.uuid for gpu in host.nvml.host.gpus if gpu.index == index)


def condition(host: Host, check: str, subject: str) -> dict[str, Any] | None:
    found = (
        c for c in host.status()["conditions"] if (c["check"], c["subject"]) == (check, subject)
    )
    return next(found, None)


def wait_reason(
    host: Host, check: str, subject: str, reason: str, *, seconds: float = 30.0
) -> None:
    def look() -> bool:
        there = condition(host, check, subject)
        return there is not None and there["reason"] == reason

    words = f"{check} of {subject} to say {reason}: {host.status()['conditions']}\n{host.tail()}"
    wait_for(look, words, seconds)


def places(host: Host) -> dict[str, list[int]]:
    return {r["name"]: [g["index"] for g in r["gpus"]] for r in host.status()["replicas"]}


Fault = Callable[[Host], object]

AVOIDED = [
    pytest.param(lambda h: h.nvml.lose(0), "gpu_missing", "gpu_lost", id="off-the-bus"),
    pytest.param(lambda h: h.nvml.xid(0, 79), "xid", "xid_79", id="xid-79"),
    pytest.param(lambda h: h.nvml.xid(0, 48), "xid", "xid_48", id="xid-48"),
    pytest.param(
        lambda h: h.nvml.set(0, ecc_uncorrected_volatile=1), "ecc", "ecc_uncorrected", id="ecc"
    ),
    pytest.param(
        lambda h: h.nvml.set(0, remapped_rows_failure=True),
        "remapped_rows", "row_remap_failed", id="row-remap-failed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "check", "reason"), AVOIDED)
def test_a_sick_gpu_is_left(host: Host, fault: Fault, check: str, reason: str) -> None:
    """The replica on it goes to the first of the reserve; its GPU is cordoned, the others stay."""
    before, seen = host.containers(), len(host.events())
    fault(host)
    if check in SLOW:
        read_anew(host)
    wait_reason(host, check, uuid(host, 0), reason)
    wait_for(
        lambda: places(host)["chat-0"] == [5] and host.replica("chat-0")["phase"] == "ready",
        f"chat-0 on GPU 5: {host.replica('chat-0')}\n{host.tail()}",
    )
    after = host.containers()
    others = ("chat-1", "other-0")
    assert {n: before[n] for n in others} == {n: after[n] for n in others}
    told = [
        (e["kind"], e["reason"]) for e in host.events()[seen:] if e["kind"] in ("cordoned", "moved")
    ]
    assert told == [("cordoned", reason), ("moved", reason)]
    why = host.run("why", "chat-0").out
    assert reason in why


TOLD = [
    pytest.param(
        lambda h: h.nvml.set(0, remapped_rows_pending=True),
        "remapped_rows", "row_remap_pending", id="row-remap-pending",
    ),
    pytest.param(
        lambda h: h.nvml.set(0, temperature_celsius=84.0), "thermal", "heat_critical", id="hot"
    ),
    pytest.param(
        lambda h: h.nvml.set(0, throttle_reasons=("hw_slowdown", "hw_thermal")),
        "throttle", "slowed_by_heat", id="slowed",
    ),
    pytest.param(
        lambda h: h.strangers.update({0: {os.getpid(): 50 * GIB}}),
        "strangers", "vram_held_by_others", id="a-stranger",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "check", "reason"), TOLD)
def test_what_is_told_moves_nothing(host: Host, fault: Fault, check: str, reason: str) -> None:
    """It is a degraded condition with its evidence; every container runs on."""
    before = host.containers()
    fault(host)
    if check in SLOW:
        read_anew(host)
    wait_reason(host, check, uuid(host, 0), reason)
    there = condition(host, check, uuid(host, 0))
    assert there is not None
    assert (there["state"], bool(there["evidence"])) == ("degraded", True)
    assert host.containers() == before
    assert not host.events("moved")[-1:] or host.events("moved")[-1]["reason"] == "moved_back"


def test_an_application_s_xid_is_an_event_and_no_more(host: Host) -> None:
    """Xid 13 names a fault of some application's: it is in the journal, and nothing moves."""
    before = host.containers()
    host.nvml.xid(0, 13)
    wait_for(
        lambda: [e["reason"] for e in host.events("xid", subject=uuid(host, 0))][-1:] == ["13"],
        f"Xid 13 in the journal\n{host.tail()}",
        15.0,
    )
    assert host.containers() == before
    assert places(host)["chat-0"] == [0]


def test_vram_that_creeps_is_told(host: Host) -> None:
    """A replica takes more and more, beyond its plan and half of the card: told, not restarted."""
    before, began = host.containers(), time.monotonic()

    def look() -> bool:
        host.held["chat-0"] = 40 * GIB + int((time.monotonic() - began) * GIB // 2)
        return condition(host, "vram_creep", "chat-0") is not None

    wait_for(look, f"chat-0 to be seen creeping\n{host.tail()}", 40.0)
    assert host.containers() == before


def test_a_model_that_runs_out_of_vram_is_back(host: Host, request: pytest.FixtureRequest) -> None:
    """Its last line says so: it serves again within 30 s and its load, and the line is kept."""
    before = host.containers()
    began = time.monotonic()
    order(CHAT, print="RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", exit=1)
    host.wait_replaced("chat-0", before["chat-0"][0])
    seconds = time.monotonic() - began
    reporter: Any = request.config.pluginmanager.getplugin("terminalreporter")
    reporter.write_line(f"\nout of VRAM → ready again after {seconds:.1f} s")
    assert seconds < 30.0
    told = host.events("cuda_oom", subject="chat-0")[-1]
    assert "Tried to allocate 2.00 GiB" in told["evidence"]["line"]
    assert places(host)["chat-0"] == [0]


def test_a_memory_error_restarts_what_it_hit(host: Host) -> None:
    """Xid 94 is contained in one application: the replica on that GPU starts anew, on that GPU."""
    before = host.containers()
    host.nvml.xid(0, 94)
    host.wait_replaced("chat-0", before["chat-0"][0])
    after = host.containers()
    others = ("chat-1", "other-0")
    assert {n: before[n] for n in others} == {n: after[n] for n in others}
    assert places(host)["chat-0"] == [0]


def test_a_hung_driver_restarts_nothing(host: Host) -> None:
    """NVML does not come back: it is said, what is shown is old, and every replica goes on."""
    before = host.containers()
    host.nvml.hang("nvmlDeviceGetMemoryInfo_v2")
    wait_reason(host, "gpu_driver", "host", "nvml_hung", seconds=60.0)
    assert host.containers() == before
    assert all(row["phase"] in ("ready", "degraded") for row in host.status()["replicas"])


def test_a_driver_upgraded_under_way_restarts_nothing(host: Host) -> None:
    """Library and driver differ: what runs runs on, and the advice is a reboot."""
    before = host.containers()
    host.end_daemon()
    host.nvml.mismatch()
    host.begin_daemon()
    wait_reason(host, "gpu_driver", "host", "driver_mismatch", seconds=60.0)
    there = condition(host, "gpu_driver", "host")
    assert there is not None
    assert "reboot" in there["evidence"]["hint"]
    assert host.containers() == before


def test_another_order_after_a_reboot_changes_nothing(host: Host) -> None:
    """The cards are enumerated anew: a new daemon keeps every replica on the card it is on."""
    before = host.containers()
    mine = {r["name"]: [g["uuid"] for g in r["gpus"]] for r in host.status()["replicas"]}
    host.end_daemon()
    host.nvml.shuffle()
    host.begin_daemon()
    wait_for(
        lambda: all(r["phase"] == "ready" for r in host.status()["replicas"]),
        f"all to be ready\n{host.tail()}",
    )
    assert host.containers() == before
    assert {r["name"]: [g["uuid"] for g in r["gpus"]] for r in host.status()["replicas"]} == mine
