"""Which keys of a profile replace the container of a replica that stays where it is."""

from __future__ import annotations

import pytest

from gpuctl import profile
from gpuctl.model import GIB
from gpuctl.planning import plan

from .make import ENGINES, gpu, host

CARDS = host(
    tuple(
        gpu(index, name="RTX A6000", memory_total_bytes=48 * GIB, compute_capability=(8, 6))
        for index in range(2)
    )
)
WRITTEN = """
schema = 1
[host]
name = "rack"
[workloads.llm]
engine = "{engine}"
image = "engine:1"
model = "{model}"
gpus = [0]
port = 8081
memory = "8g"
mounts = ["/srv/models:/models"]
{share}
{changes}
"""
MODELS = {"llama.cpp": "m.gguf", "vllm": "org/model", "container": "m"}
#: Two replicas of vLLM on one card claim less than half of it each.
SHARE = {"vllm": "options = { gpu_memory_utilization = 0.4 }"}


def digests(engine: str, changes: str = "") -> tuple[str, str]:
    """Return what decides whether `up` replaces the first replica: its digest, and its spec's."""
    keys = {line.partition(" ")[0] for line in changes.splitlines()}
    share = SHARE.get(engine, "")
    text = WRITTEN.format(engine=engine, model=MODELS[engine], share=share, changes=changes)
    own = changes.splitlines()
    kept = [line for line in text.splitlines() if line in own or line.partition(" ")[0] not in keys]
    made = plan(
        profile.loads("\n".join(kept), "rack.toml", engines=ENGINES), CARDS, ENGINES
    ).replicas[0]
    return made.digest, made.spec_digest


HARMLESS = (
    "gpus = [0, 1]",
    "replicas_per_gpu = 2",
    "max_gpus = 2",
    'fallback = "cpu"\non_cpu = { engine = "container", image = "cpu:1" }',
    'vram = "4g"',
    'health = { path = "/h", interval = "9s", timeout = "3s", retries = 5 }',
)
TOLD = ('aliases = ["other"]', 'startup = "2h"')


@pytest.mark.parametrize("engine", sorted(MODELS))
@pytest.mark.parametrize("changes", HARMLESS)
def test_what_replaces_nothing(engine: str, changes: str) -> None:
    """Where more replicas go, and how one is watched, is nothing that a container is made of."""
    assert digests(engine, changes) == digests(engine)


@pytest.mark.parametrize("changes", TOLD)
def test_what_vllm_is_told(changes: str) -> None:
    """vLLM alone is told its other names and how long a load may take, at its start."""
    for engine in ("llama.cpp", "container"):
        assert digests(engine, changes) == digests(engine)
    assert digests("vllm", changes) != digests("vllm")


@pytest.mark.parametrize("engine", sorted(MODELS))
@pytest.mark.parametrize("changes", ["port = 9000", 'stop_grace = "9s"', 'memory = "9g"'])
def test_what_replaces(engine: str, changes: str) -> None:
    """A container's port and its time to stop are settled when it is made, as its limits are."""
    assert digests(engine, changes) != digests(engine)
