"""llama.cpp's fit: its images by name, and what the embedded server lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.cuda import Build
from gpuctl.engines.llamacpp import ENGINE
from gpuctl.engines.llamacpp.fit import build
from gpuctl.engines.llamacpp.options import compiled_by_driver
from gpuctl.model import GpuIdentity
from gpuctl.plugin import Slot, Unfit

from .make import slot, workload

P106 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA P106-100")
PROJECT = "ghcr.io/ggml-org/llama.cpp"


def on(gpu: GpuIdentity, driver: str, served: tuple[int, int]) -> Slot:
    return Slot(
        index=0, gpus=(gpu,), port=1, runtime="docker", driver_version=driver, cuda_version=served
    )


def fit(where: Slot, **changes: Any) -> list[Unfit]:
    assert ENGINE.fit is not None
    return list(ENGINE.fit(workload(**changes), where))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        pytest.param(f"{PROJECT}:server", Build(platform="cpu"), id="cpu"),
        pytest.param(f"{PROJECT}:server-b6123", Build(platform="cpu"), id="cpu, pinned"),
        pytest.param(
            f"{PROJECT}:server-cuda", Build(platform="cuda", major=12, minor=8), id="cuda"
        ),
        pytest.param(
            f"{PROJECT}:full-cuda-b6123", Build(platform="cuda", major=12), id="cuda, pinned"
        ),
        pytest.param(
            "mirror.local/llama.cpp:server-cuda12",
            Build(platform="cuda", major=12, minor=8),
            id="cuda 12 by its own name",
        ),
        pytest.param(
            f"{PROJECT}:server-cuda13", Build(platform="cuda", major=13, minor=0), id="cuda 13"
        ),
        pytest.param(f"{PROJECT}:server-rocm", Build(platform="rocm"), id="rocm"),
        pytest.param(f"{PROJECT}:server-intel", Build(platform="other"), id="intel"),
        pytest.param(f"{PROJECT}:server-vulkan", None, id="vulkan runs on any"),
        pytest.param(f"{PROJECT}:server-vulkan-b6123", None, id="vulkan, pinned"),
        pytest.param(PROJECT, None, id="no tag"),
        pytest.param("example/server:server-cuda", None, id="another project's"),
    ],
)
def test_images(image: str, found: Build | None) -> None:
    """An image of the project tells what is in it by name; any other tells nothing."""
    assert build(image) == found


@pytest.mark.parametrize(
    ("capability", "compiled"),
    [
        pytest.param((6, 1), True, id="6.1"),
        pytest.param((7, 5), True, id="7.5"),
        pytest.param((8, 0), True, id="8.0"),
        pytest.param((8, 6), False, id="8.6"),
        pytest.param((8, 9), False, id="8.9"),
        pytest.param((9, 0), True, id="9.0"),
        pytest.param((12, 0), False, id="12.0"),
    ],
)
def test_code_for_a_card(capability: tuple[int, int], compiled: bool) -> None:
    """The images have code for 3090, A4000, A6000, L4 and Blackwell; others' is compiled."""
    assert compiled_by_driver(capability) is compiled


def test_pascal_on_today_s_driver() -> None:
    """A P106 runs the CUDA 12 image under the last driver it has."""
    assert fit(on(P106, "580.95.05", (13, 0)), image=f"{PROJECT}:server-cuda") == []


def test_pascal_and_cuda_13() -> None:
    """The CUDA 13 image is refused on it, with the one to use."""
    assert fit(on(P106, "580.95.05", (13, 0)), image=f"{PROJECT}:server-cuda13") == [
        Unfit(
            key="image",
            what=f"{PROJECT}:server-cuda13 brings CUDA 13, which has dropped P106-100 (compute"
            " capability 6.1)",
            hint=f'use image = "{PROJECT}:server-cuda", which brings CUDA 12',
        )
    ]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"spec_type": "ngram-simple"}, id="without a model"),
        pytest.param({"spec_draft_model": "small.gguf"}, id="with one"),
    ],
)
def test_the_embedded_server_guesses_nothing(options: dict[str, Any]) -> None:
    """What a process cannot do is refused, and what Docker can is not."""
    refused = Unfit(
        key="options.spec_type",
        what="the embedded server of a process has no speculative decoding",
        hint="take it out, or run the workload in Docker",
    )
    assert fit(slot(gpus=0, runtime="process"), options=options) == [refused]
    assert fit(slot(gpus=0), options=options) == []


V_CACHE = Unfit(
    key="options.cache_type_v",
    what="a V cache of q8_0 needs flash attention, which is off",
    hint='write flash_attention = "on", or take cache_type_v out',
)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param(
            {"options": {"cache_type_v": "q8_0", "flash_attention": "off"}}, [V_CACHE], id="off"
        ),
        pytest.param({"options": {"cache_type_v": "q8_0"}}, [], id="by default"),
        pytest.param(
            {"options": {"cache_type_v": "bf16", "flash_attention": "off"}}, [], id="as wide"
        ),
        pytest.param(
            {"options": {"cache_type_k": "q8_0", "flash_attention": "off"}}, [], id="keys alone"
        ),
        pytest.param(
            {"options": {"flash_attention": "off"}, "args": ("-ctv", "q8_0")},
            [replace(V_CACHE, key="args")],
            id="in the args",
        ),
        pytest.param(
            {"options": {"flash_attention": "on"}, "args": ("-fa", "off")},
            [
                Unfit(
                    key="args",
                    what="-fa stands beside options.flash_attention",
                    hint="keep one of them",
                )
            ],
            id="twice",
        ),
    ],
)
def test_a_quantized_v_cache(changes: dict[str, Any], found: list[Unfit]) -> None:
    """The server ends at once without flash attention: it is refused before."""
    assert fit(slot(), **changes) == found


def test_geforce_under_an_older_driver() -> None:
    """Both images are of a CUDA that it does not serve: neither is named instead of the other."""
    where = on(GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA GeForce RTX 4090"), "535.1", (12, 2))
    images = [f"{PROJECT}:server-cuda{suffix}" for suffix in ("13", "", "-b6123")]
    assert [[one.hint for one in fit(where, image=image)] for image in images] == [
        ["update the driver to 580 or newer"],
        ["update the driver to one that serves CUDA 12.8"],
        [""],
    ]
