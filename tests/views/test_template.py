"""The profile that `init` writes."""

from gpuctl.model import GpuIdentity
from gpuctl.plugin import load_engines
from gpuctl.profile import loads
from gpuctl.views import template


def gpu(index: int, name: str) -> GpuIdentity:
    return GpuIdentity(index=index, uuid=f"GPU-{index}", name=name)


def test_the_template_is_a_valid_profile() -> None:
    """What is written loads, and expects the GPUs it was written for."""
    gpus = [
        gpu(0, "NVIDIA GeForce RTX 3090"),
        gpu(1, "NVIDIA GeForce RTX 3090"),
        gpu(2, "Tesla P40"),
    ]

    text = template.profile(gpus, name="attic", path="p.toml")

    host = loads(text, "p.toml", engines=load_engines()).host
    assert host.name == "attic"
    assert [(entry.count, entry.name) for entry in host.gpus] == [(2, "RTX 3090"), (1, "Tesla P40")]
    assert "gpuctl check p.toml" in text


def test_the_template_names_the_engines_there_are() -> None:
    """Who edits the profile is offered no engine that does not exist."""
    text = template.profile([gpu(0, "Tesla P40")], name="attic", path="p.toml")

    (line,) = (line for line in text.splitlines() if line.startswith("engine = "))

    assert set(line.partition("#")[2].replace(" ", "").split("|")) == set(load_engines())
