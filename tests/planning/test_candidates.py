"""What a model needs at several contexts, and on which GPUs it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import GIB, LayerCache, ModelFacts, VramPlan, Workload
from gpuctl.planning.candidates import (
    Candidate,
    Sum,
    Wish,
    candidates,
    contexts,
    kv_bytes_per_token,
    sums,
)
from gpuctl.plugin import Engine, Slot, Unfit, load_engines
from tests.planning.make import gpu, host

MIB = 1024**2
WISH = Wish(headroom_bytes=0)


def facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "source": "m.gguf", "format": "gguf", "architecture": "llama", "context_max": 8192,
    }  # fmt: skip
    return ModelFacts(**(values | changes))


def memory(workload: Workload, slot: Slot, found: ModelFacts) -> VramPlan | None:
    """1 GiB of weights, 1 MiB a token and request, half a GiB on each GPU."""
    context = workload.context or found.context_max
    if context is None:
        return None
    kv, overhead = context * workload.parallel * MIB, GIB // 2 * len(slot.gpus)
    return VramPlan(
        total_bytes=GIB + kv + overhead, weights_bytes=GIB, kv_bytes=kv, overhead_bytes=overhead,
        source="headers",
    )  # fmt: skip


def claim(workload: Workload, slot: Slot, found: ModelFacts) -> VramPlan | None:
    """9 tenths of the card, whatever the model."""
    size = slot.gpus[0].memory_total_bytes
    if size is None:
        return None
    least = 2 * GIB + (workload.context or 8192) * MIB
    return VramPlan(
        total_bytes=size * len(slot.gpus) * 9 // 10, weights_bytes=GIB, overhead_bytes=GIB,
        kv_bytes=size, source="claim", least_bytes=least,
    )  # fmt: skip


def unfit(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """A warning for everybody, a refusal for old cards."""
    yield Unfit(key="image", what="it was not checked", hint="", warning=True)
    if slot.gpus[0].name == "P106-100":
        yield Unfit(key="engine", what="too old", hint="")


def engines(**changes: Any) -> dict[str, Engine]:
    """The real names with sums that can be done in the head."""
    real = load_engines()
    values: dict[str, Any] = {
        "options": dict, "launch": real["llama.cpp"].launch, "probe": real["llama.cpp"].probe,
        "stats": real["llama.cpp"].stats,
    }  # fmt: skip
    return {
        "llama.cpp": Engine(**(values | {"name": "llama.cpp", "memory": memory} | changes)),
        "llama-cpp-python": Engine(**(values | {"name": "llama-cpp-python"})),
        "vllm": Engine(**(values | {"name": "vllm", "memory": claim, "fit": unfit})),
    }


def found(model: ModelFacts, *gpus: Any, wish: Wish = WISH, **changes: Any) -> list[Candidate]:
    every = candidates(model, host(gpus), engines(**changes), wish)
    return [one for one in every if one.engine != "llama-cpp-python"]


@pytest.mark.parametrize(
    ("longest", "asked", "expected"),
    [
        pytest.param(8192, None, (2048, 4096, 8192), id="up to the longest"),
        pytest.param(131072, None, (2048, 4096, 8192, 32768, 131072), id="a long one"),
        pytest.param(1024, None, (1024,), id="a short one"),
        pytest.param(8192, 6000, (2048, 4096, 6000, 8192), id="the wish among them"),
        pytest.param(None, None, (2048, 4096, 8192, 32768), id="the longest is not known"),
    ],
)
def test_the_usual_contexts_are_shown(
    longest: int | None, asked: int | None, expected: tuple[int, ...]
) -> None:
    assert contexts(facts(context_max=longest), Wish(context=asked)) == expected


def test_a_token_takes_what_every_unwindowed_layer_keeps_of_it() -> None:
    """Keys and values of two bytes; a window is full by then, and a state does not grow."""
    cache = (
        LayerCache(layers=4, kv_heads=2, key_length=64, value_length=32, state_bytes=999),
        LayerCache(layers=9, kv_heads=2, key_length=64, value_length=64, window=512),
    )
    assert kv_bytes_per_token(facts(cache=cache)) == 4 * 2 * (64 + 32) * 2


def test_what_each_context_takes() -> None:
    """For all requests at once; by the engine's own sum."""
    wish = Wish(context=100, parallel=2)
    assert sums(facts(context_max=2048), host(1), engines(), wish) == (
        Sum(context=100, weights_bytes=GIB, kv_bytes=200 * MIB, overhead_bytes=GIB // 2),
        Sum(context=2048, weights_bytes=GIB, kv_bytes=4 * GIB, overhead_bytes=GIB // 2),
    )


def test_of_a_claim_what_must_fit_into_it() -> None:
    """On a host without a GPU, as on a card of 24 GiB."""
    model = facts(format="safetensors", context_max=1024)
    (one,) = sums(model, host(0), engines(), Wish(parallel=3))
    assert one == Sum(context=1024, weights_bytes=GIB, kv_bytes=3 * GIB, overhead_bytes=GIB)
    assert one.total_bytes == 5 * GIB


def test_where_nothing_tells_there_is_no_sum() -> None:
    """Neither a context that can be summed up, nor an engine that can sum."""
    assert sums(facts(), host(1), engines(memory=None), WISH) == ()
    assert sums(facts(), host(1), engines(memory=lambda *_: None), WISH) == ()


@pytest.mark.parametrize(
    ("size", "context", "fits", "largest"),
    [
        pytest.param(10 * GIB, None, True, 8192, id="as long as it was made for"),
        pytest.param(6 * GIB, 2048, True, 4608, id="this one, and up to there"),
        pytest.param(6 * GIB, 8192, False, 4608, id="a shorter one"),
        pytest.param(GIB, 2048, False, None, id="not at all"),
        pytest.param(None, 2048, None, None, id="its size is not known"),
    ],
)
def test_a_card_and_its_largest_context(
    size: int | None, context: int | None, fits: bool | None, largest: int | None
) -> None:
    """1.5 GiB and 1 MiB a token, in steps of 256 tokens."""
    card = gpu(0, memory_total_bytes=size)
    wish = Wish(context=context, headroom_bytes=0)
    assert found(facts(), card, wish=wish) == [
        Candidate(engine="llama.cpp", gpus=(card,), fits=fits, largest_context=largest)
    ]


def test_the_largest_context_is_not_the_engine_s_default() -> None:
    """A server that takes 2,048 tokens where none is asked for fits; its longest may not."""

    def short(workload: Workload, slot: Slot, model: ModelFacts) -> VramPlan | None:
        return memory(replace(workload, context=workload.context or 2048), slot, model)

    card = gpu(0, memory_total_bytes=6 * GIB)
    assert found(facts(), card, memory=short) == [
        Candidate(engine="llama.cpp", gpus=(card,), fits=True, largest_context=4608)
    ]


def test_the_headroom_is_nobody_s() -> None:
    card = gpu(0, memory_total_bytes=6 * GIB)
    (one,) = found(facts(), card, wish=Wish(headroom_bytes=GIB))
    assert one.largest_context == 3584


def test_what_no_single_card_holds_is_tried_on_all() -> None:
    """By an engine that can spread a replica: a share on each."""
    cards = (gpu(0), gpu(1))
    assert found(facts(), *cards, groups=True) == [
        Candidate(engine="llama.cpp", gpus=cards[:1], fits=False, largest_context=4608),
        Candidate(engine="llama.cpp", gpus=cards[1:], fits=False, largest_context=4608),
        Candidate(engine="llama.cpp", gpus=cards, fits=True, largest_context=8192),
    ]
    assert len(found(facts(), *cards)) == 2
    assert len(found(facts(context_max=2048), *cards, groups=True)) == 2


def test_what_the_engine_says_against_a_card_prevails() -> None:
    """Whatever the sizes; what it merely could not check does not count."""
    old, new = gpu(0, memory_total_bytes=80 * GIB), gpu(1, name="A100", memory_total_bytes=80 * GIB)
    assert found(facts(format="safetensors"), old, new) == [
        Candidate(engine="vllm", gpus=(old,), fits=False, why=("too old",)),
        Candidate(engine="vllm", gpus=(new,), fits=True, largest_context=8192),
    ]


def test_a_claim_must_hold_one_request() -> None:
    """9 tenths of 6 GiB: 2 GiB before the first token."""
    card = gpu(0, name="T4")
    assert found(facts(format="safetensors"), card) == [
        Candidate(engine="vllm", gpus=(card,), fits=False, largest_context=3328)
    ]


def test_an_engine_without_a_sum_is_listed() -> None:
    """Whether it fits is not known, unless it cannot run there at all."""
    every = candidates(facts(), host(1), engines(), WISH)
    assert [(one.engine, one.fits) for one in every] == [
        ("llama.cpp", False), ("llama-cpp-python", None),
    ]  # fmt: skip
    every = candidates(facts(format="config"), host((gpu(0, memory_total_bytes=None),)),
                       engines(), WISH)  # fmt: skip
    assert [(one.engine, one.fits, one.why) for one in every] == [("vllm", False, ("too old",))]


def test_a_share_of_a_card_alone_tells_nothing_of_a_model() -> None:
    """An engine that takes it whatever the model needs has no sum of this one."""
    share = VramPlan(total_bytes=GIB, source="claim")
    vllm = replace(engines()["vllm"], memory=lambda *_: share)
    about, on = facts(format="safetensors"), host((gpu(0, name="A100"),))
    assert sums(about, on, {"vllm": vllm}, WISH) == ()
    assert [one.fits for one in candidates(about, on, {"vllm": vllm}, WISH)] == [None]
