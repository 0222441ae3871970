"""Whether llama.cpp's image, with these options, runs on these cards under this driver."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuctl import cuda, own_settings
from gpuctl.engines.llamacpp.options import FLAGS, UNQUANTIZED, compiled_by_driver, running
from gpuctl.model import Workload
from gpuctl.plugin import Slot, Unfit

#: Source: https://github.com/ggml-org/llama.cpp/blob/master/docs/docker.md and, for the minor
#: version, ARG CUDA_VERSION of .devops/cuda.Dockerfile (12.8.1 in autumn 2026).
_IMAGES: dict[str, cuda.Build] = {
    "": cuda.Build(platform="cpu"),
    "cuda": cuda.Build(platform="cuda", major=12, minor=8),
    "cuda12": cuda.Build(platform="cuda", major=12, minor=8),
    "cuda13": cuda.Build(platform="cuda", major=13, minor=0),
    "rocm": cuda.Build(platform="rocm"),
    "musa": cuda.Build(platform="other"),
    "intel": cuda.Build(platform="other"),
    "openvino": cuda.Build(platform="other"),
}

#: `server-cuda-b6123`: kind, what it is built for, and the build when it is pinned.
_TAG = re.compile(r"(?:full|light|server)(?:-([a-z]+\d*))??(?:-(b\d+))?")

_INSTEAD = cuda.Instead(
    cuda_12="ghcr.io/ggml-org/llama.cpp:server-cuda",
    minor=_IMAGES["cuda"].minor,
    jit=compiled_by_driver,
)


def build(image: str) -> cuda.Build | None:
    """
    Return what an image was built for; `None` unless it is one of the project's, by name.

    A pinned build may be older than the CUDA that today's brings, so its minor version is open.
    """
    repository, tag = cuda.parts(image)
    found = _TAG.fullmatch(tag)
    if repository != "llama.cpp" or found is None:
        return None
    known = _IMAGES.get(found[1] or "")
    if known is None or found[2] is None:
        return known
    return cuda.Build(platform=known.platform, major=known.major)


def fit(workload: Workload, slot: Slot) -> Iterator[Unfit]:
    """Yield what cannot run there."""
    yield from cuda.unfit(workload.image, build(workload.image), slot, _INSTEAD)
    yield from own_settings.twice(workload, FLAGS)
    options = running(workload)
    if options.flash_attention == "off" and options.cache_type_v not in UNQUANTIZED:
        what = f"a V cache of {options.cache_type_v} needs flash attention, which is off"
        hint = 'write flash_attention = "on", or take cache_type_v out'
        key = own_settings.where(workload, "cache_type_v", FLAGS["cache_type_v"])
        yield Unfit(key=key, what=what, hint=hint)
    if slot.runtime == "process" and (options.spec_type or options.spec_draft_model):
        yield Unfit(
            key="options.spec_type",
            what="the embedded server of a process has no speculative decoding",
            hint="take it out, or run the workload in Docker",
        )
