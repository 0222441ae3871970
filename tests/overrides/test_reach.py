"""A variable reaches the shapes of a workload elsewhere, but for what they say themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl import overrides
from gpuctl.errors import ProfileError
from gpuctl.model import Mount, Variant, Workload
from tests.overrides.make import CHAT, LLM, SMALL, SPEECH, changed, profile

#: On two GPUs; a second instance on one, and a third on the CPU, each with options of its own.
WRITTEN = replace(
    LLM,
    fallback="cpu",
    scaled=Variant(gpus=1, options={"max_num_seqs": 4}),
    on_cpu=Variant(image="vllm/vllm-openai-cpu:v0.33.0", options={"dtype": "float32"}),
)
#: The same, as they are but for where they run.
INHERITING = replace(
    LLM,
    fallback="cpu",
    scaled=Variant(gpus=1),
    on_cpu=Variant(image="vllm/vllm-openai-cpu:v0.33.0"),
)
SHARE, SEQUENCES = {"GPU_MEMORY_UTILIZATION": "0.8"}, {"MAX_NUM_SEQS": "8"}


def reached(environment: dict[str, str], workload: Workload) -> Workload:
    return overrides.apply(profile(workload), environment).profile.workloads[0]


def options(workload: Workload) -> tuple[Any, Any]:
    return workload.scaled.options, workload.on_cpu.options


@pytest.mark.parametrize(
    ("environment", "scaled", "on_cpu"),
    [
        pytest.param(
            SHARE,
            {"max_num_seqs": 4, "gpu_memory_utilization": 0.8},
            {"dtype": "float32"},
            id="a share of the card: not on the CPU",
        ),
        pytest.param(
            SEQUENCES,
            {"max_num_seqs": 4},
            {"dtype": "float32", "max_num_seqs": 8},
            id="sequences: not where it says its own",
        ),
        pytest.param(
            {"MAX_NUM_SEQS": "auto"}, {"max_num_seqs": 4}, {"dtype": "float32"}, id="by the card"
        ),
        pytest.param(
            {"SWAP_SPACE_GB": "8"},
            {"max_num_seqs": 4, "kv_offloading_gib": 8.0},
            {"dtype": "float32"},
            id="RAM for each of its own GPUs",
        ),
        pytest.param(
            {"QUANTIZATION": "awq", "MAX_NUM_BATCHED_TOKENS": "512"},
            {"max_num_seqs": 4, "quantization": "awq", "max_num_batched_tokens": 512},
            {"dtype": "float32", "quantization": "awq", "max_num_batched_tokens": 512},
            id="what the model and the server have everywhere",
        ),
    ],
)
def test_options_of_its_own(
    environment: dict[str, str], scaled: dict[str, Any], on_cpu: dict[str, Any]
) -> None:
    """They get what they do not say, where it means something."""
    assert options(reached(environment, WRITTEN)) == (scaled, on_cpu)


@pytest.mark.parametrize(
    ("environment", "scaled", "on_cpu"),
    [
        pytest.param(SEQUENCES, None, None, id="as the workload"),
        pytest.param(SHARE, None, dict(LLM.options), id="not on the CPU"),
        pytest.param(
            {"SWAP_SPACE_GB": "8"},
            {**LLM.options, "kv_offloading_gib": 8.0},
            dict(LLM.options),
            id="as much as for its GPUs",
        ),
        pytest.param(
            SHARE | SEQUENCES,
            None,
            {"max_num_seqs": 8, "dtype": "half"},
            id="one after the other",
        ),
    ],
)
def test_options_of_the_workload(environment: dict[str, str], scaled: Any, on_cpu: Any) -> None:
    """They follow it; what does not reach a shape leaves it as the profile has it."""
    assert options(reached(environment, INHERITING)) == (scaled, on_cpu)


@pytest.mark.parametrize(
    ("variant", "environment", "found"),
    [
        pytest.param({"parallel": 4}, SEQUENCES, {"parallel": 4, "options": {}}, id="sequences"),
        pytest.param(
            {"model": "org/b"},
            {"QUANTIZATION": "awq"},
            {"model": "org/b", "options": {}},
            id="the quantization of another model",
        ),
        pytest.param({"context": 512}, {"MAX_MODEL_LEN": "1024"}, {"context": 512}, id="context"),
        pytest.param({"model": "org/b"}, {"MODEL_NAME": "org/c"}, {"model": "org/b"}, id="model"),
        pytest.param(
            {"environment": {"HF_HUB_OFFLINE": "0"}},
            {"HF_HUB_OFFLINE": "1"},
            {"environment": {"HF_HUB_OFFLINE": "0"}},
            id="environment",
        ),
        pytest.param({"gpus": 1}, {"MODEL_NAME": "org/c"}, {"gpus": 1}, id="the model is the same"),
    ],
)
def test_what_a_shape_says_itself_stays(
    variant: dict[str, Any], environment: dict[str, str], found: dict[str, Any]
) -> None:
    """Also where it says it in other words."""
    shaped = replace(SMALL, scaled=Variant(**variant))
    assert reached(environment, shaped).scaled == Variant(**found)


def test_by_the_card_is_not_by_the_cpu() -> None:
    """`auto` takes out what the profile says of sequences, but on the CPU."""
    found = reached({"MAX_NUM_SEQS": "auto"}, INHERITING)
    assert (found.parallel, found.options) == (1, {"dtype": "half"})
    assert (found.on_cpu.parallel, found.on_cpu.options) == (7, LLM.options)
    assert found.scaled == INHERITING.scaled


def test_no_shape_on_the_cpu_without_a_fallback() -> None:
    """Nothing is written for what never runs."""
    assert reached(SHARE, replace(LLM, on_cpu=Variant(image="i"))).on_cpu == Variant(image="i")


@pytest.mark.parametrize(
    ("environment", "variant"),
    [
        pytest.param(SHARE, {"options": {"gpu_memory_utilization": 0.8}}, id="option"),
        pytest.param({"MAX_MODEL_LEN": "512"}, {"context": 512}, id="context"),
        pytest.param(
            {"HF_HUB_OFFLINE": "1"}, {"environment": {"HF_HUB_OFFLINE": "1"}}, id="environment"
        ),
        pytest.param({"NCCL_DEBUG": "INFO"}, {}, id="not of a group"),
        pytest.param({"MODEL_NAME": "org/b"}, {}, id="which model is not told"),
    ],
)
def test_a_shape_of_another_engine(environment: dict[str, str], variant: dict[str, Any]) -> None:
    """What concerns vLLM reaches a vLLM that another workload is scaled by, and not that one."""
    shaped = replace(CHAT, scaled=Variant(engine="vllm"))
    found = reached(environment, shaped)
    assert found == replace(shaped, scaled=Variant(engine="vllm", **variant))


def test_a_group_of_its_own() -> None:
    """NCCL's variables reach the group that a workload on single GPUs is scaled by."""
    shaped = replace(SMALL, scaled=Variant(gpus=2))
    found = reached({"NCCL_DEBUG": "INFO"}, shaped)
    assert found == replace(shaped, scaled=Variant(gpus=2, environment={"NCCL_DEBUG": "INFO"}))


