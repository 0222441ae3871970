"""The keys of an engine reach it as files: from the profile to the request to Docker."""

from __future__ import annotations

import json
from typing import Any

from gpuctl.adapters.docker.creation import body
from gpuctl.masking import MASK
from gpuctl.model import GIB, GpuIdentity, HostSettings, Inventory, Plan, Profile, Workload
from gpuctl.planning import plan, plan_document
from gpuctl.plugin import load_engines

A6000 = GpuIdentity(index=0, uuid="GPU-0", name="NVIDIA RTX A6000", memory_total_bytes=48 * GIB)
SECRETS = {"VLLM_API_KEY": "/etc/gpuctl/vllm-key", "HF_TOKEN": "/etc/gpuctl/hf-token"}

#: `Config` of vllm/vllm-openai. Source: docker/Dockerfile of vLLM, ENTRYPOINT.
IMAGE = {"Entrypoint": ["vllm", "serve"], "Cmd": None}


def planned() -> Plan:
    llm = Workload(
        name="llm",
        engine="vllm",
        image="vllm/vllm-openai:v0.33.0",
        model="org/model",
        gpus=((0,),),
        port=8000,
        secrets=SECRETS,
    )
    profile = Profile(host=HostSettings(name="rig"), workloads=(llm,))
    return plan(profile, Inventory(gpus=(A6000,)), load_engines())


def request() -> dict[str, Any]:
    return body(planned().replicas[0].spec, {}, IMAGE)


def test_vllm_s_keys_are_files() -> None:
    """What `docker inspect` shows of them is where the files lie, on the host and inside."""
    found = request()
    assert not {"VLLM_API_KEY", "HF_TOKEN"} & {entry.partition("=")[0] for entry in found["Env"]}
    mounts = {m["Target"]: m for m in found["HostConfig"]["Mounts"]}
    for name, file in SECRETS.items():
        mount = mounts[f"/run/secrets/{name}"]
        assert (mount["Source"], mount["Type"], mount["ReadOnly"]) == (file, "bind", True)


def test_vllm_is_started_with_them() -> None:
    """The image's own program runs with each of them as its variable, and no key as a flag."""
    found = request()
    script = found["Entrypoint"][2]
    for name in SECRETS:
        assert f"{name}=$(secret /run/secrets/{name}) || exit; export {name}\n" in script
    assert found["Cmd"][:3] == ["vllm", "serve", "org/model"]
    assert "--api-key" not in found["Cmd"]


def test_a_plan_shows_no_key() -> None:
    """Their names are there, and neither text nor file."""
    shown = plan_document(planned())
    environment = shown["replicas"][0]["environment"]
    assert {name: environment[name] for name in SECRETS} == dict.fromkeys(SECRETS, MASK)
    assert "/etc/gpuctl" not in json.dumps(shown)


def test_it_is_asked_with_its_key() -> None:
    """The daemon reads the same file to ask after its health."""
    assert planned().replicas[0].probe.key_file == "/etc/gpuctl/vllm-key"
