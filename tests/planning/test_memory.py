"""The memory plan: what a replica takes, what is refused, and what would fit instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import GIB, MIB, Known, LayerCache, ModelFacts, Plan, Workload
from gpuctl.planning import plan, plan_document
from gpuctl.planning.memory import measure_key
from gpuctl.plugin import Slot

from .make import ENGINES, gpu, host, profile, workload

#: Llama 3.1 8B as its Q4_K_M file has it.
LLAMA_8B = ModelFacts(
    source="/m/L3.1-8B.Q4_K_M.gguf",
    format="gguf",
    architecture="llama",
    name="L3.1 8B",
    quantization="Q4_K_M",
    parameters=8_030_261_312,
    weights_bytes=4_912_734_976,
    input_bytes=295_501_824,
    output_bytes=430_940_160,
    blocks=32,
    embedding_length=4096,
    feed_forward_length=14336,
    heads=32,
    vocabulary=128256,
    context_max=131072,
    cache=(LayerCache(layers=32, kv_heads=8, key_length=128, value_length=128),),
)
#: The same with thirteen billion parameters, as a file of 13 GB in 8 bits.
LLAMA_13B = replace(
    LLAMA_8B,
    source="/m/13b.Q8_0.gguf",
    name="13B",
    quantization="Q8_0",
    parameters=13_015_864_320,
    weights_bytes=13_831_319_552,
    input_bytes=174_080_000,
    output_bytes=174_080_000,
    blocks=40,
    context_max=4096,
    cache=(LayerCache(layers=40, kv_heads=40, key_length=128, value_length=128),),
)
P106 = gpu(0, memory_total_bytes=6080 * MIB, compute_capability=(6, 1))
RTX_3090 = gpu(0, name="RTX 3090", memory_total_bytes=24576 * MIB, compute_capability=(8, 6))


def made(*workloads: Workload, facts: ModelFacts = LLAMA_8B, **changes: Any) -> Plan:
    known = Known(facts={w.name: facts for w in workloads}, measured=changes.pop("measured", {}))
    on = changes.pop("on", host((RTX_3090,)))
    strict = changes.pop("strict", True)
    return plan(profile(*workloads, **changes), on, ENGINES, known=known, strict=strict)


def refused(*workloads: Workload, **changes: Any) -> PlanRefused:
    with pytest.raises(PlanRefused) as refusal:
        made(*workloads, **changes)
    return refusal.value


def test_the_sum() -> None:
    """The lines of a replica add up to what it takes, and to what its GPU is planned with."""
    found = made(workload(context=8192, parallel=2))
    vram = found.replicas[0].vram
    assert vram is not None
    assert [line.label for line in vram.lines] == [
        "weights", "KV cache", "compute buffers", "CUDA context",
    ]  # fmt: skip
    assert sum(line.amount_bytes for line in vram.lines) == vram.total_bytes
    # 128 KiB a token, of two requests of 8,192 tokens.
    assert vram.kv_bytes == 2 * GIB
    assert vram.weights_bytes == 4_912_734_976 - 295_501_824
    document = plan_document(found)
    assert document["replicas"][0]["vram"]["total_bytes"] == vram.total_bytes
    assert document["gpus"][0]["planned_bytes"] == vram.total_bytes


def test_a_model_of_13_gb_on_a_p106() -> None:
    """What can never fit is refused, with the quantization that would."""
    error = refused(workload(context=2048), facts=LLAMA_13B, on=host((P106,)))
    assert error.message.startswith("GPU 0: 14.6 GiB of VRAM planned (chat-0 14.6 GiB), 5.7 GiB")
    assert error.hint == _HELP


_HELP = "move a workload to another GPU, or choose a smaller model or context"


def test_a_longer_context_than_fits() -> None:
    """The largest context that fits is told, and the quantization that makes room for all of it."""
    error = refused(workload(context=16384), on=host((P106,)))
    assert error.hint.splitlines() == [
        "chat: context = 8704 would fit, 16384 does not",
        "chat: the model in Q2_K would fit: 3 GiB of weights",
    ]
    assert made(workload(context=8704), on=host((P106,))).replicas
    with pytest.raises(PlanRefused):
        made(workload(context=8704 + 256), on=host((P106,)))


def test_another_gpu_has_room() -> None:
    """Where it would fit as it is, is told."""
    other = gpu(1, name="A4000", memory_total_bytes=16 * GIB, compute_capability=(8, 6))
    error = refused(workload(gpus=((0,),), context=16384), on=host((P106, other)))
    assert error.hint.splitlines()[-1].startswith("chat-0: GPU 1 has 15.8 GiB free, and it takes")


def test_three_models_over_24_gb() -> None:
    """Three that fit one by one are refused together: the sum and its parts are told."""
    three = [
        workload("a", port=8081, context=8192, parallel=3),
        workload("b", port=8082, context=8192, parallel=3),
        workload("c", port=8083, context=8192, parallel=3),
    ]
    error = refused(*three, vram_headroom_bytes=3 * GIB)
    assert error.message == (
        "GPU 0: 23.0 GiB of VRAM planned (a-0 7.7 GiB, b-0 7.7 GiB, c-0 7.7 GiB), "
        "21.0 GiB to give (3.0 GiB of headroom kept)"
    )
    assert "a: context = " in error.hint
    assert made(*three[:2], vram_headroom_bytes=3 * GIB).replicas


def test_strangers_take_room() -> None:
    """VRAM that somebody else holds is not there to give, and who holds it is told."""
    held = replace(P106, foreign_bytes=GIB, foreign=("Xorg (pid 812)", "blender (pid 99)"))
    assert made(workload(context=4096), on=host((P106,))).replicas
    error = refused(workload(context=4096), on=host((held,)))
    assert error.message.endswith(
        "4.7 GiB to give (0.2 GiB of headroom kept, 1.0 GiB held by Xorg (pid 812), "
        "blender (pid 99))"
    )


def test_a_daemon_goes_on() -> None:
    """What does not fit any more is a warning to a daemon: it must not forget its replicas."""
    found = made(workload(context=16384), on=host((P106,)), strict=False)
    assert len(found.replicas) == 1
    assert found.warnings[0].startswith("GPU 0: 6.6 GiB of VRAM planned")


def test_what_was_measured_counts() -> None:
    """A measurement takes the estimate's place, which is shown beside it."""
    asked = workload(context=4096)
    slot = Slot(index=0, gpus=(RTX_3090,), port=8081, runtime="docker")
    shape = made(asked).replicas[0]
    assert shape.vram is not None
    key = shape.vram.measure_key
    assert key.startswith("llama.cpp | chat.gguf | 4912734976 bytes | example/server:1 | 4096")
    assert key.endswith(" | 1x RTX 3090")

    found = made(asked, measured={key: 6 * GIB}).replicas[0].vram

    assert found is not None
    assert (found.total_bytes, found.source) == (6 * GIB, "measured")
    assert sum(line.amount_bytes for line in found.lines) == 6 * GIB
    assert found.lines[-1].label == "measured"
    assert found.lines[-1].why.startswith("measured 6 GiB, estimated 5.")
    assert measure_key(workload(context=4096, args=("--api-key", "sk-1")), slot).count("sk-1") == 0
    assert measure_key(workload(context=4096, args=("--x",)), slot) != measure_key(asked, slot)


