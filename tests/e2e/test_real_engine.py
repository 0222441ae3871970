"""A real llama.cpp that stopped computing is told from one that computes for long."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.engines.llamacpp import stats
from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import LLAMA, P106_TENTH, Host, workload
from tests.rig import http
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.engine, pytest.mark.nvml, pytest.mark.alone]

PORT = 18281
#: A word of one token, and as many of them as take one core some fifteen seconds.
WORD, WORDS = " the", 2048
CONTEXT = 8192
QUOTA_PERIOD = 100_000  # microseconds, the kernel's default


def profile(host: Host, watchdog: str, batch: int = 256) -> Path:
    options = {"threads": 1, "batch": batch, "ubatch": 256}
    tables = workload("chat", port=PORT, image=LLAMA, gpus=[0, 1], context=CONTEXT, options=options)
    return host.profile(tables, watchdog=watchdog)


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, record: EngineRecord) -> Iterator[Host]:
    with Host(engine) as started:
        started.up(profile(started, P106_TENTH))
        yield started


@pytest.fixture
def asking() -> Iterator[Callable[..., Future[dict[str, Any]]]]:
    """Ask in a thread of its own; the answer is in the Future."""
    with ThreadPoolExecutor(2) as threads:
        yield lambda *arguments, **keys: threads.submit(complete, *arguments, **keys)


def complete(prompt: str, *, seconds: float, **asked: Any) -> dict[str, Any]:
    data = json.dumps({"prompt": prompt, "temperature": 0, "cache_prompt": False, **asked}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/completions", data=data)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


# -- inference that has stopped behind a live port ------------------------------------------------


class Held:
    """
    A thread of another process, held as a debugger holds one: the rest of the process runs on.

    Source: ptrace(2), PTRACE_SEIZE and PTRACE_INTERRUPT. The tracer is one thread, and a held
    thread that is killed goes only when that has waited for it.
    """

    _SEIZE, _INTERRUPT, _WALL = 0x4206, 0x4207, 0x40000000

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._stopped: Future[int] = Future()
        self._tracer = threading.Thread(target=self._trace, daemon=True)

    def hold(self) -> None:
        """Return once it has stopped."""
        self._tracer.start()
        status = self._stopped.result(timeout=10)
        assert os.WIFSTOPPED(status), status

    def wait(self) -> None:
        """Wait until it has been killed; the container ends only then."""
        self._tracer.join(10)
        assert not self._tracer.is_alive()

    def _trace(self) -> None:
        try:
            for order in (self._SEIZE, self._INTERRUPT):
                ptrace(order, self._thread_id)
            status = os.waitpid(self._thread_id, self._WALL)[1]
        except OSError as error:
            self._stopped.set_exception(error)
            return
        self._stopped.set_result(status)
        # It stops once more on its way out where another thread of its process is killed first.
        while os.WIFSTOPPED(status):
            status = os.waitpid(self._thread_id, self._WALL)[1]


def ptrace(order: int, thread_id: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.restype = ctypes.c_long
    library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if library.ptrace(order, thread_id, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def busiest_thread(pid: int) -> int:
    """Return the thread of a process that used the most CPU within half a second."""
    before = cpu_ticks(pid)
    time.sleep(0.5)
    used = {thread: ticks - before.get(thread, 0) for thread, ticks in cpu_ticks(pid).items()}
    return max(used, key=lambda thread: used[thread])


def cpu_ticks(pid: int) -> dict[int, int]:
    """Return the user time of each thread. Source: /proc/PID/task/TID/stat, utime."""
    found: dict[int, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        found[int(task.name)] = int((task / "stat").read_text().rpartition(")")[2].split()[11])
    return found


def test_inference_stopped_behind_a_live_port_is_one_restart(
    host: Host, record: EngineRecord, asking: Callable[..., Future[dict[str, Any]]]
) -> None:
    """Health says 200, a request is in flight, nothing moves: `stalled`, and it serves again."""
    before, starts = host.containers(), record.starts("chat-0")
    lost = asking("Tell a long story.", seconds=60, max_tokens=4000, ignore_eos=True)
    wait_for(lambda: host.replica("chat-0")["in_flight"] == 1, "the request in flight")
    held = Held(busiest_thread(host.pid_of("chat-0")))
    held.hold()
    health = http.get(PORT, "/health")
    assert health is not None
    assert health[0] == 200
    new = host.wait_replaced("chat-0", before["chat-0"][0], seconds=40)
    held.wait()
    with pytest.raises(OSError, match=r"closed|reset|refused"):
        lost.result(timeout=10)
    (failure,) = host.events("failed", subject="chat-0")
    assert failure["reason"] == "stalled"
    told = failure["evidence"]
    assert (told["container"], told["in_flight"]) == (before["chat-0"][0], 1)
    assert told["still_seconds"] >= told["limit_seconds"] == 12.0
    assert record.starts("chat-0") == starts + 1
    after = host.containers()
    assert (after["chat-0"][0], after["chat-1"]) == (new, before["chat-1"])
    why = host.run("why", "chat-0").out
    assert "failed: stalled; ready again after" in why
    assert "in flight: 1" in why
    answered = complete("The capital of France is", seconds=30, max_tokens=4)
    assert "Paris" in answered["choices"][0]["text"]


# -- work that takes long -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """A prompt that is computed for so long under these thresholds."""

    seconds: float
    stalled_seconds: float
    watchdog: str
    batch: int = 256  # tokens after which its counters move


TENTH = Prefill(seconds=18.0, stalled_seconds=12.0, watchdog=P106_TENTH)
PREFILLS = {"one-batch": replace(TENTH, batch=4096)}
if os.environ.get("GPUCTL_SOAK") == "1":
    PREFILLS["tenth"] = TENTH
    #: The P106 profile as it ships, less what makes a test wait for its beginning.
    DEFAULTS = 'interval = "5s"\nhealth_timeout = "3s"\nhard_failures = 2\nhard = "5s"\n'
    PREFILLS["defaults"] = Prefill(
        seconds=180.0, stalled_seconds=120.0, watchdog=f'{DEFAULTS}vram = "strict"\n'
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("prefill", PREFILLS.values(), ids=PREFILLS.keys())
def test_a_long_prefill_restarts_nothing(
    host: Host,
    record: EngineRecord,
    prefill: Prefill,
    asking: Callable[..., Future[dict[str, Any]]],
) -> None:
    """A prompt that takes longer than `stalled` is computed to its end, and answered."""
    host.up(profile(host, prefill.watchdog, prefill.batch))
    before = host.containers()
    told = len(host.events("failed"))
    slow_down(host, prefill.seconds)
    began = time.monotonic()
    limit = 3 * prefill.seconds + 30
    answer = asking(WORD * WORDS, seconds=limit, max_tokens=1)
    seen: set[str] = set()
    counted: list[float] = []
    while not answer.done():
        assert time.monotonic() - began < limit
        seen.add(host.replica("chat-0")["phase"])
        counted += progress()
        time.sleep(prefill.seconds / 60)
    took = time.monotonic() - began
    assert answer.exception() is None, host.events("failed", subject="chat-0")[-1:]
    usage = answer.result()["usage"]
    assert (usage["prompt_tokens"] >= WORDS, usage["completion_tokens"]) == (True, 1)
    assert took > prefill.stalled_seconds, f"{took:.1f} s are too short to tell anything"
    assert seen <= {"ready", "busy", "degraded"}
    assert host.containers() == before
    assert len(host.events("failed")) == told
    # They move with every batch, and at the end; within one only processor time tells of the work.
    assert (len(set(counted)) > 4) == (prefill.batch < WORDS), counted


def slow_down(host: Host, seconds: float) -> None:
    """
    Slow chat-0 down so that the prompt takes it *seconds* at least.

    A machine of 2026 computes some hundred tokens a second on one core; a faster one gets a
    smaller share of it.
    """
    began = time.monotonic()
    complete(WORD * 512, seconds=60, max_tokens=1)
    estimate = (time.monotonic() - began) / 512 * WORDS
    if estimate < seconds:
        quota = max(5_000, int(QUOTA_PERIOD * estimate / seconds))
        host.client.update_container("gpuctl-chat-0", cpu_period=QUOTA_PERIOD, cpu_quota=quota)


def progress() -> list[float]:
    """Return the engine's progress counter if it answers within a second."""
    answered = http.get(PORT, "/metrics", timeout_seconds=1.0)
    found = stats(answered[1].decode()).progress if answered is not None else None
    return [] if found is None else [found]


def test_never_two_of_one_replica_ran_at_once(host: Host, record: EngineRecord) -> None:
    """The engine's own record of all of the above shows no container beside another."""
    assert host.status()["replicas"]
    assert record.starts("chat-0") >= 2
    assert overlap(record.events) == 0.0
