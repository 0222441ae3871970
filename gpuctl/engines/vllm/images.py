"""Which CUDA and which vLLM are in an image of the vLLM project, by its name."""

from __future__ import annotations

import re

from gpuctl import cuda

#: The image without a suffix brings CUDA 13 since this version, CUDA 12 before.
#: Source: https://github.com/vllm-project/vllm/issues/42738, and CUDA_VERSION of its Dockerfile.
CUDA_13_VERSION = (0, 20)

#: Attention is chosen by a flag since this version, by VLLM_ATTENTION_BACKEND before.
#: Source: the warning of vLLM 0.12 and 0.13 that names 0.14 for the removal of the variable.
FLAG_VERSION = (0, 14)

#: `latest` and `nightly` are newer than any version known here.
NEWEST = (999,)

_TAG = re.compile(r"(latest|nightly|v(\d+(?:\.\d+)*))(?:[.-]?(?:post|rc)\d+)?(?:-(.+))?$")


def build(image: str) -> cuda.Build | None:
    """Return what an image was built for; `None` unless it is one of the project's, by name."""
    repository, tag = cuda.parts(image)
    found = _TAG.fullmatch(tag)
    if not repository.startswith("vllm-openai") or found is None:
        return None
    version = tuple(int(part) for part in found[2].split(".")) if found[2] else NEWEST
    words = set(re.split(r"[-_.]", f"{repository}-{found[3] or ''}"))
    if "cpu" in words:
        return cuda.Build(platform="cpu", version=version)
    if any(word.startswith("rocm") for word in words):
        return cuda.Build(platform="rocm", version=version)
    if words & {"xpu", "tpu", "hpu"}:
        return cuda.Build(platform="other", version=version)
    major, minor = _cuda(version, words)
    return cuda.Build(platform="cuda", major=major, minor=minor, version=version)


def version(image: str) -> tuple[int, ...] | None:
    """Return vLLM's version in an image; `None` when its name does not tell."""
    found = build(image)
    return found.version if found is not None else None


def with_cuda_12(image: str) -> str:
    """Return the image of the same vLLM that brings CUDA 12.9."""
    found = re.search(r":(v\d+(?:\.\d+)*)", image)
    return f"vllm/vllm-openai:{found[1] if found else 'latest'}-cu129"


def _cuda(version: tuple[int, ...], words: set[str]) -> tuple[int, int | None]:
    """Return CUDA's version: by the suffix `cu129`, else by vLLM's version."""
    suffix = next((m for word in sorted(words) if (m := re.fullmatch(r"cu(\d\d)(\d)", word))), None)
    if suffix is not None:
        return int(suffix[1]), int(suffix[2])
    return (13, 0) if version >= CUDA_13_VERSION else (12, None)