def test_another_model_under_the_same_name() -> None:
    """A file that was replaced is planned by its headers: what was measured was another's."""
    before = made(workload(context=4096)).replicas[0].vram
    assert before is not None
    known = {before.measure_key: 2 * GIB}
    other = replace(LLAMA_8B, weights_bytes=8 * GIB)
    found = made(workload(context=4096), facts=other, measured=known).replicas[0].vram
    assert found is not None
    assert (found.source, found.total_bytes > 8 * GIB) == ("headers", True)


def test_what_the_environment_says_is_another_model() -> None:
    """An image of one's own is often told its model by a variable, which may be a secret."""
    slot = Slot(index=0, gpus=(RTX_3090,), port=8081, runtime="docker")
    keys = {
        measure_key(workload(engine="container", model="", environment=told), slot)
        for told in ({}, {"MODEL_NAME": "whisper"}, {"MODEL_NAME": "ocr"}, {"TOKEN": "ocr"})
    }
    assert len(keys) == 4
    assert not any("whisper" in key for key in keys)


def test_less_was_measured_than_weights_and_cache() -> None:
    """Where a measurement leaves nothing for the rest, the rest is not known."""
    key = made(workload(context=4096)).replicas[0].vram
    assert key is not None
    found = made(workload(context=4096), measured={key.measure_key: GIB}).replicas[0].vram
    assert found is not None
    assert (found.total_bytes, found.overhead_bytes) == (GIB, None)


