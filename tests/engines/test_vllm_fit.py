"""vLLM's fit: its floor, the numbers a card computes with, and what is said twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.engines.vllm import ENGINE
from gpuctl.model import GIB, GpuIdentity, Workload
from gpuctl.plugin import Slot, Unfit

from .make import slot, workload

P106 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA P106-100")
T4 = GpuIdentity(index=0, uuid="GPU-0", name="Tesla T4")
A100 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA A100-SXM4-80GB")
L4 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA L4")
UNKNOWN = GpuIdentity(index=0, uuid="GPU-0")
IMAGE = "vllm/vllm-openai:v0.33.0"


def llm(**changes: Any) -> Workload:
    return workload(**({"engine": "vllm", "model": "org/model", "image": IMAGE} | changes))


def on(*gpus: GpuIdentity, driver: str = "580.95.05") -> Slot:
    return Slot(
        index=0, gpus=gpus, port=1, runtime="docker", driver_version=driver, cuda_version=(13, 0)
    )


def fit(asked: Workload, where: Slot) -> list[Unfit]:
    assert ENGINE.fit is not None
    return list(ENGINE.fit(asked, where))


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        pytest.param(llm(), on(T4), id="Turing, the floor"),
        pytest.param(llm(options={"dtype": "half"}), on(T4), id="half on Turing"),
        pytest.param(llm(options={"quantization": "awq"}), on(T4), id="AWQ on Turing"),
        pytest.param(llm(options={"quantization": "fp8"}), on(T4), id="fp8 weights by Marlin"),
        pytest.param(llm(options={"dtype": "bfloat16"}), on(A100), id="bfloat16 on Ampere"),
        pytest.param(llm(options={"kv_cache_dtype": "fp8"}), on(A100), id="fp8 KV on Ampere"),
        pytest.param(
            llm(options={"kv_cache_dtype": "fp8", "attention_backend": "TRITON_ATTN"}),
            on(L4),
            id="fp8 KV by Triton on Ada",
        ),
        pytest.param(
            llm(options={"kv_cache_dtype": "fp8", "attention_backend": "FLASHINFER"}),
            on(A100),
            id="fp8 KV by FlashInfer on Ampere",
        ),
        pytest.param(llm(options={"quantization": "mxfp4"}), on(A100), id="mxfp4 on Ampere"),
        pytest.param(
            llm(options={"kv_cache_dtype": "fp8_e4m3", "quantization": "fp8"}), on(L4), id="Ada"
        ),
        pytest.param(llm(options={"dtype": "bfloat16"}), on(UNKNOWN), id="a card not known"),
        pytest.param(llm(image="vllm/vllm-openai-cpu:v0.33.0"), slot(gpus=0), id="CPU image"),
        pytest.param(
            llm(image="example/server:1", options={"gpu_memory_utilization": 1.0}),
            slot(gpus=0),
            id="a share of no card",
        ),
        pytest.param(llm(image="example/server:1"), slot(gpus=0), id="another image on the CPU"),
        pytest.param(
            llm(environment={"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}),
            on(A100, driver="570.86.15"),
            id="with libraries for older drivers",
        ),
    ],
)
def test_fits(asked: Workload, where: Slot) -> None:
    """What runs is let through."""
    assert fit(asked, where) == []


@pytest.mark.parametrize(
    ("asked", "where", "unfit"),
    [
        pytest.param(
            llm(options={"dtype": "bfloat16"}),
            on(P106, driver="535.183.01"),
            Unfit(
                key="engine",
                what="vLLM needs compute capability 7.5 or more, and this is P106-100 (compute"
                " capability 6.1)",
                hint='use engine = "llama.cpp" with image ='
                ' "ghcr.io/ggml-org/llama.cpp:server-cuda"',
            ),
            id="Pascal, and nothing else is said",
        ),
        pytest.param(
            llm(),
            on(A100, driver="570.86.15"),
            Unfit(
                key="image",
                what="vllm/vllm-openai:v0.33.0 brings CUDA 13, which needs driver 580 or newer,"
                " and this host has 570.86.15",
                hint='use image = "vllm/vllm-openai:v0.33.0-cu129", which brings CUDA 12, or'
                " update the driver to 580 or newer",
            ),
            id="CUDA 13 on an older driver",
        ),
        pytest.param(
            llm(options={"gpu_memory_utilization": 1.0}),
            on(A100),
            Unfit(
                key="options.gpu_memory_utilization",
                what="1.0 is the whole of a card, which is never free: the driver and vLLM's own"
                " CUDA context hold a part of it, and it would not start",
                hint="write a number above 0 and below 1: the usual one is 0.9",
            ),
            id="the whole of a card",
        ),
        pytest.param(
            llm(options={"dtype": "bfloat16"}),
            on(T4),
            Unfit(
                key="options.dtype",
                what="bfloat16 needs compute capability 8.0: T4 (compute capability 7.5)".replace(
                    "T4 (", "Tesla T4 ("
                ),
                hint='write dtype = "half"',
            ),
            id="bfloat16 on Turing",
        ),
        pytest.param(
            llm(options={"kv_cache_dtype": "fp8_e5m2"}),
            on(T4),
            Unfit(
                key="options.kv_cache_dtype",
                what="no attention backend reads an fp8 KV cache on Tesla T4 (compute capability"
                " 7.5)",
                hint="take kv_cache_dtype out: the cache is then as wide as dtype",
            ),
            id="fp8 KV on Turing",
        ),
        pytest.param(
            llm(options={"kv_cache_dtype": "fp8", "attention_backend": "TRITON_ATTN"}),
            on(A100),
            Unfit(
                key="options.kv_cache_dtype",
                what="TRITON_ATTN does not read an fp8 KV cache on A100-SXM4-80GB (compute"
                " capability 8.0)",
                hint="take kv_cache_dtype out: the cache is then as wide as dtype",
            ),
            id="fp8 KV by Triton on Ampere",
        ),
        *(
            pytest.param(
                llm(options={"attention_backend": name}),
                on(T4),
                Unfit(
                    key="options.attention_backend",
                    what=f"{name} needs compute capability 8.0: Tesla T4 (compute capability 7.5)",
                    hint='write attention_backend = "TRITON_ATTN"',
                ),
                id=f"{name} on Turing",
            )
            for name in ("FLASH_ATTN", "FLASHINFER")
        ),
        *(
            pytest.param(
                llm(options={"quantization": name}),
                on(gpu),
                Unfit(
                    key="options.quantization",
                    what=f"{name} needs compute capability {least}: {shown}",
                    hint="use a model in AWQ or GPTQ",
                ),
                id=name,
            )
            for name, gpu, least, shown in (
                ("mxfp4", T4, "8.0", "Tesla T4 (compute capability 7.5)"),
                ("modelopt", T4, "8.0", "Tesla T4 (compute capability 7.5)"),
                ("modelopt_mxfp8", T4, "8.0", "Tesla T4 (compute capability 7.5)"),
                ("experts_int8", T4, "8.0", "Tesla T4 (compute capability 7.5)"),
                ("fbgemm_fp8", T4, "8.0", "Tesla T4 (compute capability 7.5)"),
                ("fp_quant", A100, "10.0", "A100-SXM4-80GB (compute capability 8.0)"),
            )
        ),
        *(
            pytest.param(
                llm(image="vllm/vllm-openai:v0.14.0", options={"quantization": name}),
                on(T4),
                Unfit(
                    key="options.quantization",
                    what=f"vLLM 0.14.0 runs {name} on compute capability 8.0 or more only: Tesla"
                    " T4 (compute capability 7.5)",
                    hint="use an image of vLLM 0.15 or newer, or a model in AWQ or GPTQ",
                ),
                id=f"{name} on Turing, before",
            )
            for name in ("fp8", "awq_marlin", "gptq_marlin")
        ),
        pytest.param(
            llm(),
            slot(gpus=0),
            Unfit(
                key="image",
                what="vllm/vllm-openai:v0.33.0 does not run on the CPU",
                hint='use image = "vllm/vllm-openai-cpu:latest-x86_64"',
            ),
            id="a GPU's image on the CPU",
        ),
    ],
)
def test_refused(asked: Workload, where: Slot, unfit: Unfit) -> None:
    """What cannot run is refused with what to use instead."""
    assert fit(asked, where) == [unfit]


def test_the_weakest_of_a_group_decides() -> None:
    """One Turing card in a group takes bfloat16 from all of it."""
    found = fit(llm(options={"dtype": "bfloat16"}), on(A100, T4))
    assert [unfit.key for unfit in found] == ["options.dtype"]


def test_no_version_is_no_mistake() -> None:
    """Where an image does not tell its vLLM, its quantizations are not judged."""
    found = fit(llm(image="example/server:1", options={"quantization": "fp8"}), on(T4))
    assert found == []


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        pytest.param(("--kv-cache-dtype", "fp8"), ["args"], id="a number type"),
        pytest.param(("--kv_cache_dtype=fp8",), ["args"], id="with underscores"),
        pytest.param(("--dtype=bfloat16", "-q", "mxfp4"), ["args", "args"], id="two"),
        pytest.param(("--dtype", "half"), [], id="what it has"),
    ],
)
def test_args_are_judged_as_options(args: tuple[str, ...], keys: list[str]) -> None:
    """What a card cannot do it cannot do either where it stands among the args."""
    assert [one.key for one in fit(llm(args=args), on(T4))] == keys


def test_said_twice() -> None:
    """vLLM would take the args; the operator is asked which he means."""
    asked = llm(options={"quantization": "awq"}, args=("-q", "fp8"))
    found = Unfit(key="args", what="-q stands beside options.quantization", hint="keep one of them")
    assert fit(asked, on(L4)) == [found]


@pytest.mark.parametrize(
    ("args", "grace_seconds", "keys"),
    [
        pytest.param((), 30.0, [], id="it waits none"),
        pytest.param(("--shutdown-timeout", "20"), 30.0, [], id="less than the grace"),
        pytest.param(("--shutdown-timeout", "30"), 30.0, ["args"], id="as long as the grace"),
        pytest.param(("-v", "--shutdown-timeout=60"), 30.0, ["args"], id="longer, in one word"),
        pytest.param(("--shutdown-timeout=60",), 90.0, [], id="a long grace"),
    ],
)
def test_a_wait_that_would_be_cut_off(
    args: tuple[str, ...], grace_seconds: float, keys: list[str]
) -> None:
    """What waits for its requests on SIGTERM must be done before SIGKILL comes."""
    place = slot(gpus=0, stop_grace_seconds=grace_seconds)
    assert ENGINE.fit is not None
    found = ENGINE.fit(workload(image="vllm/vllm-openai-cpu:latest", args=args), place)
    assert [unfit.key for unfit in found] == keys


@pytest.mark.parametrize(
    ("changes", "runtime", "found"),
    [
        pytest.param({}, "docker", (), id="by itself"),
        pytest.param({"shm_bytes": 8 * GIB}, "docker", (), id="large enough"),
        pytest.param({"shm_bytes": 4 * GIB}, "process", (), id="a process has the host's"),
        pytest.param(
            {"shm_bytes": 4 * GIB},
            "docker",
            (
                Unfit(
                    key="shm",
                    what="kv_offloading_gib puts 8 GiB there, and it has 4 GiB",
                    hint="leave shm out: it is made large enough by itself",
                ),
            ),
            id="too small",
        ),
    ],
)
def test_kv_blocks_in_shared_memory(
    changes: dict[str, Any], runtime: str, found: tuple[Unfit, ...]
) -> None:
    """vLLM looks for room in /dev/shm before it starts, and ends without it."""
    asked = llm(options={"kv_offloading_gib": 8.0}, **changes)
    assert tuple(fit(asked, replace(on(A100), runtime=runtime))) == found


@pytest.mark.parametrize(
    ("image", "options", "keys"),
    [
        pytest.param(
            IMAGE, {"quantization": "awq", "attention_backend": "FLASHINFER"}, (), id="known"
        ),
        pytest.param(
            IMAGE,
            {"quantization": "gguf", "attention_backend": "MINE"},
            ("options.attention_backend", "options.quantization"),
            id="of a plug-in",
        ),
        pytest.param(
            "mine/vllm:1", {"quantization": "mine"}, ("options.quantization",), id="own image"
        ),
        pytest.param(
            "vllm/vllm-openai:v0.31.0", {"quantization": "gguf"}, (), id="an earlier vLLM"
        ),
    ],
)
def test_names_that_vllm_does_not_list(
    image: str, options: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """They are told and not refused: an image may bring a plug-in that knows them."""
    about = [
        one for one in fit(llm(image=image, options=options), on(A100)) if "lists no" in one.what
    ]
    assert tuple(one.key for one in about) == keys
    assert all(one.warning and "vLLM knows" in one.hint for one in about)
