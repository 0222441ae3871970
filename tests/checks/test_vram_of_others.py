"""VRAM that strangers hold, that grows, that runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks import cuda_oom, strangers, vram_creep
from gpuctl.judge import judge
from gpuctl.model import Condition, ContainerReading, Event, GpuProcess, Verdict, VramPlan
from gpuctl.trends import Held, Trends
from tests import make
from tests.make import MIB, NOW

GIB = 1024 * MIB


def shared(
    *processes: GpuProcess, planned: int | None = None, past: Sequence[Event] = (), **gpu: Any
) -> list[Verdict]:
    """GPU 0 with a replica of that many bytes in container c1, and these processes."""
    replica = make.replica(vram_bytes=planned)
    now = make.snapshot(
        make.container(),
        make.container(id_="c0", name="gpuctl-chat-0.old"),
        gpus=[make.gpu(**{"processes": processes, **gpu})],
    )
    return list(strangers.CHECK.run(make.scene(now, replica, past=make.history(past))))


def process(pid: int, used: int | None, container: str | None = None, **more: Any) -> GpuProcess:
    return GpuProcess(pid=pid, used_bytes=used, container=container, **more)


OURS = process(100, 5 * GIB, "c1")


@pytest.mark.parametrize(
    ("processes", "planned", "reason"),
    [
        pytest.param([OURS], 5 * GIB, "", id="ours"),
        pytest.param([process(9, GIB, "c0")], 5 * GIB, "", id="our-old-one"),
        pytest.param([OURS, process(9, 512 * MIB)], 5 * GIB, "", id="a-desktop"),
        pytest.param([OURS, process(9, 513 * MIB)], 5 * GIB, "vram_held_by_others", id="more"),
        pytest.param([process(9, GIB, "x")], 4 * GIB, "vram_held_by_others", id="a-container"),
        pytest.param([process(9, 512 * MIB)], 5632 * MIB, "", id="just-fits"),
        pytest.param([process(9, 2 * GIB)], 5 * GIB, "vram_does_not_fit", id="does-not-fit"),
        pytest.param([process(9, 400 * MIB)], 5800 * MIB, "vram_does_not_fit", id="little-but-too"),
        pytest.param([process(9, None)], 5 * GIB, "", id="not-reported"),
    ],
)
def test_strangers(processes: list[GpuProcess], planned: int | None, reason: str) -> None:
    """Whoever is no container of ours, beyond what a desktop holds or beside what is planned."""
    (verdict,) = shared(*processes, planned=planned)
    assert (verdict.state, verdict.reason) == ("degraded" if reason else "ok", reason)
    assert verdict.remedy == "none"


@pytest.mark.parametrize(
    ("planned", "held", "reasons"),
    [
        pytest.param(
            5 * GIB,
            [511, 513, 511, 513, 461, 460, 513],
            ["", *["vram_held_by_others"] * 4, "", "vram_held_by_others"],
            id="more-than-a-desktop",
        ),
        pytest.param(
            5800 * MIB,
            [344, 345, 344, 310, 309, 345],
            ["", *["vram_does_not_fit"] * 3, "", "vram_does_not_fit"],
            id="just-beside-it",
        ),
        pytest.param(
            5 * GIB,
            [1025, 1023, 921, 513, 460],
            ["vram_does_not_fit"] * 2 + ["vram_held_by_others"] * 2 + [""],
            id="from-one-to-the-other",
        ),
    ],
)
def test_what_is_about_at_a_limit_does_not_come_and_go(
    planned: int, held: list[int], reasons: list[str]
) -> None:
    """What strangers hold, in MiB, tick by tick: each change of the condition is an Event."""
    known: dict[tuple[str, str], Condition] = {}
    replica, found = make.replica(vram_bytes=planned), []
    for mib in held:
        now = make.snapshot(gpus=[make.gpu(processes=[process(9, mib * MIB)])])
        scene = make.scene(now, replica, before=known.values())
        known = dict(judge([strangers.CHECK], scene))
        found.append(known["strangers", "GPU-0"].verdict.reason)
    assert found == reasons


@pytest.mark.parametrize(
    ("container", "state"),
    [
        pytest.param({}, "ok", id="it-runs"),
        pytest.param({"name": "gpuctl-chat-0.old"}, "ok", id="put-aside"),
        pytest.param({"pid": 101}, "degraded", id="another-pid"),
        pytest.param({"pid": None}, "degraded", id="no-pid"),
    ],
)
def test_an_engine_whose_cgroup_cannot_be_read_is_ours(
    container: dict[str, Any], state: str
) -> None:
    """The runtime told the pid of its first process, whatever /proc lets us see."""
    gpu = make.gpu(processes=[process(100, 4 * GIB)])
    now = make.snapshot(make.container(**container), gpus=[gpu])
    (verdict,) = strangers.CHECK.run(make.scene(now, make.replica(vram_bytes=4 * GIB)))
    assert verdict.state == state


def test_strangers_are_named_the_largest_first() -> None:
    """Five by pid, program and container; the others are counted."""
    many = [process(pid, pid * MIB, name="python3") for pid in range(1, 7)]
    (verdict,) = shared(OURS, *many, process(812, 700 * MIB, "other", name="Xorg"))
    assert verdict.evidence["vram_bytes"] == 721 * MIB
    assert verdict.evidence["more"] == 2
    named = verdict.evidence["processes"]
    assert isinstance(named, tuple)
    assert named[:2] == (
        {"pid": 812, "name": "Xorg", "vram_bytes": 700 * MIB, "container": "other"},
        {"pid": 6, "name": "python3", "vram_bytes": 6 * MIB},
    )
    assert len(named) == 5


def test_the_last_container_of_a_replica_is_no_stranger() -> None:
    """It has just ended, and its process goes on for a moment."""
    (verdict,) = shared(process(9, GIB, "gone"), past=make.served(id_="gone"))
    assert verdict.state == "ok"


def test_a_reading_from_before_the_last_deed_accuses_nobody() -> None:
    """A replica serves from elsewhere before the GPU that it has left is read again."""
    moved = make.served(id_="new", at=NOW + 1)
    assert shared(process(9, GIB, "gone"), past=moved) == []


def test_what_was_known_of_strangers_holds_until_the_next_reading() -> None:
    """No start and no stop of a replica makes one go away for a moment."""
    replica, gpu = make.replica(), make.gpu(processes=(process(9, GIB),))
    now = make.snapshot(make.container(), gpus=[gpu])
    before = judge([strangers.CHECK], make.scene(now, replica))
    past = make.history(make.served(at=NOW + 1))
    scene = make.scene(now, replica, past=past, before=before.values())
    assert list(strangers.CHECK.run(scene)) == [each.verdict for each in before.values()]
    assert [each.verdict.reason for each in before.values()] == ["vram_held_by_others"]


def test_where_a_start_is_under_way_nobody_is_accused() -> None:
    """Its container is not listed before its process holds VRAM."""
    start = make.event("attempt", "chat-0", "wanted", action="start", attempt="a")
    assert shared(process(9, GIB, "new"), past=[start]) == []


@pytest.mark.parametrize("fields", [{"processes": None}, {"state": "lost"}])
def test_processes_that_are_not_reported_are_not_judged(fields: dict[str, Any]) -> None:
    assert shared(**fields) == []


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        pytest.param(768 * MIB, "vram_held_by_others", id="fits"),
        pytest.param(1025 * MIB, "vram_does_not_fit", id="does-not"),
    ],
)
def test_what_the_driver_keeps_and_the_fullest_of_a_group(held: int, reason: str) -> None:
    """8 GiB over two cards, half a GiB more than half of it on one, of which half a GiB is kept."""
    vram = VramPlan(total_bytes=8 * GIB, uneven_bytes=GIB // 2, source="headers")
    replica = make.replica(gpus=(0, 1), vram=vram, vram_bytes=vram.total_bytes)
    card = make.gpu(processes=[process(9, held)], memory_reserved_bytes=GIB // 2)
    scene = make.scene(make.snapshot(make.container(), gpus=[card]), replica)
    assert [verdict.reason for verdict in strangers.CHECK.run(scene)] == [reason]


def test_a_card_of_unknown_size_has_no_limit() -> None:
    (verdict,) = shared(process(9, 99 * GIB), planned=GIB, memory_total_bytes=None)
    assert verdict.reason == "vram_held_by_others"


def rising(count: int = 24, step: int = 50) -> tuple[tuple[float, float], ...]:
    """Up to 5,500 MiB by *step* MiB each half minute."""
    return tuple((NOW - 30.0 * n, float((5500 - step * n) * MIB)) for n in reversed(range(count)))


def stepped(*steps_mib: int) -> tuple[tuple[float, float], ...]:
    """Up to 5,500 MiB by these steps, 33 samples long, the last of them a step."""
    end = 5500 - sum(steps_mib)
    each = 33 // len(steps_mib)
    grown = [sum(steps_mib[: (n + 1) // each]) for n in range(each * len(steps_mib))]
    first = NOW - 30.0 * (len(grown) - 1)
    return tuple((first + 30.0 * n, float((end + more) * MIB)) for n, more in enumerate(grown))


def creeping(
    *events: Event,
    points: tuple[tuple[float, float], ...] | None = None,
    container: ContainerReading | None = None,
    planned: int | None = 5 * GIB,
    used: int | None = 5900 * MIB,
    held_by: str = "c1",
    errors: dict[str, str] | None = None,
    listed: bool = True,
    ready_at: float = NOW - 1000,
) -> list[Verdict]:
    replica = make.replica(vram_bytes=planned)
    gpus = [make.gpu(memory_used_bytes=used)] if listed else []
    now = make.snapshot(container or make.container(), gpus=gpus, errors=errors)
    scene = make.scene(now, replica, past=make.history(make.served(at=ready_at), events))
    held = Held(container=held_by, points=rising() if points is None else points)
    return list(vram_creep.CHECK.run(replace(scene, trends=Trends(replicas={"chat-0": held}))))


OOM = make.event("cuda_oom", "chat-0", "cuda_oom", NOW - 3600, container="c0", line="no VRAM")


@pytest.mark.parametrize(
    ("fields", "events", "state", "remedy"),
    [
        pytest.param({}, [], "degraded", "none", id="it-grows-and-the-card-is-full"),
        pytest.param({}, [OOM], "failed", "restart", id="and-ran-out-before"),
        pytest.param(
            {}, [replace(OOM, boot_seconds=NOW - 86401)], "degraded", "none", id="long-ago"
        ),
        pytest.param({"used": 5836 * MIB}, [], "ok", "none", id="below-95-percent"),
        pytest.param({"used": None}, [OOM], "ok", "none", id="not-reported"),
        pytest.param({"listed": False}, [OOM], "ok", "none", id="gpu-not-listed"),
        pytest.param({"planned": 5501 * MIB}, [OOM], "ok", "none", id="as-planned"),
        pytest.param({"planned": None}, [OOM], "ok", "none", id="no-plan-to-exceed"),
        pytest.param({"planned": 5469 * MIB}, [OOM], "ok", "none", id="hardly-beyond-its-plan"),
        pytest.param({"planned": 5468 * MIB}, [OOM], "failed", "restart", id="32-mib-beyond"),
        pytest.param({"points": rising(step=0)}, [OOM], "ok", "none", id="it-stands"),
        pytest.param({"points": rising(step=1)}, [OOM], "ok", "none", id="by-23-mib-in-all"),
        pytest.param({"points": rising(step=2)}, [], "degraded", "none", id="by-46-mib-in-all"),
        pytest.param({"points": rising(step=-50)}, [OOM], "ok", "none", id="it-shrinks"),
        pytest.param({"points": stepped(2, 0)}, [OOM], "ok", "none", id="2-mib-once"),
        pytest.param({"points": stepped(800, 0)}, [OOM], "ok", "none", id="a-large-step-once"),
        pytest.param({"points": stepped(99, 99, 99)}, [OOM], "ok", "none", id="three-steps"),
        pytest.param(
            {"points": stepped(*[60] * 11)}, [], "degraded", "none", id="a-step-every-90-seconds"
        ),
        pytest.param({"points": ((NOW, 1.0),) * 24}, [OOM], "ok", "none", id="no-line"),
    ],
)
def test_creep(fields: dict[str, Any], events: list[Event], state: str, remedy: str) -> None:
    """Told when it grows beyond its plan into a full card; renewed only if it ran out before."""
    (verdict,) = creeping(*events, **fields)
    assert (verdict.state, verdict.remedy) == (state, remedy)
    assert verdict.reason == ("" if state == "ok" else "vram_creeps")


def test_what_is_told_of_creep() -> None:
    """50 MiB in half a minute are 6,000 MiB an hour; the words of the end before are kept."""
    (verdict,) = creeping(OOM)
    assert verdict.evidence == {
        "container": "c1",
        "vram_bytes": 5500 * MIB,
        "planned_bytes": 5 * GIB,
        "grows_bytes_an_hour": 6000 * MIB,
        "card_ratio": 0.96,
        "ran_out": "no VRAM",
    }


def test_the_learned_baseline_counts_as_planned() -> None:
    """What it settled at is what it needs, whatever was estimated."""
    settled = make.event("baseline", vram_bytes=5600 * MIB)
    (verdict,) = creeping(settled)
    assert (verdict.state, verdict.evidence["planned_bytes"]) == ("ok", 5600 * MIB)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"held_by": "c9"}, id="of-another-container"),
        pytest.param({"points": rising(23)}, id="too-few"),
        pytest.param({"ready_at": NOW - 30 * 23}, id="too-few-since-it-was-ready"),
        pytest.param({"container": make.container(state="exited")}, id="ended"),
        pytest.param({"container": make.container("chat-9")}, id="not-there"),
        pytest.param({"errors": {"gpus": "hung"}}, id="gpus-unread"),
        pytest.param({"errors": {"runtime": "down"}}, id="runtime-unread"),
    ],
)
def test_what_was_not_watched_does_not_creep(fields: dict[str, Any]) -> None:
    assert creeping(**fields) == []


def test_a_replica_that_loads_does_not_creep() -> None:
    """It takes ever more until it is ready, and more than was planned if that was too little."""
    replica = make.replica(vram_bytes=5 * GIB)
    now = make.snapshot(make.container(), gpus=[make.gpu(memory_used_bytes=5900 * MIB)])
    scene = make.scene(now, replica, past=make.history(make.started(), OOM))
    held = Held(container="c1", points=rising())
    assert (
        list(vram_creep.CHECK.run(replace(scene, trends=Trends(replicas={"chat-0": held})))) == []
    )


def oom(ago: float, line: str = "CUDA out of memory") -> Event:
    return make.event("cuda_oom", "chat-0", "cuda_oom", NOW - ago, container="c0", line=line)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        pytest.param([], None, id="never"),
        pytest.param([oom(10)], "ok", id="once"),
        pytest.param([oom(1799), oom(10)], "degraded", id="twice-in-half-an-hour"),
        pytest.param([oom(1800), oom(10)], "ok", id="twice-half-an-hour-apart"),
        pytest.param([oom(1900), oom(1850)], None, id="long-ago"),
    ],
)
def test_running_out_again(events: list[Event], state: str | None) -> None:
    """Once is an accident that its restart mends; twice it is planned too large."""
    scene = make.scene(make.snapshot(), past=make.history(events))
    found = list(cuda_oom.CHECK.run(scene))
    assert [(each.state, each.remedy) for each in found] == ([(state, "none")] if state else [])


@pytest.mark.parametrize(
    ("engine", "first"),
    [
        ("llama.cpp", "context"),
        ("vllm", "options.gpu_memory_utilization"),
        ("container", "context"),
    ],
)
def test_what_to_lower_depends_on_the_engine(engine: str, first: str) -> None:
    """With its last words, and how often."""
    past = make.history(oom(50, "first"), oom(10, "last"))
    scene = make.scene(make.snapshot(), make.replica(engine=engine), past=past)
    (verdict,) = cuda_oom.CHECK.run(scene)
    assert (verdict.evidence["count"], verdict.evidence["line"]) == (2, "last")
    lower = verdict.evidence["lower"]
    assert isinstance(lower, tuple)
    assert lower[0] == first
