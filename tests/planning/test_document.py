"""The document of `gpuctl plan --json`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.model import GIB, MIB, Action, Drain, Start, Stop
from gpuctl.planning import plan_document

from .make import gpu, host, planned, workload


def test_document() -> None:
    """The whole of it, for one replica on one of two GPUs."""
    plan = planned(
        workload(engine="container", mounts=(), gpus=((0,),), vram_bytes=2 * GIB),
        on=host((gpu(0, reserved_bytes=512 * MIB), gpu(1))),
        reserve=(1,),
        vram_headroom_bytes=GIB,
    )
    replica = plan.replicas[0]
    assert plan_document(plan, errors=("x",)) == {
        "schema": 1,
        "profile": "rack",
        "replicas": [
            {
                "name": "chat-0",
                "workload": "chat",
                "engine": "container",
                "gpus": [{"index": 0, "uuid": "GPU-0000"}],
                "port": 8081,
                "image": "example/server:1",
                "command": [],
                "environment": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
                "memory_bytes": None,
                "vram": {
                    "weights_bytes": None,
                    "kv_bytes": None,
                    "overhead_bytes": None,
                    "total_bytes": 2 * GIB,
                    "source": "profile",
                    "least_bytes": None,
                    "share_bytes": 2 * GIB,
                    "lines": [],
                    "notes": [],
                },
                "tuned": [],
                "digest": replica.digest,
            }
        ],
        "gpus": [
            {
                "index": 0,
                "uuid": "GPU-0000",
                "name": "P106-100",
                "total_bytes": 6 * GIB,
                "headroom_bytes": GIB,
                "reserved_bytes": 512 * MIB,
                "foreign_bytes": None,
                "foreign": [],
                "budget_bytes": 5 * GIB - 512 * MIB,
                "planned_bytes": 2 * GIB,
                "free_bytes": 3 * GIB - 512 * MIB,
            },
            {
                "index": 1,
                "uuid": "GPU-0001",
                "name": "P106-100",
                "total_bytes": 6 * GIB,
                "headroom_bytes": GIB,
                "reserved_bytes": None,
                "foreign_bytes": None,
                "foreign": [],
                "budget_bytes": 5 * GIB,
                "planned_bytes": 0,
                "free_bytes": 5 * GIB,
            },
        ],
        "reserve": ["GPU-0001"],
        "missing_gpus": [],
        "actions": [],
        "warnings": [],
        "errors": ["x"],
    }


def test_unstated_vram() -> None:
    """Where a replica states nothing, the GPU's sum is not known either."""
    document = plan_document(planned(workload(gpus=((0,),)), on=host(1)))
    assert document["replicas"][0]["vram"]["source"] is None
    assert document["gpus"][0]["planned_bytes"] is None
    assert document["gpus"][0]["free_bytes"] is None


def test_no_secret() -> None:
    """What a name gives away as a secret, and what stands in a file, is never shown."""
    plan = planned(
        workload(
            gpus=((0,),),
            environment={"HF_TOKEN": "hf_secret", "EMPTY_KEY": "", "HOME": "/root"},
            secrets={"API": "/etc/secret"},
        )
    )
    words = ("--api-key", "sk-secret", "-hft", "hf_secret", "--api-key-file", "/etc/key")
    told = replace(plan.replicas[0], spec=replace(plan.replicas[0].spec, command=words))
    shown = plan_document(replace(plan, replicas=(told,)))["replicas"][0]
    assert "secret" not in str(shown)
    assert shown["environment"]["HOME"] == "/root"
    assert shown["environment"]["EMPTY_KEY"] == ""
    assert shown["environment"]["API"] == shown["environment"]["HF_TOKEN"] == "********"
    assert shown["command"][-2:] == ["--api-key-file", "/etc/key"]


def test_command_of_a_process() -> None:
    """A process is shown with the program that it runs."""
    plan = planned(workload(gpus="none", model="/m.gguf"), on=host(runtime="process"))
    assert plan_document(plan)["replicas"][0]["command"][:3] == ["python3", "-m", "gpuctl.embedded"]


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        pytest.param(
            Start(replica="chat-0", reason="new"),
            {"action": "start", "replica": "chat-0", "reason": "new"},
            id="start",
        ),
        pytest.param(
            Drain(replica="chat-0", container="c1", reason="renew", deadline_seconds=30),
            {
                "action": "drain",
                "replica": "chat-0",
                "reason": "renew",
                "container": "c1",
                "deadline_seconds": 30,
            },
            id="drain",
        ),
        pytest.param(
            Stop(replica="chat-0", container="c1", reason="renew", step="kill"),
            {
                "action": "stop",
                "replica": "chat-0",
                "reason": "renew",
                "container": "c1",
                "step": "kill",
            },
            id="stop",
        ),
    ],
)
def test_actions(action: Action, shown: dict[str, object]) -> None:
    """What would be done next, and why."""
    assert plan_document(planned(), (action,))["actions"] == [shown]
