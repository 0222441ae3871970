"""
Which CUDA and which vLLM are in an image of the vLLM project, by its name; what that vLLM knows.

Source of every version here: vLLM's own sources of that release (docker/Dockerfile,
.buildkite/release-pipeline.yaml, vllm/engine/arg_utils.py, vllm/entrypoints/openai/cli_args.py).
"""

from __future__ import annotations

import re

from gpuctl import cuda

#: The image without a suffix brings CUDA 13 since this version, CUDA 12 before.
#: Source: https://github.com/vllm-project/vllm/issues/42738, and CUDA_VERSION of its Dockerfile.
CUDA_13_VERSION = (0, 20)

#: The minor version of CUDA 12 that images without a suffix bring, from each vLLM on.
_CUDA_12 = (((0, 11, 1), 9), ((0, 9), 8), ((0, 8), 4), ((0, 6, 6), 1))

#: The image's entrypoint is `vllm serve` since this version. Before it was
#: `python3 -m vllm.entrypoints.openai.api_server`, which takes the model by `--model` alone, and
#: from 0.10 to 0.11.0 serves another one, without a word, where it gets a model without that flag.
SERVE_VERSION = (0, 11, 1)

#: The first vLLM that knows a flag, of those that gpuctl may send; the others are known to OLDEST.
#: Attention had a variable before its flag, which the warning of 0.13 gives up for 0.14.
FLAGS: dict[str, tuple[int, ...]] = {
    "--attention-backend": (0, 14),
    "--disable-access-log-for-endpoints": (
        0,
        16,
    ),  # https://github.com/vllm-project/vllm/pull/30011
    "--kv-offloading-size": (0, 11, 1),
    "--no-enable-chunked-prefill": (0, 8, 5),
    "--speculative-config": (0, 8, 2),
}

#: The oldest vLLM whose flags were looked at.
OLDEST = (0, 6, 6)

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


def knows(image: str, flag: str) -> bool:
    """Whether its vLLM has one of `FLAGS`; an image of no known version is taken as today's."""
    found = version(image)
    return found is None or found >= FLAGS[flag]


def serves(image: str) -> bool:
    """Whether its entrypoint is `vllm serve`; an image of no known version is taken as today's."""
    found = version(image)
    return found is None or found >= SERVE_VERSION


def with_cuda_12(image: str) -> str:
    """Return the image of the same vLLM that brings CUDA 12; where there are two, the plain one."""
    found = re.search(r":(v\d+(?:\.\d+)*)", image)
    plain = f"vllm/vllm-openai:{found[1] if found else 'latest'}"
    return plain if (version(plain) or NEWEST) < CUDA_13_VERSION else f"{plain}-cu129"


def _cuda(version: tuple[int, ...], words: set[str]) -> tuple[int, int | None]:
    """Return CUDA's version: by the suffix `cu129`, else by vLLM's version."""
    suffix = next((m for word in sorted(words) if (m := re.fullmatch(r"cu(\d\d)(\d)", word))), None)
    if suffix is not None:
        return int(suffix[1]), int(suffix[2])
    if version >= CUDA_13_VERSION:
        return 13, 0
    return 12, next((minor for first, minor in _CUDA_12 if version >= first), None)
