"""The simulated host: the contract of every runtime where no program has to run, and its own."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import host_state
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.errors import GpuUnavailable, NotFound, RuntimeUnavailable, StartRefused, UsageError
from gpuctl.host_state import GpuState, HostState, ProcessState
from gpuctl.model import GIB, MIB, ContainerSpec, GpuProcess, ProbeSpec, RuntimeEvent
from gpuctl.plugin import load_engines
from tests.adapters.runtime_contract import Bench, RuntimeContract, Watcher, marked, watched
from tests.fakes import FakeClock
from tests.rig import http

__all__ = ["watched"]

CARD = GpuState(
    index=0, uuid="GPU-0", name="P106-100", memory_total_bytes=6 * GIB, processes=()
)  # fmt: skip
HOST = HostState(
    name="test", driver_version="580", cpus=4, memory_total_bytes=16 * GIB, load_seconds=10.0,
    gpus=(CARD, replace(CARD, index=1, uuid="GPU-1")),
)  # fmt: skip
#: A quarter of a card would leave nothing for the driver: a loaded replica holds 22 %.
VRAM = int(0.22 * 6 * GIB)


class HostFile:
    """A host-state file; every edit of it is seen, however fast they follow each other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "host.json"
        self._edits = itertools.count(1)
        self.write()

    def write(self, **fields: Any) -> None:
        """Make it HOST but for *fields*."""
        self.put(host_state.dump(replace(HOST, **fields)))

    def put(self, text: str) -> None:
        self.path.write_text(text)
        os.utime(self.path, ns=(next(self._edits) * 10**9,) * 2)

    def fault(self, replica: str, fault: str) -> None:
        self.write(replicas={replica: fault})


@pytest.fixture
def file(tmp_path: Path) -> HostFile:
    return HostFile(tmp_path)


