"""A real vLLM under a real daemon, in a container on the CPU: load, kill, core lost, stall."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import tomlkit

from gpuctl.exposition import samples
from tests.e2e.host import Host
from tests.e2e.real_engines import LOAD_SECONDS, TENTH, Watched, complete
from tests.e2e.transcript import Transcript
from tests.rig import http, tiny_llama
from tests.rig.dockerd import PrivateEngine
from tests.rig.images import IMAGE, rig_mounts
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

PORT = 18292
VENV = Path(os.environ.get("GPUCTL_ENGINES", "")) / "vllm"
TAG = "gpuctl-rig:vllm"


@pytest.fixture(scope="module")
def watched(engine: PrivateEngine) -> Iterator[Watched]:
    show = "import importlib.metadata as m; print(m.version('vllm'), m.version('torch'))"
    python = VENV / "bin" / "python"
    said = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout
    vllm, torch = said.split()
    made = f"vLLM {vllm}, torch {torch}, runtime docker, a Llama of two layers with random weights"
    with Host(engine) as host:
        tiny_llama.write(host.folder / "models" / "tiny")
        tag_vllm(host)
        yield Watched(host, Transcript("vllm", made))


def tag_vllm(host: Host) -> None:
    """Give the rig's image the entrypoint of vLLM's own: `vllm serve`."""
    container = host.client.create_container(IMAGE, command=["true"])
    entrypoint = f'ENTRYPOINT ["{VENV.resolve()}/bin/vllm", "serve"]'
    host.client.commit(
        container["Id"], repository="gpuctl-rig", tag="vllm", changes=[entrypoint, "CMD []"]
    )
    host.client.remove_container(container["Id"])


def profile(host: Host) -> Path:
    mounts = [f"{m.source}:{m.target}:ro" for m in rig_mounts()]
    mounts += [f"{VENV.resolve()}:{VENV.resolve()}:ro", f"{host.folder}/models:/models:ro"]
    table = {
        "engine": "vllm",
        "image": TAG,
        "model": "/models/tiny",
        "gpus": "none",
        "port": PORT,
        "context": 2048,
        "parallel": 4,
        "environment": {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
        "mounts": mounts,
        "options": {"dtype": "float32", "enforce_eager": True},
    }
    return host.profile(tomlkit.dumps({"workloads": {"chat": table}}), watchdog=TENTH)


def processes(host: Host, name: str) -> list[int]:
    """Return the pids of the engine's own processes whose title begins so."""
    server = psutil.Process(int(host.client.inspect_container("gpuctl-chat-0")["State"]["Pid"]))
    found = []
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def test_load(watched: Watched) -> None:
    """Its stages are in `status` while it loads; it is warmed up, and only then is ready."""
    host = watched.host
    watched.transcript.say("gpuctl up")
    with ThreadPoolExecutor(1) as threads:
        up = threads.submit(host.up, profile(host), seconds=LOAD_SECONDS)
        seen = watched.stages_while(up.done)
        up.result()
    (ready,) = watched.told("ready", "failed")
    told = ready["evidence"]
    assert seen
    assert set(seen) <= set(told["stages"])
    assert list(told["stages"].values()) == sorted(told["stages"].values())
    assert told["warmup_requests"] == 1
    metrics = http.get(PORT, "/metrics")
    assert metrics is not None
    finished = samples(metrics[1].decode(), {"vllm:request_success_total"})
    assert sum(sample.value for sample in finished) == 1.0
    answered = complete(PORT, "abc", seconds=60, max_tokens=8)
    assert answered["usage"]["completion_tokens"] == 8
    watched.transcript.say("asked for 8 tokens: 8 tokens")


def test_killed(watched: Watched) -> None:
    """SIGKILL of the server: it is started again at once, warmed up, and serves."""
    old, began = watched.container, time.monotonic()
    watched.transcript.say("SIGKILL of the API server")
    os.kill(watched.host.pid_of("chat-0"), signal.SIGKILL)
    watched.again_after(old, began)
    failed, ready = watched.told("failed", "ready")
    assert (failed["reason"], ready["kind"]) == ("killed", "ready")
    assert complete(PORT, "abc", seconds=60, max_tokens=8)["choices"]


def test_core_lost(watched: Watched) -> None:
    """SIGKILL of the engine core alone: the server says so and ends, and is started again."""
    old, began = watched.container, time.monotonic()
    (core,) = processes(watched.host, "EngineCore")
    watched.transcript.say("SIGKILL of the engine core, the API server lives")
    os.kill(core, signal.SIGKILL)
    watched.again_after(old, began)
    failed, ready = watched.told("failed", "ready")
    assert ready["kind"] == "ready"
    assert failed["evidence"]["check"] in ("stopped", "health")


def test_stalled(watched: Watched) -> None:
    """SIGSTOP of the engine core with requests running: /health is 200, and it is `stalled`."""
    host, old = watched.host, watched.container
    core = processes(host, "EngineCore") + processes(host, "Worker")
    assert core
    with requests_running(2) as asked:
        began = stop_while_in_flight(host, core)
        watched.transcript.say("SIGSTOP of the engine core with requests running")
        health = http.get(PORT, "/health")
        assert health is not None
        assert health[0] == 200
        watched.transcript.say("/health is 200")
    watched.again_after(old, began)
    assert all(future.exception(timeout=0) is None for future in asked)
    failed, ready = watched.told("failed", "ready")
    assert (failed["reason"], ready["kind"]) == ("stalled", "ready")
    assert failed["evidence"]["in_flight"] >= 1
    assert failed["evidence"]["still_seconds"] >= failed["evidence"]["limit_seconds"] >= 12.0
    assert complete(PORT, "abc", seconds=60, max_tokens=8)["choices"]
    watched.transcript.say("asked for 8 tokens: 8 tokens")
    watched.transcript.write()


def stop_while_in_flight(host: Host, core: list[int]) -> float:
    """Stop the core at a moment that leaves its gauges above zero; return that moment."""
    for _ in range(20):
        wait_for(lambda: in_flight(host) > 0, "a request in flight", 60)
        began = time.monotonic()
        for pid in core:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2)  # Four readings: what is shown now was read of a stopped core.
        if in_flight(host) > 0:
            return began
        for pid in core:
            os.kill(pid, signal.SIGCONT)
    raise AssertionError("20 times it was stopped between two requests")


def in_flight(host: Host) -> int:
    return host.replica("chat-0")["in_flight"] or 0


@contextlib.contextmanager
def requests_running(count: int) -> Iterator[list[Future[None]]]:
    """Keep so many requests at the engine, each answered by the next, until the block is left.

    What is on its way then is ended by its own deadline, or with the engine.
    """
    done = threading.Event()
    with ThreadPoolExecutor(count) as threads:
        try:
            yield [threads.submit(flood, done) for _ in range(count)]
        finally:
            done.set()


def flood(done: threading.Event) -> None:
    """Ask for as many tokens as there may be, again and again, until told to stop."""
    while not done.is_set():
        with contextlib.suppress(OSError):
            complete(PORT, "abc", seconds=120, max_tokens=2000, ignore_eos=True)
