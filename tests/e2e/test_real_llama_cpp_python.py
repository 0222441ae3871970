"""A real llama-cpp-python under a real daemon, as a process: load, long answer, kill, stall."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomlkit

from tests.e2e.host import MODEL, MODELS, Host
from tests.e2e.process_host import ProcessHost
from tests.e2e.real_engines import TENTH, Watched, complete
from tests.e2e.transcript import Transcript
from tests.rig import http

pytestmark = [pytest.mark.llama_cpp_python, pytest.mark.timeout(600)]

PORT = 18291
PYTHON = Path(os.environ.get("GPUCTL_ENGINES", "")) / "llama-cpp-python" / "bin" / "python"
#: As in the watchdog's thresholds, and an answer that takes well longer.
STALLED_SECONDS, LONG_SECONDS = 12.0, 30.0
#: The ends of a text, of a turn and of a document in this model's vocabulary: never chosen.
ENDLESS = {"0": -100.0, "1": -100.0, "2": -100.0}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    show = "import llama_cpp, gpuctl; print(llama_cpp.__version__, gpuctl.__version__)"
    said = subprocess.run([PYTHON, "-c", show], capture_output=True, text=True, check=True).stdout
    engine, gpuctl = said.split()
    made = f"llama-cpp-python {engine}, gpuctl {gpuctl}, runtime process, {MODEL}"
    with ProcessHost(PYTHON) as started:
        yield Watched(started, Transcript("llama-cpp-python", made))


def profile(host: Host) -> Path:
    assert isinstance(host, ProcessHost)
    table = {
        "engine": "llama-cpp-python",
        "model": str(MODELS / MODEL),
        "gpus": "none",
        "port": PORT,
        "context": 2048,
        "options": {"threads": 1},
    }
    return host.process_profile(tomlkit.dumps({"workloads": {"chat": table}}), TENTH)


def test_load(watched: Watched) -> None:
    """It loads, is warmed up with one request, and only then is ready."""
    host = watched.host
    watched.transcript.say("gpuctl up")
    with ThreadPoolExecutor(1) as threads:
        up = threads.submit(host.up, profile(host), seconds=200.0)
        watched.stages_while(up.done)
        up.result()
    (ready,) = watched.told("ready", "failed")
    assert ready["evidence"]["warmup_requests"] == 1
    assert "POST /v1/completions" in host.run("logs", "chat-0").out
    answered = complete(PORT, "The capital of France is", seconds=60, max_tokens=4)
    assert "Paris" in answered["choices"][0]["text"]
    watched.transcript.say("asked for the capital of France: Paris")


def test_a_long_answer_is_no_standstill(watched: Watched) -> None:
    """One request for longer than `stalled`: no other is answered meanwhile, and it is not dead."""
    host, container, tokens = watched.host, watched.container, tokens_within(LONG_SECONDS)
    seen: set[tuple[str, str]] = set()
    mute = 0
    began = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        told = {"max_tokens": tokens, "logit_bias": ENDLESS}
        answer = threads.submit(complete, PORT, "Tell a long story.", seconds=400, **told)
        while not answer.done():
            row = host.replica("chat-0")
            seen.add((row["phase"], row["reason"]))
            mute += http.get(PORT, "/v1/models", timeout_seconds=0.5) is None
        usage = answer.result()["usage"]
    took = time.monotonic() - began
    watched.transcript.say(
        f"one answer of {usage['completion_tokens']} tokens took {took:.1f} s; /v1/models stayed "
        f"silent in {mute} of the questions meanwhile; status: "
        + ", ".join(sorted(phase for phase, _ in seen))
    )
    assert usage["completion_tokens"] == tokens
    assert took > STALLED_SECONDS, f"{took:.1f} s are too short to tell anything"
    assert mute > 5
    assert {phase for phase, _ in seen} <= {"ready", "busy"}
    assert ("busy", "") in seen
    assert watched.container == container
    assert watched.told("failed") == []


def tokens_within(seconds: float) -> int:
    """Return how many tokens it makes in that time, and no more than its context holds."""
    began = time.monotonic()
    complete(PORT, "Tell a long story.", seconds=60, max_tokens=64, logit_bias=ENDLESS)
    return min(1900, int(64 / (time.monotonic() - began) * seconds))


def test_killed(watched: Watched) -> None:
    """SIGKILL: it is started again at once, warmed up, and serves."""
    old, began = watched.container, time.monotonic()
    watched.transcript.say("SIGKILL of the server")
    os.kill(watched.host.pid_of("chat-0"), signal.SIGKILL)
    watched.again_after(old, began)
    failed, ready = watched.told("failed", "ready")
    assert (failed["reason"], ready["kind"]) == ("killed", "ready")
    assert complete(PORT, "The capital of France is", seconds=60, max_tokens=4)["choices"]


def test_stalled(watched: Watched) -> None:
    """SIGSTOP: its port takes connections, it answers nobody and uses no processor: `stalled`."""
    old, began = watched.container, time.monotonic()
    watched.transcript.say("SIGSTOP of the server")
    os.kill(watched.host.pid_of("chat-0"), signal.SIGSTOP)
    watched.again_after(old, began)
    failed, ready = watched.told("failed", "ready")
    assert (failed["reason"], ready["kind"]) == ("stalled", "ready")
    assert failed["evidence"]["in_flight"] == 1
    assert (
        failed["evidence"]["still_seconds"]
        >= failed["evidence"]["limit_seconds"]
        == STALLED_SECONDS
    )
    answered = complete(PORT, "The capital of France is", seconds=60, max_tokens=4)
    assert "Paris" in answered["choices"][0]["text"]
    watched.transcript.say("asked for the capital of France: Paris")
    watched.transcript.write()