def spec(port: int = 8081, **fields: Any) -> ContainerSpec:
    return ContainerSpec(
        **{"image": "org/llama.cpp:server", "host_port": port, "container_port": 8080, **fields}
    )


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
        other = SimulatedHost(str(file.path), state_directory=state).runtime
        return other.create("stranger", spec(1), {})

    def order(port: int, *, exit: int) -> None:
        """What ends a program by itself is, on this host, a fault of its file."""
        held = json.loads((state / "simulated.json").read_text())["containers"]
        (found,) = [each for each in held if each["port"] == port]
        file.fault(found["labels"]["gpuctl.replica"], f"exit:{exit}")

    monkeypatch.setattr(http, "order", order)
    monkeypatch.setattr(http, "state", lambda _port: None)  # it needs no waiting for
    bench = SimulatedBench(
        open=lambda: SimulatedHost(str(file.path), state_directory=state).runtime,
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


class Stage:
    """A simulated host on a clock that a test moves, with one replica's container started."""

    def __init__(self, file: HostFile, state: Path | None = None) -> None:
        self.file, self.state, self.clock = file, state, FakeClock()
        self.born()

    def born(self) -> None:
        """A new process comes to the same host."""
        host = SimulatedHost(str(self.file.path), state_directory=self.state, clock=self.clock)
        self.host, self.runtime, self.prober = host, host.runtime, host.prober

    def start(self, replica: str = "chat-0", port: int = 8081, **fields: Any) -> str:
        made = spec(port, **{"gpus": ("GPU-0",), "memory_bytes": GIB, **fields})
        container = self.runtime.create(f"gpuctl-{replica}", made, marked(replica, gpus="GPU-0"))
        self.runtime.start(container)
        return container

    def loaded(self) -> str:
        container = self.start()
        self.clock.advance(10)
        return container

    def ask(self, port: int = 8081) -> str:
        return self.prober.probe(probe(port)).outcome

    def held(self) -> list[GpuProcess]:
        return list(self.host.gpus.read()[0].processes or ())


def probe(port: int = 8081, **fields: Any) -> ProbeSpec:
    return ProbeSpec(**{"port": port, "health_path": "/", "metrics_path": "/metrics", **fields})


@pytest.fixture
def stage(file: HostFile) -> Stage:
    return Stage(file)


@pytest.mark.parametrize("name", sorted(host_state.shipped()))
def test_every_shipped_host_can_be_simulated(name: str) -> None:
    """A shipped host is simulated by its name alone, with the GPUs and the memory of its file."""
    simulated, written = SimulatedHost(name), host_state.read(host_state.find(name))
    assert [gpu.uuid for gpu in simulated.gpus.read()] == [gpu.uuid for gpu in written.gpus]
    assert simulated.host.read().memory_total_bytes == written.memory_total_bytes
    assert simulated.cpus == written.cpus


def test_an_unknown_host_is_an_error_of_its_own() -> None:
    """A name that no shipped host has, and a file that is not there, are told apart."""
    with pytest.raises(NotFound):
        SimulatedHost("p107x8")
    with pytest.raises(UsageError):
        SimulatedHost("./nowhere.json")


def test_a_life_as_the_prober_sees_it(stage: Stage) -> None:
    """Refused before the start, loading for `load_seconds`, then ok, and refused after the end."""
    seen = [stage.ask()]
    container = stage.start()
    stage.clock.advance(9.9)
    seen.append(stage.ask())
    stage.clock.advance(0.2)
    seen.append(stage.ask())
    stage.runtime.signal(container, "SIGTERM")
    assert [*seen, stage.ask()] == ["refused", "loading", "ok", "refused"]


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_metrics_are_read_by_every_engine(stage: Stage, engine: str) -> None:
    """An idle engine has nothing in flight, and an answered canary moves its counter."""
    stage.loaded()
    read = load_engines()[engine].stats
    before = read(stage.prober.probe(probe()).metrics or "")
    assert (before.running, before.waiting, before.progress) == (0, 0, 0.0)
    assert stage.prober.canary(probe(canary_path="/v1/completions"))
    assert read(stage.prober.probe(probe()).metrics or "").progress == 1.0


def test_an_engine_without_metrics_is_not_asked_for_them(stage: Stage) -> None:
    """Where the probe names no path, there is no text."""
    stage.loaded()
    assert stage.prober.probe(probe(metrics_path=None)).metrics is None


@pytest.mark.parametrize("fault", ["refused", "reset", "timeout", "dead"])
def test_a_fault_of_the_port(stage: Stage, fault: str) -> None:
    """The port answers as its fault says while the container runs, and is well after the edit."""
    container = stage.loaded()
    stage.file.fault("chat-0", fault)
    assert (stage.ask(), stage.prober.canary(probe())) == (fault, False)
    stage.file.write()
    assert stage.ask() == "ok"
    assert [found.id for found in stage.runtime.list()] == [container]


def test_a_fault_is_of_one_replica(stage: Stage) -> None:
    """The others do not suffer it."""
    stage.start()
    stage.start("chat-1", 8082)
    stage.clock.advance(10)
    stage.file.fault("chat-1", "refused")
    assert (stage.ask(8081), stage.ask(8082)) == ("ok", "refused")


def test_stalled_is_ok_without_tokens(stage: Stage) -> None:
    """Health is good, a request is in flight, and neither counter nor canary moves."""
    stage.loaded()
    stage.file.fault("chat-0", "stalled")
    answer = stage.prober.probe(probe())
    stats = load_engines()["llama.cpp"].stats(answer.metrics or "")
    assert (answer.outcome, stats.running, stats.progress) == ("ok", 1, 0.0)
    assert not stage.prober.canary(probe())


def test_slow_load_takes_its_own_time(stage: Stage) -> None:
    """The load of that replica lasts as long as its fault says."""
    stage.file.fault("chat-0", "slow_load:30")
    stage.start()
    stage.clock.advance(29)
    assert stage.ask() == "loading"
    stage.clock.advance(2)
    assert stage.ask() == "ok"


def test_exit_ends_the_container_once_for_each_edit(stage: Stage) -> None:
    """The fault kills what runs; a start after it holds until the file is edited again."""
    container = stage.loaded()
    for code in (1, 3):
        stage.file.fault("chat-0", f"exit:{code}")
        (found,) = stage.runtime.list()
        assert (found.state, found.exit_code, found.oom_killed) == ("exited", code, False)
        stage.runtime.start(container)
        stage.clock.advance(100)
        assert stage.runtime.list()[0].state == "running"


def test_exit_waits_for_something_that_runs(stage: Stage) -> None:
    """A file that has the fault from the beginning ends the first container that runs."""
    stage.file.fault("chat-0", "exit:1")
    stage.start()
    assert stage.runtime.list()[0].exit_code == 1


def test_out_of_memory(stage: Stage) -> None:
    """The memory limit kills with 137 and says so."""
    container = stage.loaded()
    stage.file.fault("chat-0", "oom")
    found = stage.runtime.inspect(container)
    assert found is not None
    assert (found.exit_code, found.oom_killed) == (137, True)
    assert stage.runtime.logs(container, 1) == ("ended: out of memory",)


def test_a_refused_start_leaves_its_reason(stage: Stage) -> None:
    """The container stays created, with the words of the refusal, as Docker keeps them."""
    stage.file.fault("chat-0", "start_refused")
    with pytest.raises(StartRefused):
        stage.start()
    (found,) = stage.runtime.list()
    assert (found.state, found.exit_code) == ("created", 128)
    assert "refused" in found.error


def test_a_taken_port_refuses_the_start(stage: Stage) -> None:
    """One port is one container's, until that is cut from its network."""
    first = stage.start()
    with pytest.raises(StartRefused, match=r"8081 .* taken by gpuctl-chat-0"):
        stage.start("chat-1")
    stage.runtime.disconnect(first)
    stage.runtime.start("gpuctl-chat-1")


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        pytest.param("GPU-9", "no GPU GPU-9", id="unknown"),
        pytest.param("GPU-1", "GPU-1 is lost", id="lost"),
    ],
)
def test_a_gpu_that_cannot_be_given_refuses_the_start(stage: Stage, gpu: str, words: str) -> None:
    """A container gets no GPU that the host does not have or has lost."""
    stage.file.write(gpus=(CARD, replace(HOST.gpus[1], lost=True)))
    with pytest.raises(StartRefused, match=words):
        stage.start(gpus=(gpu,))


