"""The Docker runtime on a private Docker Engine: the shared contract, then Docker's own facts."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gpuctl.adapters.docker import DockerRuntime
from gpuctl.adapters.kernel_log import SystemKernelLog
from gpuctl.errors import ContainerMissing, RuntimeTimeout, RuntimeUnavailable, StartRefused
from gpuctl.model import MIB, RuntimeEvent
from tests.adapters.docker_bench import bench, simulator
from tests.adapters.runtime_contract import Bench, RuntimeContract, Watcher, marked, watched
from tests.rig import http, images
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

__all__ = ["bench", "watched"]

pytestmark = pytest.mark.docker


class TestContract(RuntimeContract):
    """The shared contract, on a real engine."""


def test_a_taken_port_refuses_the_start_and_is_named(bench: Bench) -> None:
    """A port that another container holds is named, with what to do."""
    _, port = bench.started()
    second, _ = bench.create(port)
    with pytest.raises(StartRefused, match=str(port)) as refused:
        bench.runtime.start(second)
    assert "ss -ltnp" in refused.value.hint


def test_disconnecting_frees_the_port_of_a_running_container(bench: Bench) -> None:
    """One that cannot be killed gives its port to its successor."""
    old, port = bench.started()
    bench.runtime.disconnect(old)
    bench.runtime.disconnect(old)
    new, _ = bench.create(port)
    bench.runtime.start(new)
    http.state(port)
    assert (bench.read(old).state, bench.read(new).state) == ("running", "running")


@pytest.mark.parametrize("busy", [False, True], ids=["at-once", "its-shim-late"])
def test_a_container_out_of_memory_is_told_from_a_killed_one(bench: Bench, busy: bool) -> None:
    """
    The control group's OOM kill shows as oom_killed and 137, once the `oom` event is there.

    A shim that gets no CPU for a while tells of the exit first, one time in three: Docker 20.10
    then leaves OOMKilled false.
    """
    watcher = Watcher(bench.runtime, time.time())
    port = http.free_port()
    spec = replace(simulator(port), memory_bytes=48 * MIB, memory_swap_bytes=48 * MIB)
    container = bench.runtime.create("gpuctl-oom-0", spec, marked("oom-0"))
    bench.runtime.start(container)
    http.state(port)
    shim = psutil.Process(bench.read(container).pid).parent()
    assert shim is not None
    if busy:
        shim.suspend()
    http.order(port, allocate=200 * MIB)
    shim.resume()
    assert bench.ended(container).exit_code == 137
    watcher.wait("oom", container)
    assert bench.read(container).oom_killed
    (listed,) = bench.runtime.list()
    assert listed.oom_killed


def starve(runtime: DockerRuntime, number: int) -> tuple[str, psutil.Process]:
    """Bring a container to its end for want of RAM; return it and its shim, which is held up."""
    port = http.free_port()
    spec = replace(simulator(port), memory_bytes=48 * MIB, memory_swap_bytes=48 * MIB)
    container = runtime.create(f"gpuctl-oom-{number}", spec, marked(f"oom-{number}"))
    runtime.start(container)
    http.state(port)
    found = runtime.inspect(container)
    assert found is not None
    shim = psutil.Process(found.pid).parent()
    assert shim is not None
    shim.suspend()
    http.order(port, allocate=200 * MIB)
    return container, shim


@pytest.mark.usefixtures("bench")  # which clears up
def test_the_kernel_tells_of_an_oom_kill_before_the_engine(engine: PrivateEngine) -> None:
    """
    With the kernel's log at hand no death lacks its `oom`, and none waits for it.

    Of containers whose shims are late the engine alone tells the exit first, one time in three.
    """
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        pytest.skip("this user may not read /dev/kmsg")
    log = SystemKernelLog(journal=("false",))
    runtime = DockerRuntime(environment=engine.environment, starved=log.starved)
    with closing(log), closing(runtime):
        log.read()
        watcher = Watcher(runtime, time.time())
        starved = [starve(runtime, number) for number in range(6)]
        for _, shim in starved:
            shim.resume()
        for container, _ in starved:
            watcher.wait("die", container)
    telling = [event for event in watcher.events if event.action in ("oom", "die")]
    first = {container: _first(telling, container) for container, _ in starved}
    assert first == dict.fromkeys(first, "oom")


def _first(events: list[RuntimeEvent], container: str) -> str:
    return next(event.action for event in events if event.container == container)


def test_a_running_container_tells_what_it_holds_of_host_ram(bench: Bench) -> None:
    """The list's memory follows what the program allocates."""
    _, port = bench.started()
    http.order(port, allocate=64 * MIB)

    def look() -> bool:
        (found,) = bench.runtime.list()
        return found.memory_bytes is not None and 64 * MIB <= found.memory_bytes < 128 * MIB

    wait_for(look, "64 MiB in the reading")


def test_a_paused_container_is_seen(bench: Bench, engine: PrivateEngine) -> None:
    """An operator's pause is a state and an event of its own, not an end."""
    container, _ = bench.started()
    client = engine.client()
    client.pause(container)
    assert [found.state for found in bench.runtime.list()] == ["paused"]
    client.unpause(container)
    assert [found.state for found in bench.runtime.list()] == ["running"]
    client.close()


def test_a_profile_filters_the_list(bench: Bench, engine: PrivateEngine) -> None:
    """A runtime made for one profile lists no other's containers."""
    mine, _ = bench.create(profile="a")
    bench.create(profile="b")
    runtime = DockerRuntime(environment=engine.environment, profile="a")
    assert [found.id for found in runtime.list()] == [mine]
    runtime.close()


