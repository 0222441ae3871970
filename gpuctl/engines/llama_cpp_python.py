"""
llama-cpp-python: `python3 -m llama_cpp.server`, in an image that has it or as a process.

One request at a time, no /health and no /metrics. Its settings as of 0.3.36:
https://github.com/abetlen/llama-cpp-python/blob/main/llama_cpp/server/settings.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from gpuctl import own_settings, questions
from gpuctl.model import EngineStats, ModelFacts, ProbeSpec, VramPlan, Workload
from gpuctl.mounted import model_path
from gpuctl.plugin import Engine, Explained, Launch, Slot, Unfit
from gpuctl.sizing import LlamaRun, llama_cpp

CONTAINER_PORT = 8000

#: Its `n_ctx` where none is given: not the model's, as with llama.cpp's own server.
DEFAULT_CONTEXT = 2048

#: The setting that the server compares a request's bearer token with.
KEY_VARIABLE = "API_KEY"

#: ggml's own numbers, as `--type_k` and `--type_v` take them.
#: Source: https://github.com/ggml-org/llama.cpp/blob/master/ggml/include/ggml.h, `enum ggml_type`.
_CACHE_TYPES: Mapping[str, int] = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`[workloads.<name>.options]`; `None` leaves the server's own default."""

    gpu_layers: int | None = None  # None: all of them, or none on the CPU
    batch: int | None = None  # tokens of a prompt handed over at once
    ubatch: int | None = None  # tokens computed at once: sizes the compute buffer
    threads: int | None = None
    flash_attention: bool | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    chat_format: str | None = None  # None: the template in the model's file
    mlock: bool = False  # pin the model's pages, which then count against `memory`

    def __post_init__(self) -> None:
        for name in ("batch", "ubatch", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")
        if self.gpu_layers is not None and self.gpu_layers < 0:
            raise ValueError(f"gpu_layers: {self.gpu_layers} is negative")
        for name in ("cache_type_k", "cache_type_v"):
            value = getattr(self, name)
            if value is not None and value not in _CACHE_TYPES:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(_CACHE_TYPES)}")


#: What an option is called on the command line, where a profile may give it in `args`.
_FLAGS: dict[str, tuple[str, ...]] = {
    "gpu_layers": (),  # gpuctl's to set
    "batch": ("--n_batch",),
    "ubatch": ("--n_ubatch",),
    "threads": ("--n_threads",),
    "flash_attention": ("--flash_attn",),
    "cache_type_k": ("--type_k",),
    "cache_type_v": ("--type_v",),
    "chat_format": ("--chat_format",),
    "mlock": ("--use_mlock",),
}

#: Settings that change the sum of VRAM and have no option.
_UNCOUNTED = (
    *("--clip_model_path", "--draft_model", "--lora_path", "--offload_kqv", "--logits_all"),
    *("--tensor_split", "--split_mode", "--main_gpu"),
)

#: What a V cache may be in without flash attention; `None` is the server's f16.
#: Source: `llama_init_from_model` in src/llama-context.cpp of llama.cpp.
_UNQUANTIZED = (None, "f32", "f16", "bf16")


def launch(workload: Workload, slot: Slot) -> Launch:
    """Return the command of the server; a container's image needs a `python3` that has it."""
    on_host = slot.runtime == "process" or workload.network == "host"
    host, port = ("127.0.0.1", slot.port) if on_host else ("0.0.0.0", CONTAINER_PORT)
    python = slot.python if slot.runtime == "process" else "python3"
    return Launch(
        image=workload.image,
        entrypoint=(python, "-m", "llama_cpp.server"),
        command=(
            *("--model", model_path(workload, slot), "--model_alias", workload.name),
            *("--host", host, "--port", str(port)),
            *_settings(workload, slot, _options(workload)),
            *workload.args,
        ),
        # Variables of these names, as images have them, would prevail over the flags.
        environment={"HOST": host, "PORT": str(port)},
        container_port=port,
        slots=1,
    )


def _options(workload: Workload) -> Options:
    return Options(**cast(dict[str, Any], dict(workload.options)))


def _running(workload: Workload) -> Options:
    """Return the options it runs with: those that stand in `args` and change the sum among them."""
    found = own_settings.said(workload, _FLAGS)
    types = {str(number): name for name, number in _CACHE_TYPES.items()}
    changes: dict[str, Any] = {
        key: types[found[key]]
        for key in ("cache_type_k", "cache_type_v")
        if found.get(key, "") in types
    }
    if (attention := found.get("flash_attention")) is not None:
        changes["flash_attention"] = attention.lower() in ("true", "1", "yes", "on", "t", "y")
    if found.get("ubatch", "").isdecimal() and int(found["ubatch"]):
        changes["ubatch"] = int(found["ubatch"])
    return replace(_options(workload), **changes)


