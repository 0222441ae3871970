"""
A GPU goes on an eight-card host: the real llama.cpp serves again on a card of the reserve, and
where there is none, on the CPU.

One `up` serves every test of this module, in their order; what a test changes it leaves as found.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import LLAMA, Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

pytestmark = [
    *(pytest.mark.docker, pytest.mark.engine, pytest.mark.nvml),
    *(pytest.mark.alone, pytest.mark.timeout(240)),
]

CHAT, PAIR, OTHER = 18281, 18291, 18295
RESERVE = (5, 6, 7)


def profile(host: Host) -> str:
    tables = (
        workload(
            "chat", port=CHAT, image=LLAMA, gpus=[0], vram="1g", fallback="cpu",
            options={"threads": 1}, on_cpu={"context": 1024},
        ),
        workload("pair", port=PAIR, gpus=[[2, 3]], vram="60g"),
        workload("other", port=OTHER, gpus=[4], vram="20g"),
    )  # fmt: skip
    return str(host.profile("\n".join(tables), gpus="8x A100", reserve=RESERVE))


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, record: EngineRecord) -> Iterator[Host]:
    with Host(engine, gpus="a100x8") as started:
        ran = started.run("up", profile(started), "--timeout", "120", seconds=140)
        assert ran.code == 0, f"{ran.out}\n{ran.err}\n{started.tail()}"
        yield started


def uuid(host: Host, index: int) -> str:
    return next(gpu.uuid for gpu in host.nvml.host.gpus if gpu.index == index)


def device_ids(host: Host, replica: str) -> list[str]:
    """Return what the engine was asked for: the UUIDs of its device requests."""
    told = host.client.inspect_container(f"gpuctl-{replica}")["HostConfig"]["DeviceRequests"]
    return [name for request in told or () for name in request["DeviceIDs"]]


def answer(port: int) -> str:
    """Ask the real model, and return its words."""
    question = "What is the capital of France?"
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": question},
    ]
    body = {"messages": messages, "max_tokens": 16, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def say(request: pytest.FixtureRequest, words: str) -> None:
    reporter: Any = request.config.pluginmanager.getplugin("terminalreporter")
    reporter.write_line(f"\n{words}")


def moved_to(host: Host, replica: str, indexes: list[int], *, seconds: float = 60.0) -> None:
    """Wait until a replica serves on these GPUs, and is left in one container."""

    def look() -> bool:
        row = host.replica(replica)
        return [gpu["index"] for gpu in row["gpus"]] == indexes and (
            row["phase"] in ("ready", "busy", "degraded") and row["container"] is not None
        )

    wait_for(look, f"{replica} on {indexes}: {host.replica(replica)}\n{host.tail()}", seconds)
    host.wait_calm(replica)


def reasons(host: Host) -> set[tuple[str, str]]:
    return {(c["subject"], c["reason"]) for c in host.status()["conditions"]}


def test_a_lost_gpu_s_model_answers_from_the_reserve(
    host: Host, request: pytest.FixtureRequest
) -> None:
    """GPU 0 falls off the bus: serving again on GPU 5, the others untouched, and `why` tells it."""
    before = host.containers()
    began = time.monotonic()
    host.nvml.lose(0)
    moved_to(host, "chat-0", [5])
    assert "Paris" in answer(CHAT)
    say(request, f"GPU lost → answering again on GPU 5 after {time.monotonic() - began:.1f} s")
    after = host.containers()
    assert {n: c for n, c in before.items() if n != "chat-0"} == {
        n: c for n, c in after.items() if n != "chat-0"
    }
    assert device_ids(host, "chat-0") == [uuid(host, 5)]
    lost = uuid(host, 0)
    assert {(lost, "gpu_lost"), (lost, "gpu_cordoned"), ("chat-0", "on_reserve")} <= reasons(host)
    told = [(e["kind"], e["reason"]) for e in host.events("cordoned", "moved")]
    assert told == [("cordoned", "gpu_lost"), ("moved", "gpu_lost")]
    why = host.run("why", "chat-0")
    assert why.code == 0
    assert "gpu_lost" in why.out
    assert lost in why.out or "gpu 0" in why.out.lower()


def test_it_stays_away_until_an_operator_says_so(host: Host) -> None:
    """The card answers again, and nothing moves back; `uncordon` brings the replica home."""
    host.nvml.release()
    wait_for(
        lambda: (uuid(host, 0), "gpu_lost") not in reasons(host), "GPU 0 to be read again", 90.0
    )
    assert [gpu["index"] for gpu in host.replica("chat-0")["gpus"]] == [5]
    ran = host.run("uncordon", "0", "--timeout", "60")
    assert ran.code == 0, ran.err
    moved_to(host, "chat-0", [0])
    assert device_ids(host, "chat-0") == [uuid(host, 0)]
    assert "Paris" in answer(CHAT)


def test_a_group_moves_as_a_whole(host: Host) -> None:
    """One GPU of a tensor-parallel pair is lost: both halves go to the reserve, and come back."""
    host.nvml.lose(3)
    moved_to(host, "pair-0", [5, 6])
    assert device_ids(host, "pair-0") == [uuid(host, 5), uuid(host, 6)]
    host.nvml.release()
    wait_for(
        lambda: (uuid(host, 3), "gpu_lost") not in reasons(host), "GPU 3 to be read again", 90.0
    )
    assert host.run("uncordon", "3", "--timeout", "60").code == 0
    moved_to(host, "pair-0", [2, 3])


def test_scale_takes_a_gpu_of_the_reserve(host: Host) -> None:
    """`scale other=2` starts a second replica where there is room; `scale other=1` ends it."""
    ran = host.run("scale", "other=2", "--timeout", "60")
    assert ran.code == 0, ran.err
    moved_to(host, "other-1", [1])  # which the profile uses for nothing
    assert host.run("scale", "other=1", "--timeout", "60").code == 0
    wait_for(lambda: "other-1" not in host.containers(), f"other-1 to be gone\n{host.tail()}", 40.0)


def test_without_a_reserve_it_serves_on_the_cpu(
    host: Host, record: EngineRecord, request: pytest.FixtureRequest
) -> None:
    """Every card of the reserve is cordoned: the model answers from the CPU, loudly."""
    for index in (1, *RESERVE):
        assert host.run("cordon", str(index)).code == 0
    began = time.monotonic()
    host.nvml.lose(0)
    moved_to(host, "chat-0", [])
    assert "Paris" in answer(CHAT)
    say(
        request,
        f"GPU lost, no reserve → answering on the CPU after {time.monotonic() - began:.1f} s",
    )
    told = host.client.inspect_container("gpuctl-chat-0")
    assert not told["HostConfig"]["DeviceRequests"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in told["Config"]["Env"]
    command = told["Config"]["Cmd"]
    assert command[command.index("-c") + 1] == "1024"
    assert ("chat-0", "on_cpu") in reasons(host)
    metrics = host.run("metrics").out
    assert 'gpuctl_replica_on_cpu{replica="chat-0"' in metrics
    assert "CPU" in host.run("report").out
    host.nvml.release()
    for index in (0, 1, *RESERVE):
        assert host.run("uncordon", str(index), "--timeout", "60").code == 0
    moved_to(host, "chat-0", [0], seconds=120.0)
    assert overlap(record.events) < 0.05, "two of one replica ran at once"


def test_emergency_mode_on_request(host: Host) -> None:
    """`failover cpu` puts on the CPU what may go there; `failover gpu` ends it."""
    refused = host.run("failover", "cpu", "pair")
    assert (refused.code, "no fallback to the CPU: pair" in refused.err) == (2, True)
    done = host.run("failover", "cpu", "--timeout", "60")
    assert (done.code, "stays on its GPUs: pair, other" in done.err) == (0, True)
    moved_to(host, "chat-0", [])
    assert not device_ids(host, "chat-0")
    assert host.replica("pair-0")["gpus"]
    assert host.run("failover", "gpu", "--timeout", "60").code == 0
    moved_to(host, "chat-0", [0])
