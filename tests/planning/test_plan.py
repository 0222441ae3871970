"""A profile and a host become a plan."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.errors import PlanRefused
from gpuctl.model import (
    GIB,
    HealthSettings,
    Mount,
    Plan,
    ProbeSpec,
    Profile,
    WatchdogSettings,
)
from gpuctl.planning import plan, plan_document

from .make import ENGINES, gpu, host, planned, profile, workload


def test_replica() -> None:
    """A replica carries all that the watchdog and the routes need to know of it."""
    replica = planned(workload(gpus=((2,),), parallel=4, aliases=("llama",))).replicas[0]
    assert (replica.name, replica.container_name) == ("chat-0", "gpuctl-chat-0")
    assert (replica.workload, replica.engine, replica.kind) == ("chat", "llama.cpp", "chat")
    assert (replica.gpus, replica.slots) == ((gpu(2),), 4)
    assert replica.model == "chat"
    assert replica.aliases == ("llama",)
    assert replica.digest.startswith("v1:")


def test_ports_count_over_the_workload() -> None:
    """Replica i listens on port + i."""
    plan = planned(workload(port=8081))
    assert [r.spec.host_port for r in plan.replicas] == [8081, 8082, 8083, 8084]
    assert [r.probe.port for r in plan.replicas] == [8081, 8082, 8083, 8084]


@pytest.mark.parametrize(
    ("model", "aliases", "expected"),
    [
        pytest.param("/m/Big-8B.Q4.gguf", (), ("Big-8B.Q4",), id="a file's name"),
        pytest.param("org/model", ("llama",), ("llama", "org/model"), id="a hub's name, last"),
        pytest.param("/m/model-dir", (), ("model-dir",), id="a directory"),
        pytest.param("chat.gguf", (), (), id="the workload's own name"),
        pytest.param("x.gguf", ("x", "x"), ("x",), id="once"),
    ],
)
def test_aliases(model: str, aliases: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """A client may use the workload's name, its aliases, or the model's."""
    replica = planned(workload(model=model, aliases=aliases, gpus=((0,),))).replicas[0]
    assert replica.aliases == expected


def test_shared_model_names_nothing() -> None:
    """A model that two workloads serve does not tell which of them is meant."""
    plan = planned(workload("a", model="m.gguf"), workload("b", model="m.gguf", port=9000))
    assert {r.aliases for r in plan.replicas} == {()}


def test_alias_of_another() -> None:
    """A name leads to one workload."""
    with pytest.raises(PlanRefused, match=r"workloads\.b\.aliases: 'a' names workload a already"):
        planned(workload("a"), workload("b", port=9000, aliases=("a",)))


@pytest.mark.parametrize(
    ("changes", "runtime", "message"),
    [
        pytest.param({"engine": "tgi"}, "docker", "there is no engine 'tgi'", id="engine"),
        pytest.param({"engine": "vllm"}, "process", "vllm does not run in runtime", id="runtime"),
        pytest.param({"image": ""}, "docker", "llama.cpp needs an image on Docker", id="image"),
        pytest.param({"options": {"batsh": 1}}, "docker", "options: .*batsh", id="option"),
        pytest.param({"options": {"batch": 0}}, "docker", "batch: 0 is not 1", id="value"),
        pytest.param({"args": ("--port=1",)}, "docker", "args: --port is set by gpuctl", id="args"),
        pytest.param(
            {"mounts": (Mount(source="./m", target="/models"),)},
            "docker",
            "'./m' is neither an absolute path nor the name of a volume",
            id="mount",
        ),
        pytest.param(
            {"environment": {"CUDA_VISIBLE_DEVICES": "2,3"}},
            "docker",
            "environment: CUDA_VISIBLE_DEVICES is gpuctl's to set",
            id="variable",
        ),
        pytest.param({"mounts": ()}, "docker", "nothing is mounted at /models", id="by its engine"),
        pytest.param(
            {"engine": "container", "network": "host", "container_port": 80},
            "docker",
            "on the host's network chat-0 must listen on 8081, and its container_port is 80",
            id="port on the host",
        ),
    ],
)
def test_refused(changes: dict[str, Any], runtime: str, message: str) -> None:
    """What this host's runtime and the engine cannot do is refused before anything starts."""
    with pytest.raises(PlanRefused, match=message):
        planned(workload(**changes), on=host(runtime=runtime))


def test_every_mistake_at_once() -> None:
    """All mistakes are found before any is reported, each on its line, each with its file."""
    with pytest.raises(PlanRefused) as refusal:
        planned(
            workload(gpus=((9,),), options={"batch": 0}),
            workload("embed", port=9000, engine="tgi"),
            source="rack.toml",
        )
    assert [line.split(": ")[:2] for line in refusal.value.message.splitlines()] == [
        ["rack.toml", "workloads.chat.gpus"],
        ["rack.toml", "workloads.chat.options"],
        ["rack.toml", "workloads.embed.engine"],
    ]
    assert len(refusal.value.hint.splitlines()) == 3