def test_vram_grows_with_the_load(stage: Stage) -> None:
    """A container's process is on its GPU, holds more while it loads, and is known as its own."""
    container = stage.start()
    stage.clock.advance(5)
    (half,) = stage.held()
    stage.clock.advance(50)
    (whole,) = stage.held()
    assert (half.used_bytes, whole.used_bytes) == (VRAM // 2, VRAM)
    assert (whole.container, whole.name) == (container, "llama.cpp")
    assert stage.host.host.container_of(whole.pid) == container
    assert stage.host.host.name_of(whole.pid) == "llama.cpp"
    assert [gpu.memory_used_bytes for gpu in stage.host.gpus.read()] == [VRAM, 0]


def test_memory_grows_with_the_load(stage: Stage) -> None:
    """Half of the limit is held at last, and the host has that much less."""
    stage.loaded()
    assert stage.runtime.list()[0].memory_bytes == GIB // 2
    assert stage.host.host.read().memory_available_bytes == 16 * GIB - GIB // 2


def test_vram_lost(stage: Stage) -> None:
    """Health stays good, the process is off the GPU, and no canary speaks for it."""
    stage.loaded()
    stage.file.fault("chat-0", "vram_lost")
    assert (stage.ask(), stage.held(), stage.prober.canary(probe())) == ("ok", [], False)


def test_strangers_and_owners_of_the_file(stage: Stage) -> None:
    """A process of the file is a stranger's, or a replica's where it names one that runs."""
    container = stage.start()
    mine = ProcessState(pid=7, used_bytes=MIB, container="chat-0", name="worker")
    other = ProcessState(pid=8, used_bytes=MIB, name="blender")
    stage.file.write(gpus=(replace(CARD, processes=(mine, other)),))
    assert stage.held()[:2] == [
        GpuProcess(pid=7, used_bytes=MIB, container=container, name="worker"),
        GpuProcess(pid=8, used_bytes=MIB, name="blender"),
    ]
    assert (stage.host.host.name_of(8), stage.host.host.container_of(8)) == ("blender", None)
    assert stage.host.host.name_of(9) is None


def test_a_lost_gpu_tells_nothing(stage: Stage) -> None:
    """A GPU off the bus is listed as lost, without a number."""
    stage.file.write(gpus=(replace(CARD, lost=True, temperature_celsius=90.0),))
    (gpu,) = stage.host.gpus.read()
    assert (gpu.state, gpu.temperature_celsius, gpu.processes) == ("lost", None, None)


def test_what_a_card_does_not_report_is_none(stage: Stage) -> None:
    """`null` in the file is None in the reading, also where containers run on the card."""
    stage.start()
    bare = replace(CARD, processes=None, memory_total_bytes=None)
    stage.file.write(gpus=(bare,))
    (gpu,) = stage.host.gpus.read()
    assert (gpu.processes, gpu.memory_used_bytes, gpu.power_watts) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"init_error": 18}, "error 18", id="init"),
        pytest.param({"driver_version": None}, "no driver", id="driver"),
        pytest.param({"calls": {"nvmlInit_v2": "hang"}}, "nvmlInit_v2", id="hang"),
        pytest.param({"calls": {"nvmlInit_v2": 6.0}}, "nvmlInit_v2", id="late"),
    ],
)
def test_gpus_that_cannot_be_read(stage: Stage, fields: dict[str, Any], words: str) -> None:
    """A broken, missing or hung driver is an error at once, not an empty host."""
    stage.file.write(**fields)
    with pytest.raises(GpuUnavailable, match=words):
        stage.host.gpus.read()