def test_another_engine_on_the_cpu() -> None:
    """Its options are not vLLM's; the context is the workload's promise, and goes along."""
    shaped = replace(LLM, fallback="cpu", on_cpu=Variant(engine="llama.cpp", image="i"))
    found = reached(SHARE | SEQUENCES | {"MAX_MODEL_LEN": "512"}, shaped)
    assert (found.context, found.on_cpu) == (512, shaped.on_cpu)
    assert found.on_cpu.set_by == {"context": "MAX_MODEL_LEN"}


def test_secrets_and_mounts_are_the_workloads() -> None:
    """A shape has no own, so they are there as soon as one shape knows them."""
    shaped = replace(CHAT, scaled=Variant(engine="vllm"))
    found = reached({"HF_TOKEN_FILE": "/t", "MODEL_CACHE_DIR": "/m"}, shaped)
    assert found == replace(
        shaped,
        secrets={"HF_TOKEN": "/t"},
        mounts=(Mount(source="/m", target="/root/.cache/huggingface"),),
        intent=found.intent,
    )
    assert changed({"HF_TOKEN_FILE": "/t"}, CHAT) == ()


def test_which_variable_set_what() -> None:
    """A setting that was taken out was set by none, nor one that a shape says itself."""
    environment = SHARE | SEQUENCES | {"QUANTIZATION": "none", "HF_TOKEN_FILE": "/t"}
    found = reached(environment, WRITTEN)
    share, sequences = "GPU_MEMORY_UTILIZATION", "MAX_NUM_SEQS"
    assert found.set_by == {
        "gpu_memory_utilization": share, "max_num_seqs": sequences, "HF_TOKEN": "HF_TOKEN_FILE",
    }  # fmt: skip
    assert found.scaled.set_by == {"gpu_memory_utilization": share}
    assert found.on_cpu.set_by == {"max_num_seqs": sequences}


@pytest.mark.parametrize("workload", [WRITTEN, INHERITING, SPEECH], ids=["own", "same", "other"])
def test_what_was_applied_may_be_applied_over(workload: Workload) -> None:
    """A variable's word is not taken for the shape's own, nor is what was the workload's."""
    first = overrides.apply(profile(workload), SHARE).profile
    again = overrides.apply(first, SHARE | SEQUENCES | {"HF_HUB_OFFLINE": "1"}).profile
    at_once = overrides.apply(
        profile(workload), SHARE | SEQUENCES | {"HF_HUB_OFFLINE": "1"}
    ).profile
    assert again == at_once
    other = {"GPU_MEMORY_UTILIZATION": "0.7"}
    assert (
        overrides.apply(first, other).profile == overrides.apply(profile(workload), other).profile
    )


def test_a_mistake_is_told_once() -> None:
    """Not once for every shape."""
    with pytest.raises(ProfileError) as caught:
        overrides.apply(
            profile(replace(CHAT, scaled=Variant(engine="vllm"))), {"MAX_NUM_SEQS": "x"}
        )
    assert len(caught.value.mistakes) == 1
