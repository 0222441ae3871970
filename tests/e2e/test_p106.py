"""
The main job on the P106 host: eight cards, sixteen containers, eight of them the real llama.cpp.

One `up` serves every test of this module, in their order; what a test changes it leaves as found.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
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

CHAT, EMBED = 18181, 18191
NAMES = {f"{workload}-{index}" for workload in ("chat", "embed") for index in range(8)}
MIB = 1 << 20
#: What the rig's driver says that a process of each holds.
VRAM = {"chat": 4096 * MIB, "embed": 600 * MIB}
LIMITS = {"chat": (1536 * MIB, 2048 * MIB), "embed": (512 * MIB, 768 * MIB)}


def profile(host: Host) -> str:
    # One thread each: eight servers share this machine's cores.
    chat = workload("chat", port=CHAT, image=LLAMA, vram="5100m", options={"threads": 1})
    embed = workload(
        "embed", port=EMBED, kind="embedding", vram="450m", memory="512m", memory_swap="768m"
    )
    return str(host.profile(f"{chat}\n{embed}", gpus="8x P106-100"))


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def host(
    engine: PrivateEngine, record: EngineRecord, request: pytest.FixtureRequest
) -> Iterator[Host]:
    with Host(engine) as started:
        bring_up(started, request)
        yield started


def bring_up(host: Host, request: pytest.FixtureRequest) -> None:
    """Bring the sixteen up, and say how long that took."""
    began = time.monotonic()
    ran = host.run("up", profile(host), "--timeout", "180", seconds=200)
    assert ran.code == 0, f"{ran.out}\n{ran.err}\n{host.tail()}"
    reporter: Any = request.config.pluginmanager.getplugin("terminalreporter")
    reporter.write_line(f"\nup: 16 containers ready after {time.monotonic() - began:.1f} s")


def ask(port: int, question: str, *, seconds: float = 60.0) -> str:
    """Ask a real chat model, and return its words."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": question},
    ]
    asked = {"messages": messages, "max_tokens": 24, "temperature": 0}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, data=json.dumps(asked).encode())
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def settled(host: Host) -> dict[str, tuple[str, str]]:
    """Return all containers once all sixteen are ready: earlier tests may have left work."""
    wait_for(
        lambda: all(row["phase"] == "ready" for row in host.status()["replicas"]),
        "all to be ready",
        60,
    )
    return host.containers()


def test_up_brings_all_sixteen_to_ready(host: Host) -> None:
    """Status names every replica with its phase, its GPU by UUID, its VRAM and its RAM."""

    def seen() -> dict[str, Any] | None:
        ran = host.run("status", "--json")
        found: dict[str, Any] = json.loads(ran.out)
        measured = all(row["vram_bytes"] and row["memory_bytes"] for row in found["replicas"])
        return found if ran.code == 0 and measured else None

    status = wait_for(seen, "status to say that all is well, with VRAM and RAM")
    uuids = {gpu.index: gpu.uuid for gpu in host.nvml.host.gpus}
    rows = {row["name"]: row for row in status["replicas"]}
    assert set(rows) == NAMES
    assert {row["phase"] for row in rows.values()} == {"ready"}
    for name, row in rows.items():
        kind, _, index = name.rpartition("-")
        assert row["gpus"] == [{"index": int(index), "uuid": uuids[int(index)]}]
        assert row["port"] == {"chat": CHAT, "embed": EMBED}[kind] + int(index)
        assert row["vram_bytes"] == VRAM[kind]
        assert row["memory_bytes"] < LIMITS[kind][0]
        assert row["restarts_1h"] == 0
    assert min(rows[f"chat-{index}"]["memory_bytes"] for index in range(8)) > 50 * MIB
    assert [gpu["uuid"] for gpu in status["gpus"]] == [uuids[index] for index in range(8)]
    assert {gpu["name"] for gpu in status["gpus"]} == {"NVIDIA P106-100"}


def test_the_engine_got_what_was_planned(host: Host) -> None:
    """GPU by UUID, limits, no capability, no restart policy, loopback only, labels."""
    uuids = {gpu.index: gpu.uuid for gpu in host.nvml.host.gpus}
    for name in sorted(NAMES):
        kind, _, index = name.rpartition("-")
        told: Any = host.client.inspect_container(f"gpuctl-{name}")
        made, uuid = told["HostConfig"], uuids[int(index)]
        (request,) = made["DeviceRequests"]
        assert (request["DeviceIDs"], request["Capabilities"]) == ([uuid], [["gpu"]])
        assert (made["Memory"], made["MemorySwap"]) == LIMITS[kind]
        assert made["CapDrop"] == ["ALL"]
        assert made["RestartPolicy"]["Name"] in ("", "no")
        assert "no-new-privileges" in made["SecurityOpt"][0]
        assert made["Init"] is True
        bound = [entry for entries in made["PortBindings"].values() for entry in entries]
        port = {"chat": CHAT, "embed": EMBED}[kind] + int(index)
        assert bound == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
        labels = told["Config"]["Labels"]
        assert labels["gpuctl.schema"] == "1"
        assert labels["gpuctl.profile"] == "rig"
        assert labels["gpuctl.replica"] == name
        assert labels["gpuctl.gpus"] == uuid
        assert labels["gpuctl.attempt"]
        assert labels["gpuctl.digest"].startswith("v1:")