def test_a_slow_call_within_its_deadline_is_read(stage: Stage) -> None:
    """What takes a second is answered."""
    stage.file.write(calls={"nvmlInit_v2": 1.0})
    assert len(stage.host.gpus.read()) == 2


def test_a_bad_edit_is_a_source_that_cannot_be_read(stage: Stage) -> None:
    """Nothing is known until the file is mended, and then everything runs as before."""
    container = stage.loaded()
    stage.file.put("{")
    with pytest.raises(RuntimeUnavailable, match="not JSON"):
        stage.runtime.list()
    with pytest.raises(GpuUnavailable, match="not JSON"):
        stage.host.gpus.read()
    assert (stage.ask(), stage.prober.canary(probe())) == ("error", False)
    stage.file.write()
    assert [found.id for found in stage.runtime.list()] == [container]


def test_logs_and_following(stage: Stage) -> None:
    """The output tells start, readiness and end; a follower gets all of it, and then an end."""
    container = stage.loaded()
    following = stage.runtime.follow(container, 1)
    seen = [next(following)]
    stage.runtime.signal(container, "SIGTERM")
    assert [*seen, *following] == ["listening on 127.0.0.1:8081", "ended: exit code 143"]
    assert stage.runtime.logs(container, 200) == (
        "simulated org/llama.cpp:server: loading the model",
        "listening on 127.0.0.1:8081",
        "ended: exit code 143",
    )


def test_following_what_is_removed_ends(stage: Stage) -> None:
    """A container that goes while it is followed ends the stream."""
    container = stage.loaded()
    following = stage.runtime.follow(container, 1)
    next(following)
    stage.runtime.signal(container, "SIGKILL")
    stage.runtime.remove(container)
    assert list(following) == []


def test_what_runs_cannot_be_removed(stage: Stage) -> None:
    """It has to be stopped first."""
    container = stage.start()
    with pytest.raises(RuntimeUnavailable, match="is running"):
        stage.runtime.remove(container)


def test_every_image_is_there(stage: Stage) -> None:
    """Nothing is fetched for a simulation."""
    told: list[tuple[str, float | None]] = []
    stage.runtime.pull("engine:1", lambda line, ratio: told.append((line, ratio)))
    assert stage.runtime.has_image("engine:1")
    assert told == [("engine:1: simulated", 1.0)]


def test_a_fault_is_told_to_who_watches(file: HostFile) -> None:
    """An edit of the file becomes events without anybody asking for the list."""
    runtime = SimulatedHost(str(file.path)).runtime
    container = runtime.create("gpuctl-chat-0", spec(), marked("chat-0"))
    watcher = Watcher(runtime)
    runtime.start(container)
    watcher.wait("start", container)
    file.fault("chat-0", "oom")
    died = watcher.wait("die", container)
    runtime.close()
    watcher.thread.join(5)
    assert [event.action for event in watcher.events] == ["start", "oom", "die"]
    assert died.exit_code == 137


