"""`plan` tells what variables set in shapes that do not run yet."""

from __future__ import annotations

from dataclasses import replace

from gpuctl import overrides
from gpuctl.model import Variant
from tests.overrides.make import CHAT, LLM, SMALL, profile

SHAPED = replace(
    LLM,
    fallback="cpu",
    scaled=Variant(gpus=1, parallel=4, options={"enable_prefix_caching": False}),
    on_cpu=Variant(image="i", environment={"NCCL_DEBUG": "WARN"}),
)


def test_each_setting_with_its_variable() -> None:
    """Or with the shape's own word, where that stands above the variable."""
    environment = {
        "GPU_MEMORY_UTILIZATION": "0.8",
        "MAX_NUM_SEQS": "8",
        "MAX_MODEL_LEN": "512",
        "ENABLE_PREFIX_CACHING": "true",
        "NCCL_DEBUG": "INFO",
        "HF_TOKEN_FILE": "/t",
    }
    applied = overrides.apply(profile(SHAPED, CHAT), environment).profile
    own = "as it says itself, whatever"
    assert overrides.elsewhere(applied) == (
        f"llm, on_cpu: NCCL_DEBUG = WARN, {own} NCCL_DEBUG says",
        "llm, on_cpu: context = 512, from MAX_MODEL_LEN",
        "llm, on_cpu: enable_prefix_caching = true, from ENABLE_PREFIX_CACHING",
        "llm, on_cpu: max_num_seqs = 8, from MAX_NUM_SEQS",
        "llm, scaled: NCCL_DEBUG = INFO, from NCCL_DEBUG",
        "llm, scaled: context = 512, from MAX_MODEL_LEN",
        f"llm, scaled: enable_prefix_caching = false, {own} ENABLE_PREFIX_CACHING says",
        "llm, scaled: gpu_memory_utilization = 0.8, from GPU_MEMORY_UTILIZATION",
        f"llm, scaled: max_num_seqs = 4, {own} MAX_NUM_SEQS says",
    )


def test_nothing_to_tell() -> None:
    """A profile without variables, and a workload that says nothing of other shapes."""
    assert overrides.elsewhere(profile(SHAPED)) == ()
    applied = overrides.apply(profile(SMALL), {"GPU_MEMORY_UTILIZATION": "0.8"}).profile
    assert overrides.elsewhere(applied) == ()
