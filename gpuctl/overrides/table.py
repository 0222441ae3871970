"""
Every variable of the environment that other tools for these engines read: one row each; those of
their gateways are in `gateway_rows`.

A row says what gpuctl does with it (`docs/profile.md` prints it), and holds what does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpuctl.model import Profile, Workload
from gpuctl.overrides import changes, names
from gpuctl.overrides.changes import Change
from gpuctl.overrides.shapes import shapes

Refuse = Callable[[Profile, str], str | None]

_KEY_FILE = 'environment = {{ {0} = {{ file = "/path" }} }}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variable; of `read`, `change`, `refuse` and `ignored` it has what applies."""

    variable: str
    does: str  # for the docs
    field: str = ""  # of WatchdogSettings, with `read`
    read: Callable[[str], float] | None = None
    change: Change | None = None
    sets: str = ""  # with `change`: the setting that it changes
    engines: tuple[str, ...] = ("vllm",)  # whose workloads `change` takes
    least_gpus: int = 0  # only those with so many a replica: 1 means nothing on the CPU
    whole: bool = False  # a workload and all its shapes have but one of it
    single: bool = False  # where several fit, it does not tell which is meant
    twin: str = ""  # another variable of the same meaning: if both are set, they have to agree
    refuse: Refuse | None = None  # "what; hint", or None where nothing is wrong
    ignored: str = ""  # why it changes nothing
    hint: str = ""

    @property
    def wants(self) -> str:
        """Which workloads it is for, in words."""
        where = ("", " on a GPU", " with several GPUs a replica")[self.least_gpus]
        return f"of engine {' or '.join(self.engines)}{where}"

    def fits(self, workload: Workload) -> bool:
        """Return whether a workload, in its own shape, knows it."""
        return workload.engine in self.engines and changes.group(workload) >= self.least_gpus

    def concerns(self, workload: Workload) -> bool:
        """Return whether a workload knows it in any of its shapes."""
        elsewhere = () if self.single else shapes(workload).values()
        return self.fits(workload) or any(map(self.fits, elsewhere))

    def fitting(self, workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
        """Return the workloads that it concerns."""
        return tuple(filter(self.concerns, workloads))


def _tensor_parallel(profile: Profile, text: str) -> str | None:
    """Return what a number of GPUs is at odds with: the profile's groups decide it."""
    if not text.isdecimal() or int(text) == 0:
        return f"{text!r} is not a number above 0; write digits"
    wanted = int(text)
    others = [
        f"{workload.name} has {changes.group(workload)}"
        for workload in profile.workloads
        if workload.engine == "vllm" and changes.group(workload) not in (0, wanted)
    ]
    if not others:
        return None
    indexes = ", ".join(str(index) for index in range(wanted))
    groups = f"[[{indexes}]]" if wanted > 1 else f"[{indexes}]"
    each = "1 GPU" if wanted == 1 else f"{wanted} GPUs"
    return (
        f"{each} a replica, and {', '.join(others)}: it follows from the workload's GPUs;"
        f" write gpus = {groups}, with the GPUs you mean"
    )


def _device(profile: Profile, text: str) -> str | None:
    if text.lower() not in names.DEVICES:
        hint = "write one of them, and say which GPUs with the workload's gpus"
        return f"{text!r} is none of {', '.join(names.DEVICES)}; {hint}"
    on_gpus = [w.name for w in profile.workloads if w.gpus != "none"]
    if text.lower() != "cpu" or not on_gpus:
        return None
    who = f"{', '.join(on_gpus)} {'runs' if len(on_gpus) == 1 else 'run'}"
    return f'cpu, and {who} on GPUs; write gpus = "none", or fallback = "cpu" for when GPUs fail'


def _inline_key(profile: Profile, _: str) -> str | None:
    open_ones = [
        w.name for w in profile.workloads if _serves(w, "vllm") and "VLLM_API_KEY" not in w.secrets
    ]
    if not open_ones:
        return None
    how = _KEY_FILE.format("VLLM_API_KEY")
    return (
        f"a secret comes from a file only, and {', '.join(open_ones)} would answer without it;"
        f" write {how}, or set VLLM_API_KEY_FILE"
    )


def _serves(workload: Workload, engine: str) -> bool:
    """Return whether a workload runs an engine in any of its shapes."""
    return any(one.engine == engine for one in (workload, *shapes(workload).values()))


#: The names that the shell watchdogs gpuctl replaces are configured by.
WATCHDOG = (
    Row(
        variable="POLL_INTERVAL",
        does="`watchdog.interval`, in seconds",
        field="interval_seconds",
        read=changes.seconds,
    ),
    Row(
        variable="HEALTH_CHECK_TIMEOUT",
        does="`watchdog.health_timeout`, in seconds",
        field="health_timeout_seconds",
        read=changes.seconds,
    ),
)

_ENGINE = (
    Row(
        variable="GPU_MEMORY_UTILIZATION",
        does="vLLM's `gpu_memory_utilization`, above 0 and below 1",
        sets="gpu_memory_utilization",
        least_gpus=1,
        change=changes.option("gpu_memory_utilization", changes.share),
    ),
    Row(
        variable="MAX_NUM_SEQS",
        does="vLLM's `max_num_seqs`; `auto` takes what suits the card",
        sets="max_num_seqs",
        change=changes.sequences,
    ),
    Row(
        variable="MAX_NUM_BATCHED_TOKENS",
        does="vLLM's `max_num_batched_tokens`",
        sets="max_num_batched_tokens",
        change=changes.option("max_num_batched_tokens", changes.count),
    ),
    Row(
        variable="MAX_MODEL_LEN",
        does="`context` of vLLM's workloads",
        sets="context",
        change=changes.context,
    ),
    Row(
        variable="QUANTIZATION",
        does="vLLM's `quantization`; `none` leaves it to the model, and a name that vLLM does not"
        " know is refused",
        sets="quantization",
        change=changes.quantization,
    ),
    Row(
        variable="VLLM_ATTENTION_BACKEND",
        does="vLLM's `attention_backend`, by its old name or today's; `AUTO` leaves it to the card,"
        " and a name that vLLM does not know is refused",
        sets="attention_backend",
        least_gpus=1,
        change=changes.attention,
    ),
    Row(
        variable="ENABLE_PREFIX_CACHING",
        does="vLLM's `enable_prefix_caching`",
        sets="enable_prefix_caching",
        change=changes.option("enable_prefix_caching", changes.switch),
    ),
    Row(
        variable="ENABLE_CHUNKED_PREFILL",
        does="vLLM's `enable_chunked_prefill`",
        sets="enable_chunked_prefill",
        change=changes.option("enable_chunked_prefill", changes.switch),
    ),
    Row(
        variable="SWAP_SPACE_GB",
        does="vLLM's `kv_offloading_gib`, times the GPUs of a replica: vLLM has no swap space any"
        " more, and offloads KV blocks to RAM instead, which is held against the host's RAM and the"
        " workload's `memory`; 0 is none",
        sets="kv_offloading_gib",
        least_gpus=1,
        change=changes.swap_space,
    ),
    Row(
        variable="MODEL_NAME",
        does="`model` of the one vLLM workload; refused where there are several",
        sets="model",
        change=changes.model,
        single=True,
    ),
    Row(
        variable="MODEL_PATH",
        does="as `MODEL_NAME`; if both are set, they have to agree",
        sets="model",
        change=changes.model,
        single=True,
        twin="MODEL_NAME",
    ),
    Row(
        variable="MODEL_CACHE_DIR",
        does="the directory that vLLM's workloads have at `/root/.cache/huggingface`",
        sets="mounts",
        whole=True,
        change=changes.model_cache,
    ),
    *(
        Row(
            variable=name,
            does="checked: equal to the GPUs of a replica, or refused; write `gpus = [[0, 1]]`",
            refuse=_tensor_parallel,
        )
        for name in ("TENSOR_PARALLEL_SIZE", "TP_SIZE")
    ),
)

_CONTAINER = (
    *(
        Row(
            variable=name,
            does="in the environment of `vllm` and `container` workloads",
            sets=name,
            change=changes.variable(name),
            engines=("vllm", "container"),
        )
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    ),
    *(
        Row(
            variable=name,
            does="in the environment of `container` workloads; vLLM loads its model before it"
            " serves, and looks at `HF_HUB_OFFLINE`",
            sets=name,
            change=changes.variable(name),
            engines=("container",),
        )
        for name in ("LOCAL_FILES_ONLY", "PRELOAD_MODELS")
    ),
    *(
        Row(
            variable=name,
            does=does,
            sets=today,
            change=changes.variable(today),
            engines=("vllm", "container"),
            least_gpus=2,
            twin="" if name == today else today,
        )
        for name, today, does in (
            (
                "TORCH_NCCL_BLOCKING_WAIT",
                "TORCH_NCCL_BLOCKING_WAIT",
                "in the environment of groups of GPUs; vLLM's have `1` without it",
            ),
            (
                "NCCL_BLOCKING_WAIT",
                "TORCH_NCCL_BLOCKING_WAIT",
                "the old name of `TORCH_NCCL_BLOCKING_WAIT`; if both are set, they have to agree",
            ),
            ("NCCL_DEBUG", "NCCL_DEBUG", "in the environment of groups of GPUs"),
            ("NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_SUBSYS", "in the environment of groups of GPUs"),
        )
    ),
)

_SECRETS = (
    Row(
        variable="HF_TOKEN_FILE",
        does="the file of the secret `HF_TOKEN` of `vllm` and `container` workloads",
        sets="HF_TOKEN",
        whole=True,
        change=changes.secret("HF_TOKEN"),
        engines=("vllm", "container"),
    ),
    Row(
        variable="VLLM_API_KEY_FILE",
        does="the file of the secret `VLLM_API_KEY` of vLLM's workloads",
        sets="VLLM_API_KEY",
        whole=True,
        change=changes.secret("VLLM_API_KEY"),
    ),
    Row(
        variable="HF_TOKEN",
        does="not handed on: a secret comes from a file, by `HF_TOKEN_FILE` or in the profile",
        ignored="it is not handed on to containers, as a secret comes from a file",
        hint=f"write {_KEY_FILE.format('HF_TOKEN')}, or set HF_TOKEN_FILE",
    ),
    Row(
        variable="VLLM_API_KEY",
        does="refused, unless vLLM's workloads have it from a file: by `VLLM_API_KEY_FILE` or in"
        " the profile",
        refuse=_inline_key,
    ),
)

_NOT_OURS = (
    Row(
        variable="VLLM_USE_TRITON",
        does="ignored: vLLM knows no such variable",
        ignored="vLLM knows no such variable, so it is not handed on",
        hint="choose attention with attention_backend, in the workload's options",
    ),
    Row(
        variable="DEVICE",
        does="`auto`, `cuda` or `cpu`, else refused; `cpu` while a workload runs on GPUs as well:"
        ' write `gpus = "none"`, or `fallback = "cpu"`',
        refuse=_device,
    ),
    Row(
        variable="CUDA_VISIBLE_DEVICES",
        does="ignored, and refused in a workload's `environment`: GPUs are given by UUID",
        ignored="GPUs are given by UUID, and numbered from 0 inside a container",
        hint="say which GPUs with the workload's `gpus`",
    ),
)

#: Those that name the file of a secret.
FILES = tuple(row.variable for row in _SECRETS if row.change is not None)

TABLE = (*WATCHDOG, *_ENGINE, *_CONTAINER, *_SECRETS, *_NOT_OURS)