def test_a_real_model_answers(host: Host) -> None:
    """The fourth chat replica knows the capital of France."""
    assert "Paris" in ask(CHAT + 3, "What is the capital of France?")


def says_the_gpus(out: str) -> bool:
    found = json.loads(out)
    return found["schema"] == 1 and len(found["gpus"]) == 8


def says_the_plan(out: str) -> bool:
    found = json.loads(out)
    planned = {replica["name"] for replica in found["replicas"]}
    return planned == NAMES and len(found["gpus"]) == 8 and not found["errors"]


def says_the_report(out: str) -> bool:
    return isinstance(json.loads(out), dict) and "chat-3" in out


def says_that_all_became_ready(out: str) -> bool:
    events = [json.loads(line) for line in out.splitlines()]
    return {event["subject"] for event in events if event["kind"] == "ready"} == NAMES


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        pytest.param(("status",), lambda out: out.count("\n") >= 17, id="status"),
        pytest.param(("gpus",), lambda out: out.count("P106-100") == 8, id="gpus"),
        pytest.param(("gpus", "--json"), says_the_gpus, id="gpus-json"),
        pytest.param(("plan",), lambda out: "embed-7" in out, id="plan"),
        pytest.param(("plan", "--json"), says_the_plan, id="plan-json"),
        pytest.param(("report",), lambda out: "chat-0" in out, id="report"),
        pytest.param(("report", "--json"), says_the_report, id="report-json"),
        pytest.param(("events", "--json"), says_that_all_became_ready, id="events-json"),
        pytest.param(("why", "chat-3"), lambda out: "ready after" in out, id="why"),
        pytest.param(("logs", "embed-0"), lambda out: "gpusim: listening" in out, id="logs"),
    ],
)
def test_a_command_tells(
    host: Host, arguments: tuple[str, ...], tells: Callable[[str], bool]
) -> None:
    """Every command that looks ends with 0 on a healthy host, with its data on stdout."""
    settled(host)
    ran = host.run(*arguments)
    assert ran.code == 0, f"{ran.out}\n{ran.err}"
    assert tells(ran.out), ran.out


def test_the_log_of_a_real_engine(host: Host) -> None:
    """`logs` prints what llama.cpp itself wrote, whatever that was."""
    ran = host.run("logs", "chat-0", "--tail", "500")
    written = host.client.logs("gpuctl-chat-0", tail=500).decode(errors="replace")
    assert ran.code == 0, ran.err
    assert ran.out.split() == written.split()


@pytest.mark.parametrize(
    ("name", "fault", "reason", "seconds"),
    [
        pytest.param("chat-2", signal.SIGKILL, "killed", 20, id="sigkill-of-a-real-llama"),
        pytest.param("embed-5", signal.SIGSTOP, "health_timeout", 45, id="sigstop"),
    ],
)
def test_one_death_is_one_restart(
    host: Host, record: EngineRecord, name: str, fault: signal.Signals, reason: str, seconds: float
) -> None:
    """It serves again after one restart; the other fifteen keep their container and its start."""
    before, starts = settled(host), record.starts(name)
    os.kill(host.pid_of(name), fault)
    new = host.wait_replaced(name, before[name][0], seconds=seconds)
    after = settled(host)
    assert after[name][0] == new
    assert unlike(before, after) == {name}
    assert record.starts(name) == starts + 1
    assert [event["reason"] for event in host.events("failed", subject=name)] == [reason]
    assert host.replica(name)["restarts_1h"] == 1
    assert reason in host.run("why", name).out


def unlike(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the replicas whose container is another one, or was started anew."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_the_real_model_answers_after_its_death(host: Host) -> None:
    """What came back in place of the killed llama.cpp answers as the first one did."""
    assert "Paris" in ask(CHAT + 2, "What is the capital of France?")


def test_stop_start_and_restart_concern_one_replica(host: Host) -> None:
    """One is stopped, started and renewed; the other fifteen notice nothing of it."""
    before = settled(host)
    assert host.run("stop", "embed-1").code == 0
    assert host.replica("embed-1")["phase"] == "stopped"
    assert set(host.containers()) == NAMES - {"embed-1"}
    assert host.run("status").code == 0  # stopped on purpose is no fault
    assert host.run("start", "embed-1").code == 0
    started = settled(host)
    assert host.run("restart", "chat-6").code == 0
    after = settled(host)
    assert (unlike(before, started), unlike(started, after)) == ({"embed-1"}, {"chat-6"})
    assert host.events("failed", subject="embed-1") == host.events("failed", subject="chat-6") == []


def test_down_leaves_nothing_and_up_brings_all_back(
    host: Host, request: pytest.FixtureRequest
) -> None:
    """No container of ours is left, running or not; the next `up` starts all sixteen again."""
    before = settled(host)
    ran = host.run("down", seconds=200)
    assert ran.code == 0, f"{ran.err}\n{host.tail()}"
    assert host.client.containers(all=True, filters={"label": "gpuctl.replica"}) == []
    assert host.run("status").code == 3
    bring_up(host, request)
    assert unlike(before, settled(host)) == NAMES


def test_never_two_of_one_replica_ran_at_once(host: Host, record: EngineRecord) -> None:
    """The engine's own record of all of the above shows no container beside another."""
    assert host.status()["replicas"]
    assert sum(record.starts(name) for name in NAMES) >= 36
    assert overlap(record.events) == 0.0