def _settings(workload: Workload, slot: Slot, options: Options) -> Iterator[str]:
    layers = options.gpu_layers
    if layers is None:
        layers = -1 if slot.gpus else 0
    threads = options.threads
    if threads is None and not slot.gpus:
        threads = max(1, slot.cpus // workload.replicas)
    settings: tuple[tuple[str, object], ...] = (
        ("n_ctx", workload.context),
        ("n_gpu_layers", layers),
        ("n_batch", options.batch),
        ("n_ubatch", options.ubatch),
        ("n_threads", threads),
        ("n_threads_batch", threads),
        ("flash_attn", options.flash_attention),
        ("type_k", _CACHE_TYPES.get(options.cache_type_k or "")),
        ("type_v", _CACHE_TYPES.get(options.cache_type_v or "")),
        ("chat_format", options.chat_format),
        ("use_mlock", options.mlock),
        ("embedding", True if workload.kind == "embedding" else None),
        # By default a question of anybody's, the probe's too, ends the answer that is under way.
        ("interrupt_requests", False),
    )
    for name, value in settings:
        if value is not None:
            yield f"--{name}"
            yield str(value).lower() if isinstance(value, bool) else str(value)
    if len(slot.gpus) > 1:
        # By default in proportion to what is free on each: others that load would make it uneven.
        yield from ("--tensor_split", *("1" * len(slot.gpus)))


def memory(workload: Workload, slot: Slot, facts: ModelFacts) -> VramPlan | None:
    """Return what one replica takes over its GPUs; `None` where the headers do not tell."""
    options = _running(workload)
    run = LlamaRun(
        gpus=len(slot.gpus),
        context=workload.context or DEFAULT_CONTEXT,
        ubatch=options.ubatch or LlamaRun(gpus=0).ubatch,
        key_type=options.cache_type_k or "f16",
        value_type=options.cache_type_v or "f16",
        flash_attention=options.flash_attention or False,
        gpu_layers=options.gpu_layers,
        all_outputs=workload.kind == "embedding",
    )
    found = llama_cpp(facts, run)
    if found is None:
        return None
    return replace(found, notes=tuple(own_settings.uncounted(workload, _UNCOUNTED)))


def fit(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield what this server cannot do."""
    yield from own_settings.twice(workload, _FLAGS)
    options = _running(workload)
    if not options.flash_attention and options.cache_type_v not in _UNQUANTIZED:
        what = f"a V cache of {options.cache_type_v} needs flash attention, which is off"
        hint = "write flash_attention = true, or take cache_type_v out"
        key = own_settings.where(workload, "cache_type_v", _FLAGS["cache_type_v"])
        yield Unfit(key=key, what=what, hint=hint)
    if workload.parallel > 1:
        yield Unfit(
            key="parallel",
            what=f"llama-cpp-python answers one request at a time, not {workload.parallel}",
            hint='write parallel = 1 and more replicas, or use engine = "llama.cpp"',
        )
    if workload.kind not in ("chat", "embedding", "other"):
        yield Unfit(
            key="kind",
            what=f"llama-cpp-python serves no {workload.kind}",
            hint='use engine = "llama.cpp"',
        )


def probe(workload: Workload, slot: Slot) -> ProbeSpec:
    """
    Return how it is asked.

    It listens once the model is loaded. `/v1/models` waits, as every question does, until what is
    being answered is done, so a late answer says busy; there is nothing that counts tokens.
    """
    spec = ProbeSpec(
        port=slot.port,
        health_path="/v1/models",
        key_file=workload.secrets.get(KEY_VARIABLE),
        mute_at_work=True,
    )
    return questions.added(spec, kind=workload.kind, model=workload.name)


def stats(text: str) -> EngineStats:
    """Return nothing: it has no metrics."""
    return EngineStats()


def stage(lines: Sequence[str]) -> str:
    """Return how far its start has come: llama.cpp has made the context only of loaded weights."""
    return "weights_loaded" if any("llama_context: " in line for line in lines) else ""


def explain(lines: Sequence[str]) -> Explained | None:
    """Say why it gave up, by its last lines."""
    text = "\n".join(lines)
    for words, found in _EXPLAINED:
        if words in text:
            return found
    return None


_EXPLAINED = (
    (
        "No module named 'llama_cpp'",
        Explained(
            what="llama-cpp-python is not installed where the server runs",
            hint="pip install '.[llama-cpp]' in a clone of gpuctl, or an image that has it",
        ),
    ),
    (
        "Model path does not exist",
        Explained(
            what="there is no such model file where the server looks",
            hint="see the workload's `model` and `mounts`",
        ),
    ),
    (
        "Failed to load model from file",
        Explained(
            what="llama.cpp cannot read the model's file",
            hint="`gpuctl models inspect FILE` says what is in it; it may be cut off, or too new",
        ),
    ),
    (
        # src/llama-context.cpp of llama.cpp, before the line below
        "quantized V cache requires flash_attn",
        Explained(
            what="a quantized V cache needs flash attention, which is off",
            hint="write flash_attention = true, or take cache_type_v out",
        ),
    ),
    (
        "Failed to create llama_context",
        Explained(
            what="there is not enough memory for the KV cache and the compute buffers",
            hint="write a smaller `context`, or a smaller cache_type_k and cache_type_v",
        ),
    ),
)


ENGINE = Engine(
    name="llama-cpp-python",
    options=Options,
    launch=launch,
    probe=probe,
    stats=stats,
    runtimes=frozenset({"docker", "process", "simulated"}),
    memory=memory,
    fit=fit,
    stage=stage,
    explain=explain,
    groups=True,
    owns=frozenset(
        {
            *("--model", "--model_alias", "--host", "--port", "--n_ctx", "--n_gpu_layers"),
            *("--interrupt_requests", "--embedding", "--api_key", "--config_file"),
        }
    ),
)
