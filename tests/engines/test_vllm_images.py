"""vLLM's images: what is in them by name, and what an older vLLM does not know yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.cuda import Build
from gpuctl.engines.vllm import images
from gpuctl.model import GpuIdentity
from gpuctl.plugin import Unfit

from .test_vllm_fit import A100, fit, llm, on


@pytest.mark.parametrize(
    ("image", "build"),
    [
        pytest.param(
            "vllm/vllm-openai:v0.33.0",
            Build(platform="cuda", major=13, minor=0, version=(0, 33, 0)),
            id="today's",
        ),
        pytest.param(
            "vllm/vllm-openai",
            Build(platform="cuda", major=13, minor=0, version=(999,)),
            id="the newest",
        ),
        pytest.param(
            "mirror.local:5000/vllm/vllm-openai:latest-cu129-x86_64@sha256:00",
            Build(platform="cuda", major=12, minor=9, version=(999,)),
            id="a mirror of CUDA 12",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.19.1",
            Build(platform="cuda", major=12, minor=9, version=(0, 19, 1)),
            id="before CUDA 13",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.15.0-cu130",
            Build(platform="cuda", major=13, minor=0, version=(0, 15, 0)),
            id="CUDA 13 before its time",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.9.0.post1",
            Build(platform="cuda", major=12, minor=8, version=(0, 9, 0)),
            id="a mended one",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.11.0",
            Build(platform="cuda", major=12, minor=8, version=(0, 11, 0)),
            id="the last of 12.8",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.8.5",
            Build(platform="cuda", major=12, minor=4, version=(0, 8, 5)),
            id="of 12.4",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.6.6",
            Build(platform="cuda", major=12, minor=1, version=(0, 6, 6)),
            id="of 12.1",
        ),
        pytest.param(
            "vllm/vllm-openai:v0.5.0",
            Build(platform="cuda", major=12, version=(0, 5, 0)),
            id="older than any that was looked at",
        ),
        pytest.param(
            "vllm/vllm-openai-cpu:latest-x86_64", Build(platform="cpu", version=(999,)), id="cpu"
        ),
        pytest.param(
            "vllm/vllm-openai-rocm:v0.33.0", Build(platform="rocm", version=(0, 33, 0)), id="rocm"
        ),
        pytest.param(
            "vllm/vllm-openai:v0.33.0-rocm700",
            Build(platform="rocm", version=(0, 33, 0)),
            id="rocm by tag",
        ),
        pytest.param(
            "vllm/vllm-openai-xpu:v0.33.0", Build(platform="other", version=(0, 33, 0)), id="xpu"
        ),
        pytest.param("example/server:1", None, id="another project's"),
        pytest.param("vllm/vllm-openai:mine", None, id="a tag of one's own"),
    ],
)
def test_images(image: str, build: Build | None) -> None:
    """An image of the project tells what is in it by name; any other tells nothing."""
    assert images.build(image) == build
    assert images.version(image) == (build.version if build else None)


@pytest.mark.parametrize(
    ("image", "other"),
    [
        pytest.param("vllm/vllm-openai:latest", "latest-cu129", id="the newest"),
        pytest.param("vllm/vllm-openai:v0.33.0", "v0.33.0-cu129", id="of CUDA 13 by default"),
        pytest.param("vllm/vllm-openai:v0.15.0-cu130", "v0.15.0", id="of CUDA 12 by default"),
    ],
)
def test_the_cuda_12_image_of_another(image: str, other: str) -> None:
    """It has a suffix where the plain one brings CUDA 13."""
    assert images.with_cuda_12(image) == f"vllm/vllm-openai:{other}"


GAMES = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA GeForce RTX 4090")


@pytest.mark.parametrize(
    ("image", "hints"),
    [
        pytest.param(
            "v0.14.0", ["update the driver to one that serves CUDA 12.9"], id="of CUDA 12.9"
        ),
        pytest.param("v0.33.0", ["update the driver to 580 or newer"], id="of CUDA 13"),
        pytest.param("v0.6.6", [], id="of CUDA 12.1"),
    ],
)
def test_geforce_under_an_older_driver(image: str, hints: list[str]) -> None:
    """What the driver does not serve is refused, and no image is named that would be as well."""
    where = replace(on(GAMES, driver="535.183.01"), cuda_version=(12, 2))
    assert [one.hint for one in fit(llm(image=f"vllm/vllm-openai:{image}"), where)] == hints


@pytest.mark.parametrize(
    ("image", "options", "found"),
    [
        pytest.param("v0.6.6", {}, [], id="the oldest"),
        pytest.param(
            "v0.5.4",
            {},
            [
                Unfit(
                    key="image",
                    what="vLLM 0.5.4 is older than any whose flags gpuctl was written for (0.6.6):"
                    " whether it knows all of them was not checked",
                    hint="",
                    warning=True,
                )
            ],
            id="older",
        ),
        pytest.param("v0.8.2", {"speculative_config": "{}"}, [], id="speculation, in time"),
        pytest.param(
            "v0.8.0",
            {"speculative_config": "{}"},
            [
                Unfit(
                    key="options.speculative_config",
                    what="vLLM 0.8.0 has no --speculative-config, which came with 0.8.2",
                    hint="use an image of vLLM 0.8.2 or newer, or take speculative_config out",
                )
            ],
            id="speculation",
        ),
        pytest.param(
            "v0.11.0",
            {"kv_offloading_gib": 4.0, "enable_chunked_prefill": False},
            [
                Unfit(
                    key="options.kv_offloading_gib",
                    what="vLLM 0.11.0 has no --kv-offloading-size, which came with 0.11.1",
                    hint="use an image of vLLM 0.11.1 or newer, or take kv_offloading_gib out",
                )
            ],
            id="offloading",
        ),
        pytest.param(
            "v0.8.4",
            {"enable_chunked_prefill": False},
            [
                Unfit(
                    key="options.enable_chunked_prefill",
                    what="vLLM 0.8.4 has no --no-enable-chunked-prefill, which came with 0.8.5",
                    hint="use an image of vLLM 0.8.5 or newer, or take enable_chunked_prefill out",
                )
            ],
            id="whole prompts",
        ),
        pytest.param("v0.8.4", {"enable_chunked_prefill": True}, [], id="prompts in parts"),
    ],
)
def test_older_images(image: str, options: dict[str, Any], found: list[Unfit]) -> None:
    """What the operator asks of a vLLM that does not know it yet is refused with the first one."""
    asked = llm(image=f"vllm/vllm-openai:{image}", options=options)
    assert fit(asked, on(A100)) == found
