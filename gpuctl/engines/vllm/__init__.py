"""
vLLM: its OpenAI server in a container, one per GPU or one over a group by tensor parallelism.

Flags, environment and metrics as of vLLM 0.33: https://docs.vllm.ai/en/latest/cli/serve/ and
https://docs.vllm.ai/en/latest/usage/metrics/
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gpuctl import caches, questions
from gpuctl.engines.vllm import images
from gpuctl.engines.vllm import options as of_vllm
from gpuctl.engines.vllm.fit import fit
from gpuctl.engines.vllm.memory import memory
from gpuctl.engines.vllm.options import Options
from gpuctl.engines.vllm.stages import explain, stage
from gpuctl.engines.vllm.tuning import NCCL_ENVIRONMENT, tune
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


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the arguments of `vllm serve`, which is the image's entrypoint."""
    options = of_vllm.of(workload)
    on_host = workload.network == "host"
    port = slot.port if on_host else CONTAINER_PORT
    slots = options.max_num_seqs or workload.parallel
    offloaded = of_vllm.offloaded_bytes(workload, slot)
    return Launch(
        image=workload.image,
        command=(
            *(() if images.serves(workload.image) else ("--model",)),
            workload.model,
            *("--host", "127.0.0.1" if on_host else "0.0.0.0", "--port", str(port)),
            *("--served-model-name", *_names(workload, options)),
            *_sizes(workload, slot, options, slots),
            *_attention(workload, options),
            *_switch("prefix-caching", options.enable_prefix_caching),
            *_switch("chunked-prefill", options.enable_chunked_prefill),
            *(("--enforce-eager",) if options.enforce_eager else ()),
            *(_offloading(options) if slot.gpus else ()),
            *_quiet(workload),
            *workload.args,
        ),
        environment=_environment(workload, slot, options),
        container_port=port,
        shm_bytes=(SHM_GROUP_BYTES if len(slot.gpus) > 1 else SHM_BYTES) + offloaded,
        pinned_bytes=offloaded,
        pinned_key=_offloading_key(workload) if offloaded else "",
        slots=slots,
        mounts=caches.mounts(caches.kept(workload, slot, of_vllm.caches(workload, slot))),
    )


def _environment(workload: Workload, slot: Slot, options: Options) -> dict[str, str]:
    found = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        # It gives its own engine 600 s; how long a start may take is the watchdog's to say.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(math.ceil(slot.startup_limit_seconds)),
    }
    if len(slot.gpus) > 1:
        found |= NCCL_ENVIRONMENT
    if options.attention_backend and not _has_attention_flag(workload):
        found["VLLM_ATTENTION_BACKEND"] = options.attention_backend
    return found


def _has_attention_flag(workload: Workload) -> bool:
    return images.knows(workload.image, "--attention-backend")


def _quiet(workload: Workload) -> tuple[str, ...]:
    """Return what spares the log the probes' own lines: they push the evidence out of its last."""
    flag = "--disable-access-log-for-endpoints"
    return (flag, "/health,/metrics") if images.knows(workload.image, flag) else ()


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
        ("--speculative-config", options.speculative_config),
    )
    given = ((flag, str(value)) for flag, value in flags if value is not None)
    return tuple(part for pair in given for part in pair)


def _attention(workload: Workload, options: Options) -> tuple[str, ...]:
    if options.attention_backend is None or not _has_attention_flag(workload):
        return ()
    return ("--attention-backend", options.attention_backend)


def _offloading(options: Options) -> tuple[str, ...]:
    """Return where KV blocks go that the GPU has no room for: swap space, as it is called today."""
    if options.kv_offloading_gib is None:
        return ()
    size = f"{options.kv_offloading_gib:g}"
    return ("--kv-offloading-backend", "native", "--kv-offloading-size", size)


def _offloading_key(workload: Workload) -> str:
    """Return what asks for it, with the variable where one does."""
    key = "options.kv_offloading_gib"
    variable = workload.set_by.get("kv_offloading_gib")
    return f"{key} (from {variable})" if variable else key


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
    spec = ProbeSpec(
        port=slot.port,
        health_path="/health",
        metrics_path="/metrics",
        key_file=workload.secrets.get("VLLM_API_KEY"),
    )
    return questions.added(spec, kind=workload.kind, model=workload.name)


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


__all__ = ["ENGINE", "Options"]

ENGINE = Engine(
    name="vllm",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    memory=memory,
    tune=tune,
    fit=fit,
    stage=stage,
    explain=explain,
    needs_gpu=True,
    groups=True,
    # A group is parallel by its tensors, over all its GPUs: other kinds would ask for more of them.
    # Python's argparse takes `-t` for `-tp`, and a file of flags may have any of them.
    owns=frozenset(
        {
            *("-tp", "-pp", "-dp", "-pcp", "-t", "-p", "-d"),
            *("--host", "--port", "--uds", "--config", "--model", "--served-model-name"),
            *("--max-model-len", "--max-num-seqs"),
            *("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"),
            *("--prefill-context-parallel-size", "--gpu-memory-utilization"),
            "--device-memory-utilization",
        }
    ),
    whole=frozenset({"--device"}),  # until 0.10: vllm/engine/arg_utils.py
)
