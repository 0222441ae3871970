"""
Where a workload's model lies on this host, and what it says of itself.

A model is a GGUF file, a safetensors file, a directory with a config.json, or the name of a
repository of Hugging Face's, which is looked for in the cache that the workload mounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpuctl.adapters.model_headers import architecture, config, gguf, safetensors
from gpuctl.errors import GpuctlError
from gpuctl.model import ModelFacts, Mount, Workload

#: Where Docker keeps its named volumes. Source: https://docs.docker.com/engine/storage/volumes/
VOLUMES = Path("/var/lib/docker/volumes")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Where engines look for Hugging Face's cache inside a container.
_CACHES = ("/root/.cache/huggingface", "/root/.cache", "/home/vllm/.cache/huggingface")


def read(path: Path, *, name: str = "") -> ModelFacts:
    """
    Return what a model file or directory says of itself.

    Raises:
        GpuctlError: it cannot be read, or is no model.
    """
    if path.is_dir():
        return config.facts(path, name=name)
    if path.suffix == ".gguf":
        return architecture.facts(gguf.read(path), str(path))
    if path.suffix == ".safetensors":
        return _single(path)
    raise GpuctlError(
        f"{path}: neither a .gguf nor a .safetensors file, nor a directory",
        "name a model file, or a directory with a config.json",
    )


def place(workload: Workload, environment: Mapping[str, str]) -> tuple[Path, str] | None:
    """
    Return a workload's model on this host, and its name; `None` where it is not found here.

    *environment* is the caller's own: it says where a process finds Hugging Face's cache.
    """
    for path in _paths(workload):
        if path.exists():
            return path, path.name
    if not _REPOSITORY.fullmatch(workload.model):
        return None
    for cache in _caches(workload, environment):
        found = snapshot(cache, workload.model)
        if found is not None:
            return found, workload.model
    return None


def snapshot(cache: Path, repository: str) -> Path | None:
    """Return the newest snapshot of a repository in a cache of Hugging Face's."""
    for hub in (cache, cache / "hub", cache / "huggingface" / "hub"):
        base = hub / f"models--{repository.replace('/', '--')}"
        main = base / "refs" / "main"
        if main.is_file() and _COMMIT.fullmatch(commit := main.read_text(errors="replace")[:40]):
            found = base / "snapshots" / commit
            if (found / config.CONFIG).exists():
                return found
    return None


def _single(path: Path) -> ModelFacts:
    weights = safetensors.of_file(path)
    if (path.parent / config.CONFIG).exists():
        return config.facts(path.parent)
    return ModelFacts(
        source=str(path),
        format="safetensors",
        architecture="",
        name=path.stem,
        weights_bytes=weights.bytes,
        files=weights.files,
    )


def _paths(workload: Workload) -> Iterator[Path]:
    """Yield where the model may be: as it is written, or under what is mounted."""
    model = Path(workload.model)
    if model.is_absolute():
        for mount in workload.mounts:
            target = Path(mount.target)
            if model.is_relative_to(target) and (source := _source(mount)) is not None:
                yield source / model.relative_to(target)
        yield model
        return
    for mount in workload.mounts:
        source = _source(mount)
        if source is not None and ".." not in model.parts:
            yield source / model


def _caches(workload: Workload, environment: Mapping[str, str]) -> Iterator[Path]:
    for mount in workload.mounts:
        source = _source(mount)
        if source is not None and mount.target.rstrip("/").startswith(_CACHES):
            yield source
    home = workload.environment.get("HF_HOME") or environment.get("HF_HOME")
    yield Path(home) if home else Path(environment.get("HOME", "/")) / ".cache" / "huggingface"


def _source(mount: Mount) -> Path | None:
    """Return a mount's directory on the host; that of a volume where this user may look."""
    if mount.source.startswith("/"):
        return Path(mount.source)
    volume = VOLUMES / mount.source / "_data"
    try:
        return volume if volume.is_dir() else None
    except PermissionError:
        return None