def test_what_was_missed_is_told_since(stage: Stage) -> None:
    """Whoever asks for events since a time gets those from then on, first of all."""
    container = stage.start()
    stage.clock.advance(10)
    since = stage.clock.now()
    stage.runtime.signal(container, "SIGKILL")
    assert next(stage.runtime.watch(since)) == RuntimeEvent(
        at=since, action="die", container=container, replica="chat-0", exit_code=137
    )


def test_a_new_process_adopts_what_runs(file: HostFile, tmp_path: Path) -> None:
    """Containers, their pids and their loads go on where the state directory is the same."""
    stage = Stage(file, tmp_path / "state")
    stage.loaded()
    before = stage.runtime.list()
    identity = stage.runtime.identity()
    stage.born()
    assert stage.runtime.list() == before
    assert (stage.runtime.identity(), stage.ask()) == (identity, "ok")
    assert stage.start("chat-1", 8082) not in {found.id for found in before}
    assert len({found.pid for found in stage.runtime.list()}) == 2


def test_a_new_process_does_not_repeat_a_fault(file: HostFile, tmp_path: Path) -> None:
    """An edit that has had its death has had it for every process."""
    stage = Stage(file, tmp_path / "state")
    container = stage.loaded()
    file.fault("chat-0", "exit:1")
    assert stage.runtime.list()[0].exit_code == 1
    stage.runtime.start(container)
    stage.born()
    assert stage.runtime.list()[0].state == "running"


def test_hosts_without_a_directory_share_nothing(file: HostFile) -> None:
    """Two simulations in memory are two engines."""
    first, second = Stage(file), Stage(file)
    first.start()
    assert second.runtime.list() == ()
    assert first.runtime.identity() != second.runtime.identity()


def test_nothing_outlives_a_boot(file: HostFile, tmp_path: Path) -> None:
    """After a reboot every container has exited, with the code of an end nobody saw."""
    stage = Stage(file, tmp_path / "state")
    stage.loaded()
    stage.clock = FakeClock(seconds=1.0, boot_id="boot-2")
    stage.born()
    (found,) = stage.runtime.list()
    assert (found.state, found.exit_code, found.finished_at) == ("exited", 255, None)


def test_nothing_is_written_when_nothing_changed(file: HostFile, tmp_path: Path) -> None:
    """Reading, probing and repeating what is done already leave the file as it is."""
    stage = Stage(file, tmp_path / "state")
    container = stage.loaded()
    stored = tmp_path / "state" / "simulated.json"
    before = stored.stat()
    stage.runtime.list()
    stage.host.gpus.read()
    stage.ask()
    stage.runtime.start(container)
    stage.runtime.rename(container, "gpuctl-chat-0")
    after = stored.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_reader_writes_no_directory(file: HostFile, tmp_path: Path) -> None:
    """Looking at a host that nobody supervises makes nothing."""
    SimulatedHost(str(file.path), state_directory=tmp_path / "state").runtime.list()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"containers": [{}]}', '{"boot_id": 1}'])
def test_a_broken_state_file_is_named(file: HostFile, tmp_path: Path, text: str) -> None:
    """What is no state is an error that names the file and what to do."""
    (tmp_path / "simulated.json").write_text(text)
    host = SimulatedHost(str(file.path), state_directory=tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"simulated\.json does not hold"):
        host.runtime.list()


def test_no_update_is_lost(file: HostFile, tmp_path: Path) -> None:
    """Clients that write at the same time see each other's containers, all of them."""
    state = tmp_path / "state"

    def create(first: int) -> None:
        runtime = SimulatedHost(str(file.path), state_directory=state).runtime
        for number in range(first, first + 10):
            runtime.create(f"gpuctl-c-{number}", spec(), marked(f"c-{number}"))

    threads = [threading.Thread(target=create, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = SimulatedHost(str(file.path), state_directory=state).runtime.list()
    assert len(left) == 30


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
