"""What a model really takes of its GPUs is told once it has settled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import History, ReplicaHistory, fold
from gpuctl.measuring import measured
from gpuctl.model import Condition, EventKind, GpuProcess, Plan, SourceError, VramPlan
from tests import make

KEY = "llama.cpp | m.gguf"
SUM = VramPlan(total_bytes=900, source="headers", measure_key=KEY)


def plan(**changes: Any) -> Plan:
    made = make.replica(vram=SUM, **{"spec_digest": "s", **changes})
    return make.plan(replace(made, watchdog=replace(made.watchdog, vram_settle_seconds=60.0)))


def history(**changes: Any) -> History:
    known = {"ready_container": "c1", "ready_at": make.NOW - 100, "spec_digest": "s"}
    return History(replicas={"chat-0": ReplicaHistory(**{**known, **changes})})


def now(held: int = 1000, **changes: Any) -> Any:
    gpu = make.gpu(0, processes=(GpuProcess(pid=100, used_bytes=held, container="c1"),))
    container = make.container(**{"gpus": ("GPU-0",), **changes.pop("container", {})})
    return replace(make.snapshot(container, gpus=(gpu,)), **changes)


def settled() -> Plan:
    return replace(
        plan(),
        replicas=tuple(
            replace(r, watchdog=replace(r.watchdog, vram_settle_seconds=60.0))
            for r in plan().replicas
        ),
    )


def test_a_settled_replica() -> None:
    """What it holds is stored beside what was predicted, under what planning looks it up by."""
    assert measured(settled(), now(), history(), {}) == {
        KEY: {
            "vram_bytes": 1000,
            "predicted_bytes": 900,
            "source": "headers",
            "replica": "chat-0",
        }
    }


@pytest.mark.parametrize(
    ("before", "stored"),
    [
        pytest.param(990, True, id="more than one per cent more"),
        pytest.param(995, False, id="less than one per cent more"),
        pytest.param(2000, False, id="less"),
    ],
)
def test_a_peak_is_news_once(before: int, stored: bool) -> None:
    """Only what is higher than what is stored, by more than one per cent, is stored again."""
    known = replace(history(), measured={KEY: before})
    assert bool(measured(settled(), now(), known, {})) is stored


def test_the_highest_of_several() -> None:
    """Replicas that are alike are one model: the highest of them counts."""
    two = tuple(
        replace(settled().replicas[0], name=name, gpus=(make.identity(index),))
        for index, name in enumerate(("chat-0", "chat-1"))
    )
    known = history().replicas["chat-0"]
    both = History(replicas={"chat-0": known, "chat-1": replace(known, ready_container="c2")})
    scene = now()
    other = make.gpu(1, processes=(GpuProcess(pid=7, used_bytes=3000, container="c2"),))
    scene = replace(
        scene,
        gpus={**scene.gpus, "GPU-1": other},
        owned={**scene.owned, "chat-1": make.container("chat-1", "c2", gpus=("GPU-1",))},
    )
    found = measured(replace(settled(), replicas=two), scene, both, {})
    assert found[KEY]["vram_bytes"] == 3000


@pytest.mark.parametrize(
    ("scene", "known", "vram"),
    [
        pytest.param({"owned": {}}, {}, SUM, id="no container"),
        pytest.param({"container": {"state": "exited"}}, {}, SUM, id="not running"),
        pytest.param({"container": {"id_": "c9"}}, {}, SUM, id="not ready yet"),
        pytest.param({"container": {"digest": "v1:b"}}, {}, SUM, id="another intent's"),
        pytest.param({"container": {"gpus": ("GPU-9",)}}, {}, SUM, id="on another GPU"),
        pytest.param({}, {"spec_digest": "old"}, SUM, id="started by an earlier plan"),
        pytest.param({}, {"ready_at": make.NOW - 10}, SUM, id="not settled"),
        pytest.param({"gpus_boot_seconds": None}, {}, SUM, id="GPUs never read"),
        pytest.param(
            {"errors": {"gpus": SourceError(message="x", since_boot_seconds=0)}},
            {},
            SUM,
            id="GPUs not readable",
        ),
        pytest.param({}, {}, None, id="nothing planned"),
        pytest.param({}, {}, replace(SUM, measure_key=""), id="nothing to store it under"),
        pytest.param({}, {}, replace(SUM, source="claim"), id="a claim"),
    ],
)
def test_what_is_not_measured(
    scene: dict[str, Any], known: dict[str, Any], vram: VramPlan | None
) -> None:
    """Only a replica that has settled, as it is planned and where it is planned, is measured."""
    made = settled()
    made = replace(made, replicas=tuple(replace(r, vram=vram) for r in made.replicas))
    assert measured(made, now(**scene), history(**known), {}) == {}


@pytest.mark.parametrize("state", ["degraded", "failed"])
def test_what_leaks_is_not_what_it_takes(state: str) -> None:
    """The next plan must not be refused for what a leak has grown to."""
    held = make.conditions(make.condition("vram_creep", "chat-0", state=state))
    assert measured(settled(), now(), history(), held) == {}


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(make.condition("vram_creep", "chat-0", state="ok"), id="well"),
        pytest.param(make.condition("vram_creep", "chat-1"), id="another"),
        pytest.param(make.condition("health", "chat-0"), id="for-another-reason"),
    ],
)
def test_what_does_not_leak_is_measured(held: Condition) -> None:
    assert KEY in measured(settled(), now(), history(), make.conditions(held))


def test_an_adopted_container() -> None:
    """Of one that ran before, its own digest tells that it is as planned."""
    assert measured(settled(), now(), history(spec_digest=""), {})


def test_the_newest_is_remembered() -> None:
    """A restarted daemon knows what was measured: the newest of each model."""
    first = make.event(EventKind.MEASURED, KEY, "peak", vram_bytes=5)
    last = make.event(EventKind.MEASURED, KEY, "peak", vram_bytes=7)
    odd = make.event(EventKind.MEASURED, KEY, "peak")
    known = fold(fold(fold(History(), first), last), odd)
    assert known.measured == {KEY: 7}