def test_a_context_that_fits_what_was_measured() -> None:
    """What was measured beyond the estimate is counted for every other context as well."""
    shape = made(workload(context=8192), on=host((P106,))).replicas[0].vram
    assert shape is not None
    more = {shape.measure_key: shape.total_bytes + GIB}
    error = refused(workload(context=8192), on=host((P106,)), measured=more)
    assert "chat: context = 512 would fit, 8192 does not" in error.hint


def test_only_a_measurement() -> None:
    """A model without headers is planned with what it was measured to take."""
    slot = Slot(index=0, gpus=(RTX_3090,), port=8081, runtime="docker")
    asked = workload(engine="container", mounts=(), model="")
    known = Known(measured={measure_key(asked, slot): 2 * GIB})
    found = plan(profile(asked), host((RTX_3090,)), ENGINES, known=known).replicas[0]
    assert found.vram is not None
    assert (found.vram_bytes, found.vram.source) == (2 * GIB, "measured")


def test_the_profiles_own_word() -> None:
    """What the profile states is planned with, and what is known to be more is noted."""
    asked = workload(context=4096, vram_bytes=4 * GIB)
    vram = made(asked).replicas[0].vram
    assert vram is not None
    assert (vram.total_bytes, vram.source) == (4 * GIB, "profile")
    assert vram.notes[0].startswith("the profile states 4 GiB, its headers make it 5.")
    again = made(asked, measured={vram.measure_key: 7 * GIB}).replicas[0].vram
    assert again is not None
    assert again.notes[1] == "the profile states 4 GiB, 7 GiB were measured"
    enough = made(workload(context=4096, vram_bytes=6 * GIB)).replicas[0].vram
    assert enough is not None
    assert enough.notes == ()


def test_what_the_profile_states_is_not_changed_for_it() -> None:
    """A stated figure has no context that would do: nobody knows what it was made of."""
    error = refused(workload(vram_bytes=30 * GIB))
    assert error.hint == _HELP


def test_nothing_known() -> None:
    """Without headers, a statement or a measurement there is no sum; on the CPU there is none."""
    assert plan(profile(workload()), host(1), ENGINES).replicas[0].vram is None
    assert made(workload(gpus="none")).replicas[0].vram is None
    assert made(workload(), facts=replace(LLAMA_8B, weights_bytes=None)).replicas[0].vram is None


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(replace(LLAMA_8B, weights_bytes=None), id="no weights"),
        pytest.param(replace(LLAMA_8B, weights_bytes=None, context_max=None), id="no context"),
    ],
)
def test_only_measured_and_too_much(facts: ModelFacts) -> None:
    """What was measured and cannot be estimated has no other context to tell."""
    asked = workload()
    slot = Slot(index=0, gpus=(P106,), port=8081, runtime="docker")
    # With the settings that suit the card, which the key has in it.
    shape = made(workload(vram_bytes=GIB), facts=facts, on=host((P106,))).replicas[0].vram
    assert shape is not None
    assert shape.measure_key != measure_key(asked, slot)
    more = {shape.measure_key: 7 * GIB}
    error = refused(asked, facts=facts, on=host((P106,)), measured=more)
    assert error.hint.splitlines() == [
        _HELP, "chat: 7 GiB were measured: where it needs less, say so with its `vram`"
    ]  # fmt: skip


