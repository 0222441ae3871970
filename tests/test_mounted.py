"""Where a model's file is, as the server sees it."""

from __future__ import annotations

import pytest

from gpuctl.errors import PlanRefused
from gpuctl.model import Mount
from gpuctl.mounted import model_path
from tests.engines.make import slot, workload


@pytest.mark.parametrize(
    ("model", "source", "runtime", "seen"),
    [
        pytest.param("/m/a.gguf", "models", "docker", "/m/a.gguf", id="absolute"),
        pytest.param("a.gguf", "models", "docker", "/models/a.gguf", id="in a volume"),
        pytest.param("x/a.gguf", "/srv", "simulated", "/models/x/a.gguf", id="in a folder"),
        pytest.param("a.gguf", "/srv", "process", "/srv/a.gguf", id="of a process"),
    ],
)
def test_model_path(model: str, source: str, runtime: str, seen: str) -> None:
    """A relative model lies in what is mounted at /models, seen from where the server runs."""
    mounts = (Mount(source="cache", target="/cache"), Mount(source=source, target="/models"))
    assert model_path(workload(model=model, mounts=mounts), slot(runtime=runtime)) == seen


@pytest.mark.parametrize(
    ("mounts", "runtime", "message"),
    [
        pytest.param((), "docker", "nothing is mounted at /models", id="no mount"),
        pytest.param(
            (Mount(source="models", target="/models"),),
            "process",
            "'models' is a volume of Docker, and a process has none",
            id="a volume for a process",
        ),
    ],
)
def test_model_nowhere(mounts: tuple[Mount, ...], runtime: str, message: str) -> None:
    """A model that the server could not see is refused before anything starts."""
    with pytest.raises(PlanRefused, match=message):
        model_path(workload(mounts=mounts), slot(runtime=runtime))
