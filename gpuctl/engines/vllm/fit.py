"""Whether vLLM's image, with these options, runs on these cards under this driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gpuctl import cards, cuda, own_settings
from gpuctl.engines.vllm import images
from gpuctl.engines.vllm.options import FLAGS, Options, of, offloaded_bytes, running
from gpuctl.model import GpuIdentity, Workload
from gpuctl.overrides import names
from gpuctl.overrides.changes import wrong_share
from gpuctl.plugin import Slot, Unfit
from gpuctl.quantities import format_bytes

#: Source: https://docs.vllm.ai/en/latest/getting_started/installation/gpu/, "Requirements".
LEAST_CAPABILITY = (7, 5)

LLAMA_CPP = 'use engine = "llama.cpp" with image = "ghcr.io/ggml-org/llama.cpp:server-cuda"'

#: Weights unpacked by Marlin's kernels, which know Turing since 0.15; its hardware table of 0.14
#: begins with Ampere. Source: https://docs.vllm.ai/en/v0.14.0/features/quantization/ and, for
#: today, https://docs.vllm.ai/en/v0.32.0/features/quantization/llm_compressor/fp8/.
_MARLIN = frozenset({"fp8", "awq_marlin", "gptq_marlin"})
_MARLIN_ON_TURING = (0, 15)

#: The least of what begins above the floor. Source: `get_min_capability` of each in
#: vllm/model_executor/layers/quantization/ of vLLM 0.32.
_QUANTIZATIONS: dict[str, cards.Capability] = {
    "experts_int8": (8, 0),
    "fbgemm_fp8": (8, 0),
    "modelopt": (8, 0),
    "modelopt_mxfp8": (8, 0),
    "mxfp4": (8, 0),
    "fp_quant": (10, 0),
}

#: The least of the attention backends that are named in one's options. FlashInfer knows Turing,
#: and is broken there: https://github.com/flashinfer-ai/flashinfer/issues/3620.
#: Source: `supports_compute_capability` of each in vllm/v1/attention/backends/ of vLLM 0.32.
_ATTENTION: dict[str, cards.Capability] = {"FLASH_ATTN": (8, 0), "FLASHINFER": (8, 0)}

#: An fp8 KV cache needs a backend that reads it: FlashInfer from Ampere on, Triton's where the
#: card computes in fp8. Source: vllm/v1/attention/backends/triton_attn.py of vLLM 0.32.
FP8_KV_CAPABILITY = (8, 0)


#: How long vLLM lets running requests go on after SIGTERM, in seconds; 0 if left out.
SHUTDOWN_FLAG = "--shutdown-timeout"


def fit(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield what cannot run; the engine's own floor comes alone, as nothing else helps then."""
    build = images.build(workload.image)
    yield from _shutdown(workload, slot)
    yield from _whole_card(workload, slot)
    yield from _offloaded(workload, slot)
    yield from own_settings.twice(workload, FLAGS)
    yield from _older(workload, slot)
    if not slot.gpus:
        yield from _on_cpu(workload, build)
        return
    weak = cards.weakest(slot.gpus)
    found = cards.capability(weak)
    if found is not None and found < LEAST_CAPABILITY:
        what = f"vLLM needs compute capability {cards.written(LEAST_CAPABILITY)} or more, and this"
        yield Unfit(key="engine", what=f"{what} is {cards.shown(weak)}", hint=LLAMA_CPP)
        return
    forward = workload.environment.get("VLLM_ENABLE_CUDA_COMPATIBILITY") == "1"
    yield from cuda.unfit(workload.image, build, slot, _instead(workload, forward))
    yield from _unknown(running(workload), build)
    if found is None:
        return
    version = build.version if build else None
    for one in (
        *_numbers(running(workload), weak, found),
        *_quantization(running(workload), weak, found, version),
    ):
        key = one.key.removeprefix("options.")
        yield replace(one, key=own_settings.where(workload, key, FLAGS[key]))


def _instead(workload: Workload, forward: bool) -> cuda.Instead:
    image = images.with_cuda_12(workload.image)
    build = images.build(image)
    return cuda.Instead(cuda_12=image, minor=build.minor if build else None, forward=forward)


def _on_cpu(workload: Workload, build: cuda.Build | None) -> Iterator[Unfit]:
    if build is not None and build.platform != "cpu":
        yield Unfit(
            key="image",
            what=f"{workload.image} does not run on the CPU",
            hint='use image = "vllm/vllm-openai-cpu:latest-x86_64"',
        )


