"""
vLLM: its OpenAI server in a container, one per GPU or one over a group by tensor parallelism.

Flags, environment and metrics as of vLLM 0.33: https://docs.vllm.ai/en/latest/cli/serve/ and
https://docs.vllm.ai/en/latest/usage/metrics/
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from gpuctl.exposition import Sample, samples, total, whole
from gpuctl.model import GIB, EngineStats, ProbeSpec, Workload
from gpuctl.plugin import Engine, Launch, Slot

CONTAINER_PORT = 8000

#: Workers of one group pass tensors through /dev/shm, where Docker gives 64 MiB; vLLM's Docker
#: guide asks for `--ipc=host` or a `--shm-size` of some gigabytes.
SHM_BYTES = 2 * GIB
SHM_GROUP_BYTES = 8 * GIB

_PROGRESS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_count",
)
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_KV = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")  # the second: before 0.10
_SLEEP = "vllm:engine_sleep_state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`[workloads.<name>.options]`; `None` leaves vLLM's own default."""

    gpu_memory_utilization: float = 0.9  # of the GPU's whole memory, weights and KV cache together
    max_num_seqs: int | None = None  # None: the workload's `parallel`
    max_num_batched_tokens: int | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    enforce_eager: bool = False  # no CUDA graphs: less memory, slower
    served_model_name: str | None = None  # in its responses; None: the workload's name

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization: {self.gpu_memory_utilization} is not in (0, 1]"
            )
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the arguments of `vllm serve`, which is the image's entrypoint."""
    options = Options(**cast(dict[str, Any], dict(workload.options)))
    on_host = workload.network == "host"
    port = slot.port if on_host else CONTAINER_PORT
    slots = options.max_num_seqs or workload.parallel
    return Launch(
        image=workload.image,
        command=(
            workload.model,
            *("--host", "127.0.0.1" if on_host else "0.0.0.0", "--port", str(port)),
            *("--served-model-name", *_names(workload, options)),
            *_sizes(workload, slot, options, slots),
            *_switch("prefix-caching", options.enable_prefix_caching),
            *_switch("chunked-prefill", options.enable_chunked_prefill),
            *(("--enforce-eager",) if options.enforce_eager else ()),
            # Else the probes' own lines would push the evidence out of the last 200.
            *("--disable-access-log-for-endpoints", "/health,/metrics"),
            *workload.args,
        ),
        environment={"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"},
        container_port=port,
        shm_bytes=SHM_GROUP_BYTES if len(slot.gpus) > 1 else SHM_BYTES,
        slots=slots,
    )


def _names(workload: Workload, options: Options) -> tuple[str, ...]:
    """Return every name it answers to; the first is the one in its responses."""
    first = options.served_model_name or workload.name
    return tuple(dict.fromkeys((first, workload.name, *workload.aliases, workload.model)))


def _sizes(workload: Workload, slot: Slot, options: Options, slots: int) -> tuple[str, ...]:
    # On the CPU there is no share of a GPU to take.
    share = options.gpu_memory_utilization if slot.gpus else None
    flags: tuple[tuple[str, object], ...] = (
        ("--tensor-parallel-size", len(slot.gpus) if len(slot.gpus) > 1 else None),
        ("--max-model-len", workload.context),
        ("--gpu-memory-utilization", share),
        ("--max-num-seqs", slots),
        ("--max-num-batched-tokens", options.max_num_batched_tokens),
        ("--dtype", options.dtype),
        ("--quantization", options.quantization),
        ("--kv-cache-dtype", options.kv_cache_dtype),
    )
    given = ((flag, str(value)) for flag, value in flags if value is not None)
    return tuple(part for pair in given for part in pair)


def _switch(name: str, value: bool | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (f"--enable-{name}",) if value else (f"--no-enable-{name}",)


def probe(workload: Workload, slot: Slot) -> ProbeSpec:
    """
    Return how it is asked.

    It refuses connections until the engine is ready, and /health is 503 only when the engine is
    dead: a hung GPU still says 200, so the counters and the canary tell.
    """
    chat = workload.kind == "chat"
    return ProbeSpec(
        port=slot.port,
        health_path="/health",
        metrics_path="/metrics",
        key_file=workload.secrets.get("VLLM_API_KEY"),
        canary_path="/v1/completions" if chat else None,
        canary_body=json.dumps(
            {"model": workload.name, "prompt": "1", "max_tokens": 1, "temperature": 0}
        )
        if chat
        else "",
    )


def stats(text: str) -> EngineStats:
    """
    Read /metrics; counts are summed over the engine's data-parallel ranks, the KV share is the
    fullest one's.

    Source: vllm:prompt_tokens_total, generation_tokens_total, iteration_tokens_total,
    num_requests_running, num_requests_waiting, kv_cache_usage_perc, engine_sleep_state.
    """
    found = samples(text, {*_PROGRESS, _RUNNING, _WAITING, *_KV, _SLEEP})
    return EngineStats(
        progress=total(found, *_PROGRESS),
        running=whole(total(found, _RUNNING)),
        waiting=whole(total(found, _WAITING)),
        kv_ratio=max((s.value for s in found if s.name in _KV), default=None),
        sleeping=_sleeping(found),
    )


def _sleeping(found: Iterable[Sample]) -> bool | None:
    states = [sample for sample in found if sample.name == _SLEEP]
    if not states:
        return None
    return any(s.value == 1 and s.labels.get("sleep_state") != "awake" for s in states)


ENGINE = Engine(
    name="vllm",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    groups=True,
    owns=frozenset(
        {
            *("--host", "--port", "--model", "--served-model-name", "--max-model-len"),
            *("-tp", "--tensor-parallel-size", "--gpu-memory-utilization", "--max-num-seqs"),
        }
    ),
)
