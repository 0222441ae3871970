"""Replicas that are not where the profile puts them, and those that `scale` adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import (
    GIB,
    Assignment,
    Assignments,
    Known,
    LayerCache,
    ModelFacts,
    Plan,
    Replica,
    Variant,
    Workload,
    WorkloadPlan,
)
from gpuctl.planning import plan
from tests.planning.make import ENGINES, host, profile, workload

UUIDS = tuple(f"GPU-{index:04d}" for index in range(4))


def planned(
    *workloads: Workload, moved: dict[str, Assignment] | None = None, **fields: Any
) -> Plan:
    counts = fields.pop("counts", {})
    known = Known(
        assignments=Assignments(moved=moved or {}, counts=counts), facts=fields.pop("facts", {})
    )
    strict = fields.pop("strict", False)
    made = profile(*workloads, **{"reserve": (2, 3), **fields})
    return plan(made, host(4), ENGINES, strict=strict, known=known)


def only(made: Plan) -> Replica:
    (replica,) = made.replicas
    return replica


def to(*indexes: int, reason: str = "gpu_lost") -> Assignment:
    return Assignment(gpus=tuple(UUIDS[index] for index in indexes), reason=reason)


def test_a_replica_is_planned_where_it_was_moved() -> None:
    """Its name, port and home stay; its GPUs and its digest are others."""
    chat = workload(gpus=((0,),))
    before, after = only(planned(chat)), only(planned(chat, moved={"chat-0": to(2)}))
    assert (after.name, after.spec.host_port) == (before.name, before.spec.host_port)
    assert [gpu.index for gpu in after.gpus] == [2]
    assert (after.home, after.moved) == (before.gpus, to(2))
    assert after.digest != before.digest
    assert (before.moved, before.home) == (None, before.gpus)


def test_a_gpu_that_is_gone_is_stood_in_for() -> None:
    """It is missing, and whoever watches sees that."""
    made = planned(workload(gpus=((0,),)), moved={"chat-0": Assignment(gpus=("GPU-gone",))})
    assert only(made).gpus[0].uuid == "GPU-gone"
    assert "GPU-gone" in made.missing_gpus


def test_on_the_cpu_it_is_what_on_cpu_says() -> None:
    """Engine, image and options of its own; what is not said stays."""
    small = Variant(
        engine="container", image="cpu:1", context=512, environment={"A": "2"}, memory_bytes=GIB
    )
    chat = workload(gpus=((0,),), on_cpu=small, environment={"A": "1", "B": "1"}, options={})
    replica = only(planned(chat, moved={"chat-0": Assignment()}))
    assert (replica.engine, replica.spec.image, replica.gpus) == ("container", "cpu:1", ())
    assert replica.spec.memory_bytes == GIB
    assert dict(replica.spec.environment) == {
        "A": "2", "B": "1", "CUDA_VISIBLE_DEVICES": "", "DEVICE": "cpu",
        "NVIDIA_VISIBLE_DEVICES": "void",
    }  # fmt: skip
    assert (replica.on_cpu, [gpu.index for gpu in replica.home]) == (True, [0])


def test_llama_cpp_on_the_cpu_needs_no_words() -> None:
    """An engine that gpuctl knows is told in its own."""
    replica = only(planned(workload(gpus=((0,),)), moved={"chat-0": Assignment()}))
    assert "DEVICE" not in replica.spec.environment


def test_the_digest_covers_what_a_variant_says_and_no_more() -> None:
    """Its replica is replaced when that changes, and no other is."""
    one, two = Variant(image="cpu:1"), Variant(image="cpu:2")
    at_home = [only(planned(workload(gpus=((0,),), on_cpu=v))).digest for v in (one, two)]
    away = {"chat-0": Assignment()}
    moved = [
        only(planned(workload(gpus=((0,),), on_cpu=v), moved=away)).digest for v in (one, one, two)
    ]
    assert at_home[0] == at_home[1]
    assert (moved[0] == moved[1], moved[1] == moved[2]) == (True, False)


def test_a_variable_that_reached_a_shape_is_named_and_not_in_the_digest() -> None:
    """What is written the same is the same, wherever it stood."""
    image = "vllm/vllm-openai-cpu:v0.33.0"
    away = {"chat-0": Assignment()}
    said, reached = (
        only(
            planned(
                workload(engine="vllm", gpus=((0,),), set_by={"max_num_seqs": "X"}, on_cpu=variant),
                moved=away,
            )
        )
        for variant in (
            Variant(image=image, options={"max_num_seqs": 8}),
            Variant(
                image=image, options={"max_num_seqs": 8}, set_by={"max_num_seqs": "MAX_NUM_SEQS"}
            ),
        )
    )
    assert (said.digest, said.spec_digest) == (reached.digest, reached.spec_digest)
    whys = [[t.why for t in one.tuned if t.key == "max_num_seqs"] for one in (said, reached)]
    assert whys == [["as the profile says"], ["from MAX_NUM_SEQS"]]


def test_a_mistake_for_the_cpu_is_found_by_up() -> None:
    """Not by the GPU that fails one day; a daemon goes on with what it has."""
    wrong = workload(gpus=((0,),), fallback="cpu", on_cpu=Variant(options={"gpu_memory": 1}))
    assert only(planned(wrong)).on_cpu is False
    with pytest.raises(PlanRefused):
        planned(wrong, strict=True)
    away = workload(
        gpus=((0,),), fallback="cpu", network="host", container_port=99, port=99, engine="container"
    )
    planned(away, strict=True)


def test_one_of_its_own_network_is_refused_on_the_cpu_as_well() -> None:
    """Whatever `launch` refuses is refused in time."""
    wrong = workload(
        gpus=((0,),), fallback="cpu", network="host", port=99,
        on_cpu=Variant(engine="container"), container_port=98,
    )  # fmt: skip
    with pytest.raises(PlanRefused, match="on the host's network chat-0 must listen on 99"):
        planned(wrong, strict=True)


def test_what_scale_adds_has_a_number_and_a_port_of_its_own() -> None:
    """It is there when it has been given a place, in the shape that `scaled` says."""
    chat = workload(gpus=((0, 1),), engine="container", scaled=Variant(image="one:1", gpus=1))
    made = planned(
        chat, moved={"chat-1": to(2, reason="scaled")}, counts={"chat": 3},
    )  # fmt: skip
    assert [(r.name, r.spec.host_port, len(r.gpus)) for r in made.replicas] == [
        ("chat-0", 8081, 2), ("chat-1", 8082, 1),
    ]  # fmt: skip
    one = made.replicas[1]
    assert (one.spec.image, one.home, one.on_cpu, one.surplus) == ("one:1", (), False, False)
    assert made.workloads == (
        WorkloadPlan(name="chat", replicas=1, wanted=3, scaled_gpus=1, scaled_need_bytes=None),
    )


def test_what_is_too_many_stays_until_it_is_gone() -> None:
    """It is marked, and keeps its place meanwhile."""
    made = planned(
        workload(gpus=((0,), (1,))), moved={"chat-2": to(2, reason="scaled")}, counts={"chat": 1}
    )
    assert [(r.name, r.surplus) for r in made.replicas] == [
        ("chat-0", False), ("chat-1", True), ("chat-2", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "scaled", "on_cpu"),
    [
        pytest.param(((0,),), Variant(), True, id="should-have-a-gpu"),
        pytest.param("none", Variant(), False, id="never-has-one"),
        pytest.param("none", Variant(gpus=1), True, id="would-have-one"),
    ],
)
def test_what_scale_added_may_be_on_the_cpu(gpus: Any, scaled: Variant, on_cpu: bool) -> None:
    """For want of a GPU, or because its workload is there anyway."""
    chat = workload(gpus=gpus, scaled=scaled)
    made = planned(chat, moved={"chat-1": Assignment(reason="scaled")}, counts={"chat": 2})
    assert made.replicas[1].on_cpu is on_cpu


@pytest.mark.parametrize(
    ("most", "moved", "scaled", "gone"),
    [
        pytest.param(4, {1: to(2), 2: to(3)}, Variant(), {}, id="within"),
        pytest.param(None, {1: to(2), 2: to(3)}, Variant(), {}, id="no-limit"),
        pytest.param(2, {1: to(2), 2: to(3)}, Variant(), {2: "max_gpus"}, id="one-too-many"),
        pytest.param(1, {1: to(2), 3: to(3)}, Variant(), {1: "max_gpus", 3: "scaled"}, id="both"),
        pytest.param(2, {2: to(3)}, Variant(), {}, id="with-a-gap"),
        pytest.param(
            2, {1: Assignment(), 2: to(3)}, Variant(), {2: "max_gpus"}, id="it-comes-back"
        ),
        pytest.param(
            2, {0: Assignment(), 1: to(3)}, Variant(), {}, id="one-of-the-profile-comes-back"
        ),
        pytest.param(1, {1: Assignment()}, Variant(gpus=0), {}, id="that-takes-none"),
        pytest.param(3, {1: to(2, 3), 2: to(1)}, Variant(gpus=2), {2: "max_gpus"}, id="of-two"),
    ],
)
def test_what_max_gpus_does_not_allow_any_more_is_to_go(
    most: int | None, moved: dict[int, Assignment], scaled: Variant, gone: dict[int, str]
) -> None:
    """The highest numbers of what `scale` added; those of the profile never."""
    chat = workload(gpus=((0,),), max_gpus=most, fallback="cpu", scaled=scaled)
    places = {f"chat-{index}": place for index, place in moved.items()}
    made = planned(chat, moved=places, counts={"chat": 3})
    found = {r.name: r.surplus_because for r in made.replicas if r.surplus}
    assert found == {f"chat-{index}": reason for index, reason in gone.items()}


@pytest.mark.parametrize(
    ("fields", "image"),
    [
        pytest.param({"on_cpu": Variant(image="engine:cpu")}, "engine:cpu", id="of-its-own"),
        pytest.param({"on_cpu": Variant(image="engine:1")}, "", id="the-same"),
        pytest.param({}, "", id="none"),
        pytest.param({"on_cpu": Variant(image="a"), "fallback": "none"}, "", id="no-fallback"),
    ],
)
def test_the_image_that_a_failover_would_need(fields: dict[str, Any], image: str) -> None:
    """One that nothing needs before that."""
    chat = workload(**{"gpus": ((0,),), "image": "engine:1", "fallback": "cpu", **fields})
    assert planned(chat).workloads[0].fallback_image == image


def test_a_process_needs_no_image() -> None:
    own = Variant(image="engine:cpu")
    chat = workload(gpus=((0,),), fallback="cpu", on_cpu=own, model="/m.gguf", mounts=())
    found = plan(profile(chat), replace(host(4), runtime="process"), ENGINES, strict=False)
    assert found.workloads[0].fallback_image == ""


def test_an_engine_that_is_not_there_is_a_mistake_wherever() -> None:
    """Of a variant as well."""
    chat = workload(gpus=((0,),), scaled=Variant(engine="none"))
    with pytest.raises(PlanRefused, match="there is no engine 'none'"):
        planned(chat, moved={"chat-1": to(2)}, counts={"chat": 2})
    assert planned(chat).workloads[0].scaled_need_bytes is None


def facts(weights_bytes: int) -> ModelFacts:
    return ModelFacts(
        source="m.gguf", format="gguf", architecture="llama", parameters=10**9,
        weights_bytes=weights_bytes, embedding_length=2048, heads=16, vocabulary=32000,
        feed_forward_length=8192, context_max=4096,
        cache=(LayerCache(layers=16, kv_heads=4, key_length=128, value_length=128),),
    )  # fmt: skip


def test_what_it_needs_of_a_gpu_is_known_on_the_cpu_too() -> None:
    """From the model's headers, and from its variant's own where it has one."""
    chat = workload(gpus=((0,),), context=2048, scaled=Variant(model="small.gguf"))
    known = {"chat": facts(2 * GIB), "chat/scaled": facts(GIB)}
    home = only(planned(chat, facts=known))
    away = only(planned(chat, facts=known, moved={"chat-0": Assignment()}))
    more = planned(chat, facts=known)
    assert home.gpu_need_bytes is not None
    assert (away.gpu_need_bytes, away.vram) == (home.gpu_need_bytes, None)
    assert more.workloads[0].scaled_need_bytes == home.gpu_need_bytes - GIB


def test_unused_gpus_are_those_that_nobody_names() -> None:
    """Neither in reserve nor a workload's; a workload on each leaves none."""
    one = planned(workload(gpus=((0,),), vram_bytes=GIB, scaled=Variant(gpus=3)))
    assert one.workloads[0].scaled_need_bytes == -(-GIB // 3)
    every = planned(workload(vram_bytes=GIB, scaled=Variant(gpus=3)))
    assert every.workloads[0].scaled_need_bytes is None


def test_what_scale_adds_may_count_its_ports_from_elsewhere() -> None:
    """Where the numbers after the profile's own are another workload's."""
    chat = workload(gpus=((0,),), scaled=Variant(port=9001))
    moved = {"chat-1": to(2), "chat-2": to(3)}
    made = planned(chat, moved=moved, counts={"chat": 3})
    assert [r.spec.host_port for r in made.replicas] == [8081, 9001, 9002]
