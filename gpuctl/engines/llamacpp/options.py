"""llama.cpp's options as a profile writes them, and what its images compile for a card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from gpuctl import cards, own_settings
from gpuctl.caches import Cache
from gpuctl.model import Workload

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]

#: What a V cache may be in without flash attention; `None` is the server's f16.
#: Source: `llama_init_from_model` in src/llama-context.cpp of llama.cpp.
UNQUANTIZED = (None, "f32", "f16", "bf16")

#: What the driver compiles at a first start. Source: CUDA C++ programming guide, "CUDA Environment
#: Variables" (CUDA_CACHE_PATH; CUDA_CACHE_MAXSIZE is 4 GiB at most).
COMPILED = Cache(
    volume="gpuctl-cuda",
    target="/root/.cache/cuda",
    variables=("CUDA_CACHE_PATH",),
    why="the image has no code for this card: the driver compiles it once",
)
CACHE_ENVIRONMENT = {"CUDA_CACHE_PATH": COMPILED.target, "CUDA_CACHE_MAXSIZE": "4294967296"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`[workloads.<name>.options]`; `None` leaves what suits the card, else the server's own."""

    gpu_layers: int | None = None  # None: all of them, or none on the CPU
    batch: int | None = None  # tokens of a prompt handed over at once
    ubatch: int | None = None  # tokens computed at once: sizes the compute buffer
    threads: int | None = None
    flash_attention: Literal["on", "off", "auto"] | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = None  # None: the model's
    cache_ram_mib: int | None = None  # host prompt cache; None: a share of the memory limit
    spec_type: str | None = None  # speculative decoding: ngram-simple, draft-simple …
    spec_draft_model: str | None = None  # a file, named as `model` is
    spec_draft_max: int | None = None  # tokens guessed at once

    def __post_init__(self) -> None:
        for name in ("batch", "ubatch", "threads", "spec_draft_max"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")
        for name in ("gpu_layers", "cache_ram_mib"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: {value} is negative")


#: What an option is called on the command line, where a profile may give it in `args`.
FLAGS: dict[str, tuple[str, ...]] = {
    "gpu_layers": (),  # gpuctl's to set
    "batch": ("-b", "--batch-size"),
    "ubatch": ("-ub", "--ubatch-size"),
    "threads": ("-t", "--threads"),
    "flash_attention": ("-fa", "--flash-attn"),
    "cache_type_k": ("-ctk", "--cache-type-k"),
    "cache_type_v": ("-ctv", "--cache-type-v"),
    "pooling": ("--pooling",),
    "cache_ram_mib": (),  # gpuctl's to set
    "spec_type": ("--spec-type",),
    "spec_draft_model": ("--spec-draft-model", "-md", "--model-draft"),
    "spec_draft_max": ("--spec-draft-n-max", "--draft-max", "--draft", "--draft-n"),
}

#: What `-fa` takes for `off` besides. Source: `is_falsey` in common/arg.cpp of llama.cpp.
_FALSE = ("off", "disabled", "false", "0")


def running(workload: Workload) -> Options:
    """
    Return the options it runs with: those that stand in `args` instead are among them.

    Of numbers only the tokens of a batch are, which change the sum; the server refuses others.
    """
    found = own_settings.said(workload, FLAGS)
    changes: dict[str, Any] = {k: found[k] for k in ("cache_type_k", "cache_type_v") if k in found}
    if (attention := found.get("flash_attention")) is not None:
        changes["flash_attention"] = "off" if attention in _FALSE else "on"
    if found.get("ubatch", "").isdecimal() and int(found["ubatch"]):
        changes["ubatch"] = int(found["ubatch"])
    return replace(of(workload), **changes)


def of(workload: Workload) -> Options:
    """Return a workload's options, which were checked when the profile was read."""
    return Options(**cast(dict[str, Any], dict(workload.options)))


def compiled_by_driver(found: cards.Capability) -> bool:
    """
    Whether the images hold only PTX for a card: native code is there from 8.6 to 8.9, and for 12.

    Source: CMAKE_CUDA_ARCHITECTURES in ggml/src/ggml-cuda/CMakeLists.txt of llama.cpp (50-, 61-,
    70-, 75-, 80- and 90-virtual; 86-, 89- and 120a-real).
    """
    return not ((8, 6) <= found < (9, 0) or found[0] == 12)