def test_own_watchdog_numbers() -> None:
    """A workload's own numbers prevail over the profile's, for its replicas alone."""
    health = HealthSettings(path="/ok", interval_seconds=30, timeout_seconds=10, retries=5)
    settings = WatchdogSettings(interval_seconds=2, health_timeout_seconds=3)
    plan = planned(
        workload(health=health, startup_seconds=3600, stop_grace_seconds=0, gpus=((0,),)),
        workload("plain", port=9000, gpus=((1,),)),
        watchdog=settings,
    )
    own, plain = plan.replicas
    assert own.watchdog == dataclasses.replace(
        settings,
        health_timeout_seconds=10,
        hard_failures=5,
        startup_seconds=3600,
        startup_limit_seconds=3600,
        stop_grace_seconds=0,
    )
    assert (own.probe.health_path, own.probe.interval_seconds, own.probe.timeout_seconds) == (
        *("/ok", 30, 10),
    )
    assert own.spec.stop_grace_seconds == 0
    assert plain.watchdog == plan.watchdog == settings
    assert isinstance(plain.probe, ProbeSpec)
    assert (plain.probe.interval_seconds, plain.probe.timeout_seconds) == (2, 3)


def test_digest_is_of_the_intent() -> None:
    """An upgrade that changes what gpuctl adds changes the spec's digest, not the intent's."""
    replica = planned(workload(gpus=((0,),))).replicas[0]
    upgraded = planned(workload(gpus=((0,),), pids_limit=9)).replicas[0]
    assert replica.digest == upgraded.digest
    assert replica.spec_digest != upgraded.spec_digest


def test_digest_is_not_of_an_estimate() -> None:
    """What a model was measured to take is told with the spec, and outdates no container."""
    estimated, measured = (
        planned(workload(gpus=((0, 1),), vram_bytes=vram_bytes)).replicas[0]
        for vram_bytes in (6 * GIB, 8 * GIB)
    )
    assert (estimated.spec.vram_bytes, measured.spec.vram_bytes) == (3 * GIB, 4 * GIB)
    assert estimated.spec_digest == measured.spec_digest


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"intent": '{"context":8192}'}, id="what was written"),
        pytest.param({"gpus": ((1,),)}, id="its GPU"),
        pytest.param({"port": 9000}, id="its port"),
        pytest.param({"name": "talk"}, id="its name"),
    ],
)
def test_digest_differs(changes: dict[str, Any]) -> None:
    """A replica is another when the operator said something else about it."""
    base: dict[str, Any] = {"gpus": ((0,),)}
    before = planned(workload(**base)).replicas[0]
    after = planned(workload(**({"name": "chat"} | base | changes))).replicas[0]
    assert before.digest != after.digest


hosts = st.integers(0, 6).map(host)
placements = st.sampled_from(
    ["each", "none", ((0,),), ((0, 1),), ((1,), (0,)), (("GPU-0002",),), ((5,), (9,))]
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    count = draw(st.integers(1, 4))
    return profile(
        *(
            workload(
                f"w{i}",
                gpus=draw(placements),
                port=draw(st.integers(8000, 8010)) + 12 * i,
                replicas=draw(st.integers(1, 3)),
                replicas_per_gpu=draw(st.integers(1, 2)),
                engine=draw(st.sampled_from(["llama.cpp", "vllm", "container"])),
                environment=draw(st.dictionaries(st.sampled_from("ABC"), st.text(max_size=2))),
            )
            for i in range(count)
        ),
        reserve=draw(st.sampled_from([(), (0,), (3,), (4, 5)])),
    )


def attempt(profile: Profile, on: Any, *, strict: bool) -> Plan | None:
    try:
        return plan(profile, on, ENGINES, strict=strict)
    except PlanRefused:
        return None


@given(profile=profiles(), on=hosts, strict=st.booleans())
def test_same_bytes(profile: Profile, on: Any, strict: bool) -> None:
    """The same profile and host give the same bytes."""
    first, second = (attempt(profile, on, strict=strict) for _ in range(2))
    assert repr(first) == repr(second)


@given(profile=profiles(), on=hosts, strict=st.booleans())
def test_invariants(profile: Profile, on: Any, strict: bool) -> None:
    """No two share a port or a name, the reserve runs nothing, every group is resolved."""
    made = attempt(profile, on, strict=strict)
    if made is None:
        return
    ports = [replica.spec.host_port for replica in made.replicas]
    names = [replica.name for replica in made.replicas]
    used = {gpu.uuid for replica in made.replicas for gpu in replica.gpus}
    found = {gpu.uuid for gpu in on.gpus}
    assert len(set(ports)) == len(ports)
    assert len(set(names)) == len(names)
    assert used.isdisjoint(gpu.uuid for gpu in made.reserve)
    assert used <= {gpu.uuid for gpu in made.gpus}
    assert used <= found or not strict
    assert bool({gpu.uuid for gpu in made.gpus} - found) == bool(made.missing_gpus)
    assert all(
        replica.spec.gpus == tuple(g.uuid for g in replica.gpus) for replica in made.replicas
    )
    json.dumps(plan_document(made))
