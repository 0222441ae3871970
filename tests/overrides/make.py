"""A host of five GPUs with a workload for each engine, and what an environment makes of it."""

from __future__ import annotations

import pytest

from gpuctl import overrides
from gpuctl.errors import ProfileError
from gpuctl.model import ExpectedGpus, GatewaySettings, HostSettings, Profile, Workload

LLM = Workload(
    name="llm",
    engine="vllm",
    image="vllm/vllm-openai:v0.33.0",
    model="org/model",
    gpus=((0, 1),),
    port=8000,
    context=4096,
    parallel=7,
    options={"max_num_seqs": 64, "dtype": "half"},
    intent='{"context":4096,"options":{"dtype":"half","max_num_seqs":64},"parallel":7}',
)
SMALL = Workload(name="small", engine="vllm", model="org/small", gpus=((2,),), port=8100)
CHAT = Workload(name="chat", engine="llama.cpp", model="m.gguf", gpus=((3,),), port=8200)
SPEECH = Workload(name="speech", engine="container", gpus=((4,),), port=8300)


def profile(*workloads: Workload) -> Profile:
    return Profile(
        host=HostSettings(name="rig", gpus=(ExpectedGpus(count=5),)),
        workloads=workloads or (LLM, CHAT, SPEECH),
        gateway=GatewaySettings(),
    )


def changed(environment: dict[str, str], *workloads: Workload) -> tuple[Workload, ...]:
    """Return the workloads that differ under an environment."""
    before = profile(*workloads)
    after = overrides.apply(before, environment).profile
    pairs = zip(before.workloads, after.workloads, strict=True)
    return tuple(new for old, new in pairs if new != old)


def refused(environment: dict[str, str], *workloads: Workload) -> tuple[tuple[str, str], ...]:
    with pytest.raises(ProfileError) as caught:
        overrides.apply(profile(*workloads), environment)
    return caught.value.mistakes
