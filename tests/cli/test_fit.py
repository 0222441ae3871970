"""On the simulated hosts: what fits is planned with its settings, and what does not is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

HOSTS = resources.files("gpuctl") / "data" / "hosts"


def planned(inside: Callable[..., Any], host: str, profile: str) -> Any:
    return inside("--simulate", host, "plan", profile)


def settings(text: str, workload: str) -> dict[str, str]:
    """Return the settings that `plan` prints of a workload, each with its value and reason."""
    rows = (line.split(maxsplit=2) for line in text.splitlines() if line.startswith(workload))
    return {row[1]: " ".join(row[2].split()) for row in rows if len(row) == 3}


@pytest.mark.parametrize("host", ["p106x8", "a100x8", "a6000x2", "rtx3090", "cpu"])
def test_a_shipped_profile_fits_its_host(inside: Callable[..., Any], host: str) -> None:
    """Card, driver and image of each go together, and nothing is left to be told."""
    done = inside("--simulate", host, "check", host)
    assert done.code == 0
    assert "does not tell which CUDA" not in done.err


@pytest.mark.parametrize(
    ("host", "workload", "shown"),
    [
        pytest.param(
            "p106x8",
            "chat",
            {
                "batch": "256 small compute buffers: 6 GiB of VRAM are planned full",
                "cache_type_k": "q8_0 yours: as the profile says",
                "mounts": "gpuctl-cuda:/root/.cache/cuda the image has no code for this card: the"
                " driver compiles it once",
            },
            id="p106",
        ),
        pytest.param(
            "a6000x2",
            "llm",
            {
                "tensor_parallel_size": "2 the group has 2 GPUs",
                "gpu_memory_utilization": "0.92 yours: as the profile says",
                "max_num_seqs": "64 what A6000 cards keep up with",
            },
            id="a6000",
        ),
        pytest.param(
            "a100x8",
            "llm",
            {
                "dtype": "half yours: as the profile says",
                "enable_prefix_caching": "true what prompts begin with alike is computed once",
            },
            id="a100",
        ),
    ],
)
def test_a_plan_says_what_was_chosen_and_why(
    inside: Callable[..., Any], host: str, workload: str, shown: dict[str, str]
) -> None:
    """Each setting with its reason, and the operator's as his."""
    done = planned(inside, host, host)
    assert done.code == 0
    found = settings(done.out, workload)
    assert {name: found.get(name) for name in shown} == shown


def test_vllm_on_a_p106_is_refused(inside: Callable[..., Any]) -> None:
    """Before anything is fetched, once for all eight cards, with what to use instead."""
    done = planned(inside, "p106x8", "a6000x2-tp1")
    assert (done.code, done.out) == (2, "")
    why = "workloads.llm.engine: vLLM needs compute capability 7.5 or more, and this is P106-100"
    assert done.err.count(why) == 1
    assert (
        'hint: use engine = "llama.cpp" with image = "ghcr.io/ggml-org/llama.cpp:server-cuda"'
        in done.err
    )


def test_cuda_13_on_an_older_driver_is_refused(inside: Callable[..., Any], place: Path) -> None:
    """The same host under the driver before: the image of CUDA 12 is named."""
    host = json.loads((HOSTS / "a6000x2.json").read_text())
    older = place / "older.json"
    older.write_text(json.dumps(host | {"driver_version": "570.86.15", "cuda_version": "12.8"}))
    done = planned(inside, str(older), "a6000x2")
    assert (done.code, done.out) == (2, "")
    assert "which needs driver 580 or newer, and this host has 570.86.15" in done.err
    assert 'use image = "vllm/vllm-openai:v0.33.0-cu129"' in done.err


def test_variables_stand_above_the_profile(
    inside: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told, and the plan is made with them."""
    for name, text in {"GPU_MEMORY_UTILIZATION": "0.8", "TP_SIZE": "2"}.items():
        monkeypatch.setenv(name, text)
    done = planned(inside, "a6000x2", "a6000x2")
    assert "environment: GPU_MEMORY_UTILIZATION=0.8 stands above the profile" in done.err
    assert (
        settings(done.out, "llm")["gpu_memory_utilization"]
        == "0.8 yours: from GPU_MEMORY_UTILIZATION"
    )
