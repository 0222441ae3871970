"""Which models a profile's workloads want, where each should lie, and what would fetch it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpuctl.adapters.model_files import DEMO_MODEL
from gpuctl.adapters.models.names import HubName, local_source, parse
from gpuctl.errors import UsageError

if TYPE_CHECKING:
    from gpuctl.model import Mount, Profile, Workload

SUFFIXES = (".gguf", ".safetensors", ".bin")

#: Where llama.cpp looks for a relative name.
_MODELS_TARGET = "/models"
#: Where huggingface-hub keeps its cache unless HF_HOME says otherwise, for root.
_HOME_TARGET = "/root/.cache/huggingface"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A model that a workload names."""

    workload: str
    model: str
    kind: Literal["file", "repository"]
    #: Directories of this host it may lie in, the likeliest first; of a repository, its caches.
    places: tuple[Path, ...]
    token_file: str | None = None  # the workload's own HF_TOKEN

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where a file would be."""
        name = os.path.basename(self.model) if os.path.isabs(self.model) else self.model
        return tuple(place / name for place in self.places)

    @property
    def found(self) -> Path | None:
        """The file, where it is."""
        return next((path for path in self.paths if path.exists()), None)


def needs(profile: Profile) -> Iterator[Need]:
    """Yield the model of every workload, each of its variants' too, in the profile's order."""
    for workload in profile.workloads:
        yield from of_workload(workload)


def of_workload(workload: Workload) -> Iterator[Need]:
    """Yield the models that a workload names, on its GPUs and elsewhere."""
    named = (workload.model, workload.on_cpu.model, workload.scaled.model)
    for model in dict.fromkeys(model for model in named if model):
        if model.endswith(SUFFIXES):
            yield Need(
                workload=workload.name, model=model, kind="file", places=_folders(workload, model)
            )
        elif _is_repository(model):
            yield Need(
                workload=workload.name,
                model=model,
                kind="repository",
                places=_caches(workload),
                token_file=workload.secrets.get("HF_TOKEN"),
            )


def pull_command(need: Need) -> str:
    """Return what fetches a file that is missing; ORG/NAME stands for what nobody has said."""
    place = need.places[0] if need.places else Path("DIR")
    if need.model == DEMO_MODEL.file_name:
        return f"gpuctl models pull demo --to {shlex.quote(str(place))}"
    source = None if os.path.isabs(need.model) else local_source(need.model)
    if source is not None:
        repository, path, folder = source.repository, source.path, place / source.repository
    else:
        own = Path(need.model)
        below = place if own.is_absolute() else place / own.parent
        repository, path, folder = "ORG/NAME", own.name, below
    words = ["gpuctl", "models", "pull", repository, "--file", path, "--to", str(folder)]
    return shlex.join(words)


def _is_repository(model: str) -> bool:
    try:
        return isinstance(parse(model), HubName)
    except UsageError:
        return False


def _folders(workload: Workload, model: str) -> tuple[Path, ...]:
    if os.path.isabs(model):
        # In a container it is the path within, which a mount leads to.
        own = [
            Path(mount.source) / os.path.relpath(Path(model).parent, mount.target)
            for mount in _mounts(workload, _MODELS_TARGET)
            if Path(model).is_relative_to(mount.target)
        ]
        return tuple(Path(os.path.normpath(path)) for path in (*own, Path(model).parent))
    return tuple(Path(mount.source) for mount in _mounts(workload, _MODELS_TARGET))


def _caches(workload: Workload) -> tuple[Path, ...]:
    """Return the Hugging Face caches of this host that a workload's engine would look into."""
    hub = workload.environment.get("HF_HUB_CACHE")
    home = workload.environment.get("HF_HOME", _HOME_TARGET)
    wanted = hub or f"{home}/hub"
    found = []
    for mount in _mounts(workload, wanted):
        target = mount.target.rstrip("/")
        if wanted == target or wanted.startswith(f"{target}/"):
            found.append(Path(mount.source) / os.path.relpath(wanted, target))
    return tuple(Path(os.path.normpath(path)) for path in found)


def _mounts(workload: Workload, target: str) -> list[Mount]:
    """Return the mounts that are directories of this host, the one at *target* first."""
    own = [mount for mount in workload.mounts if os.path.isabs(mount.source)]
    return sorted(own, key=lambda mount: mount.target.rstrip("/") != target)
