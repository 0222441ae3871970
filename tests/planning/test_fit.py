"""An image that does not run here refuses the plan, and what cannot be told warns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import GIB
from gpuctl.planning.fit import check_image
from gpuctl.planning.mistakes import Mistakes
from gpuctl.plugin import Unfit, load_engines
from tests.engines.make import slot

from .make import gpu, host, planned, workload

LLAMA_CPP = load_engines()["llama.cpp"]
CUDA_13 = "ghcr.io/ggml-org/llama.cpp:server-cuda13"
P106 = host(8, driver_version="580.95.05", cuda_version=(13, 0))


def noted(*found: Unfit, strict: bool = True) -> Mistakes:
    mistakes = Mistakes(source="", strict=strict)
    check_image(workload(), slot(), replace(LLAMA_CPP, fit=lambda *_: found), mistakes)
    return mistakes


def test_refused() -> None:
    """What cannot run stands in the way, by the workload's key, with what to use instead."""
    mistakes = noted(Unfit(key="image", what="it is wrong", hint="use another"))
    assert mistakes.refused == [("workloads.chat.image: it is wrong", "use another")]


def test_a_daemon_goes_on() -> None:
    """For a daemon the same is a warning: what runs is not ended by a rule that is new."""
    mistakes = noted(Unfit(key="image", what="it is wrong", hint=""), strict=False)
    assert (mistakes.refused, mistakes.warnings) == ([], ["workloads.chat.image: it is wrong"])


def test_not_told() -> None:
    """What could not be judged is said, and refuses nothing."""
    mistakes = noted(Unfit(key="image", what="who knows", hint="", warning=True))
    assert (mistakes.refused, mistakes.warnings) == ([], ["workloads.chat.image: who knows"])


def test_an_engine_without_a_word() -> None:
    """An engine that judges no image lets every one through."""
    mistakes = Mistakes(source="", strict=True)
    check_image(workload(), slot(), replace(LLAMA_CPP, fit=None), mistakes)
    assert (mistakes.refused, mistakes.warnings) == ([], [])


def test_one_line_for_eight_cards() -> None:
    """Eight cards of one model are told once, before anything is pulled."""
    with pytest.raises(PlanRefused) as refused:
        planned(workload(image=CUDA_13), on=P106)
    assert refused.value.message == (
        f"workloads.chat.image: {CUDA_13} brings CUDA 13, which has dropped P106-100"
        " (compute capability 6.1)"
    )
    assert refused.value.hint == (
        'use image = "ghcr.io/ggml-org/llama.cpp:server-cuda", which brings CUDA 12'
    )


def test_vllm_on_a_driver_of_cuda_12() -> None:
    """The image of today's vLLM is refused with its twin of CUDA 12, on two cards once."""
    cards = tuple(gpu(i, name="RTX A6000", memory_total_bytes=48 * GIB) for i in (0, 1))
    here = host(cards, driver_version="570.86.15", cuda_version=(12, 8))
    with pytest.raises(PlanRefused) as refused:
        planned(workload(engine="vllm", image="vllm/vllm-openai:v0.33.0"), on=here)
    assert refused.value.message.count("\n") == 0
    assert "vllm/vllm-openai:v0.33.0-cu129" in refused.value.hint


def test_an_unknown_image_on_pascal() -> None:
    """A name that tells nothing is a warning where the card is old enough to matter."""
    assert planned(workload(), on=P106).warnings == (
        "workloads.chat.image: the name example/server:1 does not tell which CUDA is in it:"
        " whether P106-100 (compute capability 6.1) runs it was not checked",
    )
