"""
How far a start of llama.cpp's server has come, and why it gave up: its last log lines in.

Its lines as of builds of 2026: https://github.com/ggml-org/llama.cpp, the file beside each.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuctl.plugin import Explained

#: Each is written once the weights are where they belong; builds differ in which they write.
_LOADED = (
    "llama_context: constructing llama_context",  # src/llama-context.cpp
    "warming up the model with an empty run",  # common/common.cpp
    "load_model: initializing",  # tools/server/server-context.cpp: `slots`, or `n_slots = 4`
    "model loaded",  # tools/server/server.cpp
)

_REASONS = (
    (
        ("cudaMalloc failed: out of memory", "CUDA error: out of memory"),
        Explained(
            what="the GPU's memory ran out while it started",
            hint="write a smaller `context`, `parallel` or `ubatch`, a quantized cache_type_k and "
            "cache_type_v, or fewer gpu_layers",
        ),
    ),
    (
        # src/llama-context.cpp, before and since `auto` may turn it on by itself
        (
            "quantized V cache requires flash_attn",
            "quantized V cache was requested, but this requires Flash Attention",
            "V cache quantization requires flash_attn",
        ),
        Explained(
            what="a quantized V cache needs flash attention, which is off",
            hint='write flash_attention = "on", or take cache_type_v out',
        ),
    ),
    (
        ("no CUDA-capable device is detected", "failed to initialize CUDA"),
        Explained(
            what="it finds no GPU in its container",
            hint="`gpuctl doctor` looks at the driver and at Docker's GPU support; a `systemctl "
            "daemon-reload` takes GPUs from containers that run",
        ),
    ),
    (
        ("CUDA driver version is insufficient", "no kernel image is available"),
        Explained(
            what="the image's CUDA does not run on this card or under this driver",
            hint='use image = "ghcr.io/ggml-org/llama.cpp:server-cuda", which is built for CUDA 12',
        ),
    ),
    (
        ("unknown model architecture",),
        Explained(
            what="this build of llama.cpp does not know the model's architecture",
            hint="take a newer image",
        ),
    ),
    (
        ("failed to open GGUF file", "there is no such model file", "No such file or directory"),
        Explained(
            what="there is no such model file where the server looks",
            hint="see the workload's `model` and `mounts`",
        ),
    ),
    (
        ("tensor data is not within the file bounds", "corrupted or incomplete"),
        Explained(
            what="the model's file is cut off",
            hint="fetch it again",
        ),
    ),
    (
        ("error: invalid argument:",),
        Explained(
            what="this build of llama.cpp does not know one of its flags",
            hint="take a newer image, or see the workload's `args`",
        ),
    ),
)


def stage(lines: Sequence[str]) -> str:
    """Return `weights_loaded` once its lines say so; it has no CUDA graphs to wait for."""
    loaded = any(words in line for line in lines for words in _LOADED)
    return "weights_loaded" if loaded else ""


def explain(lines: Sequence[str]) -> Explained | None:
    """Say why it gave up, by its last lines."""
    text = "\n".join(lines)
    return next((found for words, found in _REASONS if any(w in text for w in words)), None)