def _shutdown(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield a wait on SIGTERM that the SIGKILL after it would cut off; by default it waits none."""
    given = dict(zip(workload.args, workload.args[1:], strict=False))
    given |= dict(argument.split("=", 1) for argument in workload.args if "=" in argument)
    seconds = given.get(SHUTDOWN_FLAG, "")
    if seconds.isdecimal() and int(seconds) >= slot.stop_grace_seconds:
        what = f"{SHUTDOWN_FLAG} {seconds} is not below the {slot.stop_grace_seconds:g} s of"
        yield Unfit(
            key="args",
            what=f"{what} stop_grace: it would be killed while it waits",
            hint=f'write stop_grace = "{int(seconds) + 10}s", or a shorter {SHUTDOWN_FLAG}',
        )


def _whole_card(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    share = of(workload).gpu_memory_utilization
    if slot.gpus and (wrong := wrong_share(share)):
        what, _, hint = wrong.partition("; ")
        yield Unfit(key="options.gpu_memory_utilization", what=f"{share} {what}", hint=hint)


def _offloaded(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield a /dev/shm of the operator's own that does not hold the KV blocks it is to hold."""
    wanted, shm = offloaded_bytes(workload, slot), workload.shm_bytes
    if shm is not None and wanted > shm and slot.runtime != "process":
        what = f"kv_offloading_gib puts {format_bytes(wanted)} there, and it has"
        yield Unfit(
            key="shm",
            what=f"{what} {format_bytes(shm)}",
            hint="leave shm out: it is made large enough by itself",
        )


def _older(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield which of the operator's options the image's vLLM is too old to know."""
    version, options = images.version(workload.image), of(workload)
    if version is None:
        return
    if version < images.OLDEST:
        what = f"vLLM {cards.written(version)} is older than any whose flags gpuctl was written for"
        what += f" ({cards.written(images.OLDEST)}): whether it knows all of them was not checked"
        yield Unfit(key="image", what=what, hint="", warning=True)
    asked = {
        "speculative_config": ("--speculative-config", options.speculative_config is not None),
        "kv_offloading_gib": ("--kv-offloading-size", offloaded_bytes(workload, slot) > 0),
        "enable_chunked_prefill": (
            "--no-enable-chunked-prefill",
            options.enable_chunked_prefill is False,
        ),
    }
    for key, (flag, wanted) in asked.items():
        if wanted and not images.knows(workload.image, flag):
            first = cards.written(images.FLAGS[flag])
            yield Unfit(
                key=f"options.{key}",
                what=f"vLLM {cards.written(version)} has no {flag}, which came with {first}",
                hint=f"use an image of vLLM {first} or newer, or take {key} out",
            )


def _unknown(options: Options, build: cuda.Build | None) -> Iterator[Unfit]:
    """Tell of names that this vLLM does not list: a plug-in may bring them, so none is refused."""
    version = build.version if build is not None else None
    if version is not None and version < names.VERSION:
        return
    known_by = {"attention_backend": names.ATTENTION, "quantization": names.QUANTIZATIONS}
    for key, known in known_by.items():
        name = getattr(options, key)
        if name is not None and name not in known:
            what = f"vLLM {cards.written(names.VERSION)} lists no {name!r}:"
            what += " right only where a plug-in of the image brings it"
            hint = names.suggestion(name, known)
            yield Unfit(key=f"options.{key}", what=what, hint=hint, warning=True)


def _numbers(options: Options, gpu: GpuIdentity, found: cards.Capability) -> Iterator[Unfit]:
    """Yield what the card cannot compute with, and what does not run on it."""
    where, attention = cards.shown(gpu), options.attention_backend
    if options.dtype == "bfloat16" and found < cards.BFLOAT16:
        what = f"bfloat16 needs compute capability {cards.written(cards.BFLOAT16)}: {where}"
        yield Unfit(key="options.dtype", what=what, hint='write dtype = "half"')
    least = _ATTENTION.get(attention or "", LEAST_CAPABILITY)
    if found < least:
        what = f"{attention} needs compute capability {cards.written(least)}: {where}"
        hint = 'write attention_backend = "TRITON_ATTN"'
        yield Unfit(key="options.attention_backend", what=what, hint=hint)
    needed = cards.FP8 if attention == "TRITON_ATTN" else FP8_KV_CAPABILITY
    if (options.kv_cache_dtype or "").startswith("fp8") and found < needed:
        reader = attention or "no attention backend"
        negated = "does not read" if attention else "reads"
        what = f"{reader} {negated} an fp8 KV cache on {where}"
        hint = "take kv_cache_dtype out: the cache is then as wide as dtype"
        yield Unfit(key="options.kv_cache_dtype", what=what, hint=hint)


def _quantization(
    options: Options, gpu: GpuIdentity, found: cards.Capability, version: tuple[int, ...] | None
) -> Iterator[Unfit]:
    name = options.quantization or ""
    where = cards.shown(gpu)
    least = _QUANTIZATIONS.get(name, LEAST_CAPABILITY)
    if found < least:
        what = f"{name} needs compute capability {cards.written(least)}: {where}"
        yield Unfit(key="options.quantization", what=what, hint="use a model in AWQ or GPTQ")
    old = version is not None and version < _MARLIN_ON_TURING
    if old and name in _MARLIN and found < cards.BFLOAT16:
        what = f"vLLM {cards.written(version or ())} runs {name} on compute"
        what += f" capability 8.0 or more only: {where}"
        hint = "use an image of vLLM 0.15 or newer, or a model in AWQ or GPTQ"
        yield Unfit(key="options.quantization", what=what, hint=hint)
