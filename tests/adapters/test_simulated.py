"""The simulated host: the contract of every runtime where no program has to run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuctl import host_state
from gpuctl.adapters.clock import SystemClock
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.errors import NotFound, UsageError
from tests.adapters.runtime_contract import Bench, RuntimeContract, watched
from tests.adapters.simulated_bench import HostFile, Stage, file, spec, stage
from tests.rig import http

__all__ = ["file", "stage", "watched"]


@dataclass(kw_only=True)
class SimulatedBench(Bench):
    """A bench whose programs cannot be asked: they run as soon as they are started."""

    def started(self) -> tuple[str, int]:
        port = http.free_port()
        container, _ = self.create(port)
        self.runtime.start(container)
        return container, port


@pytest.fixture
def bench(
    tmp_path: Path, file: HostFile, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimulatedBench]:
    state = tmp_path / "state"

    def stranger() -> str:
        other = SimulatedHost(str(file.path), clock=SystemClock(), state_directory=state).runtime
        return other.create("stranger", spec(1), {})

    def order(port: int, *, exit: int) -> None:
        """What ends a program by itself is, on this host, a fault of its file."""
        held = json.loads((state / "simulated.json").read_text())["containers"]
        (found,) = [each for each in held if each["port"] == port]
        file.fault(found["labels"]["gpuctl.replica"], f"exit:{exit}")

    monkeypatch.setattr(http, "order", order)
    monkeypatch.setattr(http, "state", lambda _port: None)  # it needs no waiting for
    bench = SimulatedBench(
        client=lambda: (
            SimulatedHost(str(file.path), clock=SystemClock(), state_directory=state).runtime
        ),
        spec=spec,
        broken=spec(gpus=("GPU-9",)),
        foreign=stranger,
        alive=lambda id_: id_ in (state / "simulated.json").read_text(),
    )
    yield bench
    bench.clear()


class TestContract(RuntimeContract):
    """Everything of the contract that needs no program which writes, or which ignores a signal."""

    test_sigkill_ends_what_ignores_sigterm = None  # type: ignore[assignment]
    test_a_program_that_does_not_exist_is_named = None  # type: ignore[assignment]
    test_logs_are_the_last_lines = None  # type: ignore[assignment]
    test_logs_of_what_has_ended_remain = None  # type: ignore[assignment]
    test_following_ends_with_the_program = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", sorted(host_state.shipped()))
def test_every_shipped_host_can_be_simulated(name: str) -> None:
    """A shipped host is simulated by its name alone, with the GPUs and the memory of its file."""
    simulated = SimulatedHost(name, clock=SystemClock())
    written = host_state.read(host_state.find(name))
    assert [gpu.uuid for gpu in simulated.gpus.read()] == [gpu.uuid for gpu in written.gpus]
    assert simulated.host.read().memory_total_bytes == written.memory_total_bytes
    assert simulated.cpus == written.cpus


def test_an_unknown_host_is_an_error_of_its_own() -> None:
    """A name that no shipped host has, and a file that is not there, are told apart."""
    with pytest.raises(NotFound):
        SimulatedHost("p107x8", clock=SystemClock())
    with pytest.raises(UsageError):
        SimulatedHost("./nowhere.json", clock=SystemClock())


def test_many_containers_are_cheap_and_take_no_thread(stage: Stage) -> None:
    """Eight times as many cost at most 16 times this thread's time, and none has a thread."""
    before = threading.active_count()

    def seconds() -> float:
        began = time.thread_time()
        stage.runtime.list()
        return time.thread_time() - began

    for number in range(64):
        stage.start(f"chat-{number}", 9000 + number)
    few = min(seconds() for _ in range(10))
    for number in range(64, 512):
        stage.start(f"chat-{number}", 9000 + number)
    assert len(stage.runtime.list()) == 512
    assert min(seconds() for _ in range(10)) < 16 * few
    assert threading.active_count() == before
