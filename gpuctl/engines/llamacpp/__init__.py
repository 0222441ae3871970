"""
llama.cpp: its `llama-server` image in a container, or gpuctl's embedded server as a process.

Flags and metrics: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from gpuctl.errors import PlanRefused
from gpuctl.exposition import samples, total, whole
from gpuctl.model import GIB, MIB, EngineStats, ProbeSpec, Workload
from gpuctl.plugin import Engine, Launch, Slot

MODELS_TARGET = "/models"

#: The image's own health check asks this port, so the server listens there whatever its default.
CONTAINER_PORT = 8080

#: More layers than any model has; builds before 2026 do not know the word `all`.
ALL_LAYERS = 999

#: The prompt cache gets a quarter of the container's memory: the CUDA context, the compute buffers
#: and the embedding table stay on the host, about 600 MB for an 8B model. Below 1 GiB they are all
#: there is room for, so there is no cache.
CACHE_SHARE = 4
CACHE_FLOOR_BYTES = GIB

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]

_COUNTERS = (
    "llamacpp:prompt_tokens_total",
    "llamacpp:tokens_predicted_total",
    "llamacpp:n_decode_total",
)
_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`[workloads.<name>.options]`; `None` leaves the server's own default."""

    gpu_layers: int | None = None  # None: all of them, or none on the CPU
    batch: int | None = None  # tokens of a prompt handed over at once
    ubatch: int | None = None  # tokens computed at once: sizes the compute buffer
    threads: int | None = None
    flash_attention: Literal["on", "off", "auto"] | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = None  # None: the model's
    cache_ram_mib: int | None = None  # host prompt cache; None: a share of the memory limit

    def __post_init__(self) -> None:
        for name in ("batch", "ubatch", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")
        for name in ("gpu_layers", "cache_ram_mib"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: {value} is negative")


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the `llama-server` command; a process runs the embedded server with the same flags."""
    options = Options(**cast(dict[str, Any], dict(workload.options)))
    on_host = slot.runtime == "process" or workload.network == "host"
    port = slot.port if on_host else CONTAINER_PORT
    embedded = slot.runtime == "process"
    return Launch(
        image=workload.image,
        entrypoint=(slot.python, "-m", "gpuctl.embedded") if embedded else None,
        command=(
            *("-m", model_path(workload, slot), "-a", workload.name),
            *("--host", "127.0.0.1" if on_host else "0.0.0.0", "--port", str(port)),
            *_sizes(workload, slot, options),
            *_kind(workload),
            *("--metrics", "--offline"),
            *workload.args,
        ),
        container_port=port,
    )


def model_path(workload: Workload, slot: Slot) -> str:
    """
    Return the model file as the server sees it.

    An absolute path is taken as it is; a relative one lies in the mount whose target is /models.
    """
    path = PurePosixPath(workload.model)
    if path.is_absolute():
        return str(path)
    mount = next((m for m in workload.mounts if m.target.rstrip("/") == MODELS_TARGET), None)
    if mount is None:
        raise PlanRefused(
            f"workloads.{workload.name}.model: {workload.model!r} is relative, and nothing is "
            f"mounted at {MODELS_TARGET}",
            f'add a mount such as "models:{MODELS_TARGET}:ro", or give an absolute path',
        )
    if slot.runtime != "process":
        return str(PurePosixPath(MODELS_TARGET) / path)
    if not PurePosixPath(mount.source).is_absolute():
        raise PlanRefused(
            f"workloads.{workload.name}.mounts: {mount.source!r} is a volume of Docker, "
            "and a process has none",
            f"mount a directory by its absolute path at {MODELS_TARGET}",
        )
    return str(PurePosixPath(mount.source) / path)


def _sizes(workload: Workload, slot: Slot, options: Options) -> tuple[str, ...]:
    # The server divides its context among its slots; a profile's context is for each request.
    context = None if workload.context is None else workload.context * workload.parallel
    layers = options.gpu_layers
    if layers is None:
        layers = ALL_LAYERS if slot.gpus else 0
    flags: tuple[tuple[str, object], ...] = (
        ("-c", context),
        ("-np", workload.parallel),
        ("-ngl", layers),
        ("-b", options.batch),
        ("-ub", options.ubatch),
        ("-t", _threads(workload, slot, options)),
        ("-fa", options.flash_attention),
        ("-ctk", options.cache_type_k),
        ("-ctv", options.cache_type_v),
        ("--cache-ram", _cache_mib(workload, options)),
        ("--pooling", options.pooling),
    )
    given = ((flag, str(value)) for flag, value in flags if value is not None)
    return tuple(part for pair in given for part in pair)


def _threads(workload: Workload, slot: Slot, options: Options) -> int | None:
    """Return the threads of a server on the CPU: by default each would spin on every core."""
    if options.threads is not None or slot.gpus:
        return options.threads
    return max(1, slot.cpus // workload.replicas)


def _cache_mib(workload: Workload, options: Options) -> int:
    """
    Return the host prompt cache in MiB.

    The server's default of 8192 MiB would outgrow most limits here, and the kernel would kill it;
    without a limit there is nothing to take a share of, and eight servers would take 64 GiB.
    """
    if options.cache_ram_mib is not None:
        return options.cache_ram_mib
    limit = workload.memory_bytes or 0
    return limit // CACHE_SHARE // MIB if limit >= CACHE_FLOOR_BYTES else 0


def _kind(workload: Workload) -> tuple[str, ...]:
    match workload.kind:
        case "embedding":
            return ("--embeddings",)
        case "rerank":
            return ("--rerank",)
        case _:
            return ()


def probe(workload: Workload, slot: Slot) -> ProbeSpec:
    """
    Return how it is asked.

    /health answers 503 while the model loads, and never touches the inference loop: only the
    counters of /metrics and the canary tell whether tokens still move.
    """
    chat = workload.kind == "chat"
    return ProbeSpec(
        port=slot.port,
        health_path="/health",
        metrics_path="/metrics",
        key_file=workload.secrets.get("LLAMA_API_KEY"),
        canary_path="/v1/completions" if chat else None,
        canary_body=json.dumps(
            {"model": workload.name, "prompt": "1", "max_tokens": 1, "temperature": 0}
        )
        if chat
        else "",
    )


def stats(text: str) -> EngineStats:
    """
    Read /metrics.

    Only counters count as progress: the server resets its averaged gauges at each scrape.
    Source: llamacpp:prompt_tokens_total, tokens_predicted_total, n_decode_total,
    requests_processing, requests_deferred.
    """
    found = samples(text, {*_COUNTERS, _RUNNING, _WAITING})
    return EngineStats(
        progress=total(found, *_COUNTERS),
        running=whole(total(found, _RUNNING)),
        waiting=whole(total(found, _WAITING)),
    )


ENGINE = Engine(
    name="llama.cpp",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    runtimes=frozenset({"docker", "process", "simulated"}),
    groups=True,
    owns=frozenset(
        {
            *("-m", "--model", "-a", "--alias", "--host", "--port"),
            *("-c", "--ctx-size", "-np", "--parallel"),
            *("-ngl", "--gpu-layers", "--n-gpu-layers", "-cram", "--cache-ram"),
        }
    ),
)
