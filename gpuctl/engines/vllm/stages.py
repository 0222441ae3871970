"""
How far a start of vLLM has come, and why it gave up: its last log lines in, a stage or words out.

Its lines as of 0.32, whose source is named beside each; https://github.com/vllm-project/vllm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gpuctl.plugin import Explained

#: What a line says when a stage is reached, the furthest first: a later one means all before it.
_STAGES = (
    # v1/engine/core.py; without CUDA graphs (`enforce_eager`, the CPU) this comes instead of them.
    ("warmed_up", "init engine (profile, create kv cache, warmup model) took"),
    # v1/worker/gpu_model_runner.py
    ("graphs_ready", "Graph capturing finished in"),
    # v1/worker/gpu_model_runner.py, and model_executor/model_loader/default_loader.py
    ("weights_loaded", "Model loading took"),
    ("weights_loaded", "Loading weights took"),
)


def stage(lines: Sequence[str]) -> str:
    """Return the furthest stage that a line tells of, "" before the first."""
    return next((name for name, words in _STAGES if any(words in line for line in lines)), "")


def explain(lines: Sequence[str]) -> Explained | None:
    """Say why it gave up, by its last lines."""
    text = "\n".join(lines)
    for pattern, made in _REASONS:
        if (match := pattern.search(text)) is not None:
            return made(match)
    return None


def _too_long(match: re.Match[str]) -> Explained:
    fits = match["fits"]
    lower = f"write context = {fits} or less" if fits else "write a smaller `context`"
    return Explained(
        what=f"one request of {match['length']} tokens needs {match['needed']} GiB of KV cache, "
        f"and {match['available']} GiB are left for it",
        hint=f"{lower}, or a larger gpu_memory_utilization",
    )


def _too_long_before(match: re.Match[str]) -> Explained:
    return Explained(
        what=f"one request may have {match['length']} tokens, and the KV cache has room for "
        f"{match['fits']}",
        hint=f"write context = {match['fits']} or less, or a larger gpu_memory_utilization",
    )


def _not_free(match: re.Match[str]) -> Explained:
    return Explained(
        what=f"of the GPU {match['free']} of {match['total']} GiB were free, and "
        f"gpu_memory_utilization {match['share']} claims {match['claim']} GiB",
        hint="write a smaller gpu_memory_utilization, or end what else holds the GPU's memory "
        "(`gpuctl gpus` names it)",
    )


def _always(what: str, hint: str) -> Callable[[re.Match[str]], Explained]:
    return lambda _: Explained(what=what, hint=hint)


_REASONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Explained]], ...] = (
    # v1/core/kv_cache_utils.py
    (
        re.compile(
            r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+) GiB KV cache is needed, which "
            r"is larger than the available KV cache memory \((?P<available>[\d.]+) GiB\)"
            r"(?:\. Based on the available memory, the estimated maximum model length is "
            r"(?P<fits>\d+))?"
        ),
        _too_long,
    ),
    # The same before the V1 engine, worker/worker.py.
    (
        re.compile(
            r"max seq len \((?P<length>\d+)\) is larger than the maximum number of tokens that can "
            r"be stored in KV cache \((?P<fits>\d+)\)"
        ),
        _too_long_before,
    ),
    (
        re.compile("No available memory for the cache blocks"),
        _always(
            "the weights leave nothing for the KV cache",
            "write a larger gpu_memory_utilization, or take a smaller or quantized model",
        ),
    ),
    # v1/worker/utils.py
    (
        re.compile(
            r"Free memory on device \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is "
            r"less than desired GPU memory utilization \((?P<share>[\d.]+), (?P<claim>[\d.]+) GiB\)"
        ),
        _not_free,
    ),
    # platforms/cuda.py
    (
        re.compile("Bfloat16 is only supported on GPUs with compute capability of at least 8.0"),
        _always("this card does not compute in bfloat16", 'write dtype = "half"'),
    ),
    # config/device.py, and torch's own words
    (
        re.compile("Failed to infer device type|No CUDA GPUs are available|no NVIDIA GPU detected"),
        _always(
            "it finds no GPU in its container",
            "`gpuctl doctor` looks at the driver and at Docker's GPU support; a `systemctl "
            "daemon-reload` takes GPUs from containers that run",
        ),
    ),
    (
        re.compile("CUDA out of memory"),
        _always(
            "the GPU's memory ran out while it started",
            "write a smaller gpu_memory_utilization or max_num_seqs; CUDA graphs come on top "
            "(enforce_eager = true does without)",
        ),
    ),
    # config/model.py and transformers
    (
        re.compile(
            "Can't load the configuration of|is not a local folder and is not a valid model"
        ),
        _always(
            "it finds no such model",
            "see `model` and `mounts`; a name on the hub needs the network, and no HF_HUB_OFFLINE",
        ),
    ),
    # argparse
    (
        re.compile("error: unrecognized arguments:"),
        _always(
            "this vLLM does not know one of its flags",
            "take a newer image, or see the workload's `args`",
        ),
    ),
    # v1/engine/core_client.py
    (
        re.compile("VLLM_ENGINE_READY_TIMEOUT_S"),
        _always(
            "its engine was not ready in the time that vLLM gives itself",
            "write a longer `startup` for the workload",
        ),
    ),
)