def test_a_model_of_unknown_size() -> None:
    """Without its parameters no other quantization can be told, only another context."""
    error = refused(
        workload(context=16384), facts=replace(LLAMA_8B, parameters=None), on=host((P106,))
    )
    assert error.hint == "chat: context = 8704 would fit, 16384 does not"


def test_over_two_gpus() -> None:
    """A group shares weights and cache, and each GPU has buffers and a context of its own."""
    other = replace(RTX_3090, index=1, uuid="GPU-0001")
    one = made(workload(context=4096)).replicas[0].vram
    two = made(workload(context=4096, gpus=((0, 1),)), on=host((RTX_3090, other))).replicas[0].vram
    assert one is not None
    assert two is not None
    assert (one.weights_bytes, one.kv_bytes) == (two.weights_bytes, two.kv_bytes)
    assert two.total_bytes - one.total_bytes > 250 * MIB


def test_a_group_whose_layers_do_not_divide() -> None:
    """33 layers on 8 cards are 5 on the first: what fits as an eighth of it does not go there."""
    cards = tuple(replace(P106, index=index, uuid=f"GPU-{index}") for index in range(8))
    heavy = replace(LLAMA_8B, weights_bytes=40 * GIB, input_bytes=0, output_bytes=GIB)
    chat = workload(context=4096, gpus=(tuple(range(8)),))
    error = refused(chat, facts=heavy, on=host(cards))
    assert error.message.splitlines()[0].startswith("GPU 0: 6.5 GiB of VRAM planned (chat-0 6.5")
    light = replace(LLAMA_8B, weights_bytes=16 * GIB, input_bytes=0, output_bytes=GIB)
    found = made(chat, facts=light, on=host(cards)).replicas[0]
    assert found.vram is not None
    assert found.share_bytes == found.gpu_need_bytes
    # A simulated card holds an even part: what is measured there is what was planned.
    assert found.spec.vram_bytes == -(-found.vram.total_bytes // 8)
    assert found.share_bytes == -(-found.vram.total_bytes // 8) + found.vram.uneven_bytes
    assert found.vram.uneven_bytes > 256 * MIB


@pytest.mark.parametrize(
    ("vram_bytes", "beyond"),
    [
        pytest.param(None, GIB, id="measured: the same layers"),
        pytest.param(None, -GIB, id="measured as less"),
        pytest.param(8 * GIB, 0, id="stated: as the layers are"),
    ],
)
def test_whole_layers_of_what_is_known_otherwise(vram_bytes: int | None, beyond: int) -> None:
    """The fullest of its cards has more than an even share of what is stated or measured, too."""
    cards = tuple(replace(P106, index=index, uuid=f"GPU-{index}") for index in range(8))
    light = replace(LLAMA_8B, weights_bytes=16 * GIB, input_bytes=0, output_bytes=GIB)
    chat = workload(context=4096, gpus=(tuple(range(8)),))
    before = made(chat, facts=light, on=host(cards)).replicas[0].vram
    assert before is not None
    known = {before.measure_key: before.total_bytes + beyond} if beyond else {}
    chat = replace(chat, vram_bytes=vram_bytes)
    found = made(chat, facts=light, on=host(cards), measured=known).replicas[0].vram
    assert found is not None
    stated = before.uneven_bytes * (vram_bytes or 0) // before.total_bytes
    assert found.uneven_bytes == (before.uneven_bytes if beyond else stated) > 0
