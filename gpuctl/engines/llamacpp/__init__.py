"""
llama.cpp: its `llama-server` image in a container, or gpuctl's embedded server as a process.

Flags and metrics: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from gpuctl import caches, questions
from gpuctl.engines.llamacpp import options as of_llamacpp
from gpuctl.engines.llamacpp.fit import fit
from gpuctl.engines.llamacpp.memory import memory
from gpuctl.engines.llamacpp.options import CACHE_ENVIRONMENT, COMPILED, Options
from gpuctl.engines.llamacpp.stages import explain, stage
from gpuctl.engines.llamacpp.tuning import ALL_LAYERS, is_compiled, tune
from gpuctl.exposition import samples, total, whole
from gpuctl.model import GIB, MIB, EngineStats, ProbeSpec, Workload
from gpuctl.mounted import model_path, seen
from gpuctl.plugin import Engine, Launch, Slot

#: The image's own health check asks this port, so the server listens there whatever its default.
CONTAINER_PORT = 8080

#: The prompt cache gets a quarter of the container's memory: the CUDA context, the compute buffers
#: and the embedding table stay on the host, about 600 MB for an 8B model. Below 1 GiB they are all
#: there is room for, so there is no cache.
CACHE_SHARE = 4
CACHE_FLOOR_BYTES = GIB

_COUNTERS = (
    "llamacpp:prompt_tokens_total",
    "llamacpp:tokens_predicted_total",
    "llamacpp:n_decode_total",
)
_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the `llama-server` command; a process runs the embedded server with the same flags."""
    options = of_llamacpp.of(workload)
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
            *_speculation(workload, slot, options),
            *("--metrics", "--offline"),
            *workload.args,
        ),
        environment=_environment(workload, slot),
        container_port=port,
        mounts=caches.mounts(caches.kept(workload, slot, (COMPILED,) if is_compiled(slot) else ())),
    )


def _environment(workload: Workload, slot: Slot) -> dict[str, str]:
    """Return where the driver puts what it compiles, if that is there at the next start."""
    kept = is_compiled(slot) and caches.outlives(workload, slot, COMPILED)
    return CACHE_ENVIRONMENT if kept else {}


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
        # By default in proportion to what is free on each: others that load would make it uneven.
        ("-ts", ",".join("1" * len(slot.gpus)) if len(slot.gpus) > 1 else None),
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


def _speculation(workload: Workload, slot: Slot, options: Options) -> tuple[str, ...]:
    """Return how tokens are guessed ahead; the flags are those of builds since 2026."""
    draft = options.spec_draft_model
    flags: tuple[tuple[str, object], ...] = (
        ("--spec-type", options.spec_type),
        (
            "--spec-draft-model",
            None if draft is None else seen(workload, slot, draft, "options.spec_draft_model"),
        ),
        ("--spec-draft-n-max", options.spec_draft_max),
    )
    given = ((flag, str(value)) for flag, value in flags if value is not None)
    return tuple(part for pair in given for part in pair)


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
    spec = ProbeSpec(
        port=slot.port,
        health_path="/health",
        metrics_path="/metrics",
        key_file=workload.secrets.get("LLAMA_API_KEY"),
        collect_streams=True,
    )
    return questions.added(spec, kind=workload.kind, model=workload.name)


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


__all__ = ["ENGINE", "Options", "model_path"]

ENGINE = Engine(
    name="llama.cpp",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    memory=memory,
    tune=tune,
    fit=fit,
    stage=stage,
    explain=explain,
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