def test_a_restart_by_another_client_is_seen_through_its_events(
    bench: Bench, engine: PrivateEngine
) -> None:
    """The list's states look alike before and after; the event makes it look again."""
    container, _ = bench.started()
    watcher = Watcher(bench.runtime)
    (before,) = bench.runtime.list()
    client = engine.client()
    client.restart(container, timeout=1)
    client.close()
    watcher.wait("start", container)
    (after,) = bench.runtime.list()
    assert before.started_at is not None
    assert after.started_at is not None
    assert after.started_at > before.started_at
    assert after.pid != before.pid


def test_what_was_missed_is_told_again(bench: Bench) -> None:
    """A stream opened with *since* begins with the events from then on."""
    since = time.time()
    container, port = bench.started()
    http.order(port, exit=4)
    bench.ended(container)
    watcher = Watcher(bench.runtime, since)
    assert watcher.wait("die", container).exit_code == 4


def test_a_killed_container_tells_the_signal(bench: Bench, watched: Callable[[], Watcher]) -> None:
    """`docker kill` by anyone leaves a kill event with its signal before the die event."""
    watcher = watched()
    container, _ = bench.started()
    bench.runtime.signal(container, "SIGKILL")
    assert watcher.wait("kill", container).signal in ("9", "SIGKILL")
    assert watcher.wait("die", container).exit_code == 137


def test_an_image_is_found(bench: Bench) -> None:
    """The engine has the rig's image, and not one that nobody made."""
    assert bench.runtime.has_image(images.IMAGE)
    assert not bench.runtime.has_image("no/such:image")


def test_a_pull_that_fails_is_refused_in_the_engine_s_words(bench: Bench) -> None:
    """A registry that nothing listens for is named."""
    with pytest.raises(StartRefused, match=r"127\.0\.0\.1:9"):
        bench.runtime.pull("127.0.0.1:9/no/such:image", lambda line, ratio: None)


@pytest.mark.engine
def test_a_real_llama_cpp_serves_within_the_limits_of_a_small_host(bench: Bench) -> None:
    """llama.cpp with a real model in 1536m of RAM, without any capability, answers."""
    model = next(iter(sorted((images.REPOSITORY / ".cache" / "models").glob("*.gguf"))), None)
    if model is None:
        pytest.skip("no model in .cache/models: `make dev-setup` fetches it")
    port = http.free_port()
    spec = replace(
        simulator(port),
        entrypoint=(images.LLAMA_SERVER,),
        command=("--model", str(model), "--host", "0.0.0.0", "--port", "8080", "--ctx-size", "512"),
        memory_bytes=1536 * MIB,
        memory_swap_bytes=2048 * MIB,
    )
    container = bench.runtime.create("gpuctl-llama-0", spec, marked("llama-0"))
    bench.runtime.start(container)

    def healthy() -> bool:
        answered = http.get(port, "/health")
        return answered is not None and answered[0] == 200

    wait_for(healthy, "a loaded model", 60)
    bench.runtime.signal(container, "SIGTERM")
    assert bench.ended(container).oom_killed is False


@pytest.mark.parametrize(
    ("device", "mode", "may"),
    [
        pytest.param((1, 3), 0o666, True, id="one-that-its-cgroup-allows"),
        pytest.param((195, 255), 0o666, False, id="one-that-it-denies"),
        pytest.param((1, 3), 0, None, id="one-of-another-user"),
        pytest.param(None, 0, None, id="none"),
    ],
)
def test_a_container_is_asked_whether_it_may_open_gpus(
    bench: Bench, device: tuple[int, int] | None, mode: int, may: bool | None
) -> None:
    """It tries: the null device under the name of NVIDIA's opens, NVIDIA's own is denied."""
    container, _ = bench.started()
    if device is not None:
        node = f"/proc/{bench.read(container).pid}/root/dev/nvidiactl"
        os.mknod(node, stat.S_IFCHR | mode, os.makedev(*device))
        Path(node).chmod(mode)
    assert bench.runtime.may_open_gpus(container) is may


def test_a_container_without_a_shell_does_not_tell(bench: Bench, engine: PrivateEngine) -> None:
    """Nothing is taken for an answer that does not say what was denied."""
    container, _ = bench.started()
    with closing(engine.client()) as client:
        made = client.exec_create(container, ["/usr/bin/mv", "/bin", "/nobin"])
        assert client.exec_start(made["Id"]) == b""
    assert bench.runtime.may_open_gpus(container) is None


def test_a_shell_that_hangs_is_left_alone_until_it_ends(
    bench: Bench, engine: PrivateEngine
) -> None:
    """A FIFO lets nobody open it until it is written to: one shell waits, not one per question."""
    container, _ = bench.started()
    node = Path(f"/proc/{bench.read(container).pid}/root/dev/nvidiactl")
    os.mkfifo(node)
    for _ in range(2):
        with pytest.raises(RuntimeTimeout, match="does not end"):
            bench.runtime.may_open_gpus(container)
    with closing(engine.client()) as client:
        (left,) = client.inspect_container(container)["ExecIDs"]
        node.write_bytes(b"")
        wait_for(lambda: not client.exec_inspect(left)["Running"], "the end of the shell", 10)
    node.unlink()
    assert bench.runtime.may_open_gpus(container) is None


def test_one_that_does_not_run_or_is_not_ours_is_not_asked(bench: Bench) -> None:
    """There is no process to start in it."""
    created, _ = bench.create()
    with pytest.raises(RuntimeUnavailable):
        bench.runtime.may_open_gpus(created)
    with pytest.raises(ContainerMissing):
        bench.runtime.may_open_gpus(bench.foreign())
