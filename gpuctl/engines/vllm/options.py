"""vLLM's options as a profile writes them, and the caches it keeps between starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

from gpuctl import own_settings
from gpuctl.caches import Cache
from gpuctl.model import GIB, Workload
from gpuctl.overrides.changes import wrong_share
from gpuctl.plugin import Slot

#: Where the model's files are fetched to; a name on the hub, not a path, is looked up there.
HUGGING_FACE = Cache(
    volume="gpuctl-huggingface",
    target="/root/.cache/huggingface",
    variables=("HF_HOME", "HF_HUB_CACHE"),
    why="the model is fetched once, not at every start",
)
#: What the image compiles at a first start. Source: https://docs.vllm.ai/en/latest/design/torch_compile/,
#: https://triton-lang.org/main/programming-guide/chapter-3/debugging.html (TRITON_CACHE_DIR under
#: ~/.triton) and the CUDA C++ programming guide, "CUDA Environment Variables".
TORCH = Cache(
    volume="gpuctl-vllm",
    target="/root/.cache/vllm",
    variables=("VLLM_CACHE_ROOT",),
    why="torch.compile's results: a restart does not compile again",
)
ON_GPUS = (
    Cache(
        volume="gpuctl-triton",
        target="/root/.triton",
        variables=("TRITON_CACHE_DIR", "TRITON_HOME"),
        why="Triton's kernels: a restart does not compile again",
    ),
    Cache(
        volume="gpuctl-cuda",
        target="/root/.nv/ComputeCache",
        variables=("CUDA_CACHE_PATH",),
        why="what the driver compiles for the card",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`[workloads.<name>.options]`; `None` leaves what suits the card, else vLLM's own default."""

    gpu_memory_utilization: float = 0.9  # of the GPU's whole memory, weights and KV cache together
    max_num_seqs: int | None = None  # None: the workload's `parallel`
    max_num_batched_tokens: int | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    attention_backend: str | None = None  # TRITON_ATTN, FLASH_ATTN, FLASHINFER …
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    enforce_eager: bool = False  # no CUDA graphs: less memory, slower
    speculative_config: str | None = None  # JSON, as `--speculative-config` takes it
    kv_offloading_gib: float | None = None  # host RAM for KV blocks, over all GPUs of the replica
    served_model_name: str | None = None  # in its responses; None: the workload's name

    def __post_init__(self) -> None:
        # The whole of a card is `fit`'s to refuse: applied profiles have it, and end no daemon.
        wrong = wrong_share(self.gpu_memory_utilization)
        if wrong and self.gpu_memory_utilization != 1:
            raise ValueError(f"gpu_memory_utilization: {self.gpu_memory_utilization} {wrong}")
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")
        if self.kv_offloading_gib is not None and not self.kv_offloading_gib > 0:
            raise ValueError(f"kv_offloading_gib: {self.kv_offloading_gib} is not above 0")
        if self.speculative_config is not None and not _is_object(self.speculative_config):
            raise ValueError("speculative_config: it is not a JSON object")


#: Where an option's flag has another name than the option, or a second one.
_OTHER_NAMES = {
    "quantization": ("-q",),
    "speculative_config": ("-sc",),
    "kv_offloading_gib": ("--kv-offloading-size", "--kv_offloading_size"),
}


def spelled(flag: str) -> tuple[str, str]:
    """Return a flag in both of its spellings: vLLM takes an underscore for a dash."""
    return flag, "--" + flag[2:].replace("-", "_")


def _flags(key: str) -> tuple[str, ...]:
    name = key.replace("_", "-")
    return (*spelled(f"--{name}"), *spelled(f"--no-{name}"), *_OTHER_NAMES.get(key, ()))


#: What an option is called on the command line, where a profile may give it in `args`.
FLAGS = {field.name: _flags(field.name) for field in fields(Options)}

#: Options that are words. Of the others in `args` only these change the sum: the tokens of a step,
#: and whether a prompt may be cut into several.
_WORDS = ("dtype", "quantization", "kv_cache_dtype", "attention_backend")

#: Source: `human_readable_int` in vllm/engine/arg_utils.py: a small letter is decimal.
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_COUNT_UNITS = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20}


def of(workload: Workload) -> Options:
    """Return a workload's options, which were checked when the profile was read."""
    return Options(**cast(dict[str, Any], dict(workload.options)))


def running(workload: Workload) -> Options:
    """Return the options it runs with: those that stand in `args` instead are among them."""
    found = own_settings.said(workload, FLAGS)
    changes: dict[str, Any] = {key: found[key] for key in _WORDS if key in found}
    if tokens := _count(found.get("max_num_batched_tokens", "")):
        changes["max_num_batched_tokens"] = tokens
    if chunked := own_settings.argument(workload, FLAGS["enable_chunked_prefill"]):
        on = not chunked[0].startswith("--no") and chunked[1].lower() != "false"
        changes["enable_chunked_prefill"] = on
    return replace(of(workload), **changes)


def _count(text: str) -> int:
    found = _COUNT.fullmatch(text)
    return int(float(found[1]) * _COUNT_UNITS[found[2]]) if found else 0


def offloaded_bytes(workload: Workload, slot: Slot) -> int:
    """
    Return the host RAM that KV blocks go to, 0 for none; on the CPU they are in RAM already.

    It is filled at the start and kept, and lies in /dev/shm: SharedOffloadRegion in
    vllm/v1/kv_offload/cpu/shared_offload_region.py of 0.32.
    """
    return int((of(workload).kv_offloading_gib or 0) * GIB) if slot.gpus else 0


def caches(workload: Workload, slot: Slot) -> tuple[Cache, ...]:
    """Return what it fetches and compiles there; a model that is a path is not fetched."""
    fetched = () if workload.model.startswith("/") else (HUGGING_FACE,)
    return (*fetched, TORCH, *(ON_GPUS if slot.gpus else ()))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
