"""The Docker runtime when the engine hangs, dies, loses answers or is asked from many threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuctl.adapters.docker import DockerRuntime
from gpuctl.errors import (
    RuntimeTimeout,
    RuntimeUnavailable,
    StartRefused,
)
from tests.adapters.docker_bench import bench, bench_on, own_engine, simulator
from tests.adapters.runtime_contract import (
    Bench,
    Watcher,
    marked,
)
from tests.rig import http
from tests.rig.dockerd import PrivateEngine
from tests.rig.socket_proxy import Rule, SocketProxy

__all__ = ["bench", "own_engine"]

pytestmark = pytest.mark.docker


def test_an_unchanged_container_is_inspected_once(engine: PrivateEngine, bench: Bench) -> None:
    """A quiet tick costs the engine one request, whatever runs; a change costs one more."""
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment)
        port = http.free_port()
        container = runtime.create("gpuctl-quiet-0", simulator(port), marked("quiet-0"))
        runtime.start(container)
        http.state(port)
        runtime.list()
        proxy.clear()
        runtime.list()
        runtime.list()
        quiet = [call.path.partition("?")[0] for call in proxy.calls]
        runtime.rename(container, "gpuctl-quiet-1")
        proxy.clear()
        (found,) = runtime.list()
        changed = [call.path.partition("?")[0] for call in proxy.calls]
        runtime.close()
    assert quiet == ["/containers/json", "/containers/json"]
    assert changed == ["/containers/json", f"/containers/{container}/json"]
    assert found.name == "gpuctl-quiet-1"


def test_a_lost_answer_is_resolved_by_the_name(engine: PrivateEngine, bench: Bench) -> None:
    """A create whose answer was lost may have happened: the name finds the container."""
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment)
        proxy.add(Rule(match="POST /containers/create", do="drop_reply", times=1))
        spec = simulator(http.free_port())
        with pytest.raises(RuntimeTimeout):
            runtime.create("gpuctl-lost-0", spec, marked("lost-0", attempt="12"))
        found = runtime.inspect("gpuctl-lost-0")
        runtime.close()
    assert found is not None
    assert (found.state, found.attempt) == ("created", "12")


def test_a_removal_under_way_is_no_error(engine: PrivateEngine, bench: Bench) -> None:
    """Two removals at once: the second is told that the first works on it, which is enough."""
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment)
        container = runtime.create("gpuctl-rm-0", simulator(http.free_port()), marked("rm-0"))
        words = {"message": f"removal of container {container} is already in progress"}
        proxy.add(Rule(match="DELETE /containers/", do="answer", status=409, body=words))
        runtime.remove(container)
        proxy.clear()
        proxy.add(Rule(match="DELETE /containers/", do="answer", status=500))
        with pytest.raises(RuntimeUnavailable, match="the rig says no"):
            runtime.remove(container)
        runtime.close()


def test_an_engine_that_hangs_is_a_timeout(own_engine: PrivateEngine) -> None:
    """A frozen engine costs the deadline and no more, and recovers."""
    runtime = DockerRuntime(environment=own_engine.environment, timeout_seconds=1)
    assert runtime.list() == ()
    own_engine.freeze()
    began = time.monotonic()
    with pytest.raises(RuntimeTimeout):
        runtime.list()
    took = time.monotonic() - began
    own_engine.thaw()
    assert runtime.list() == ()
    runtime.close()
    assert took < 3


@pytest.mark.parametrize("end", [PrivateEngine.stop, PrivateEngine.kill9])
def test_the_end_of_an_engine_ends_the_stream_and_spares_the_container(
    own_engine: PrivateEngine, end: Callable[[PrivateEngine], None]
) -> None:
    """Under live-restore, dockerd's stop or SIGKILL ends events and lists, and no process."""
    bench = bench_on(own_engine)
    watcher = Watcher(bench.runtime, time.time())
    container, _ = bench.started()
    watcher.wait("start", container)
    before = bench.read(container)
    end(own_engine)
    watcher.thread.join(5)
    assert not watcher.thread.is_alive()
    with pytest.raises(RuntimeUnavailable):
        bench.runtime.list()
    assert before.pid is not None
    assert Path(f"/proc/{before.pid}").exists()
    own_engine.start()
    after = bench.read(container)
    bench.runtime.close()
    assert (after.pid, after.started_at, after.state) == (before.pid, before.started_at, "running")


def test_a_cut_stream_ends_and_the_next_one_tells_what_was_missed(
    engine: PrivateEngine, bench: Bench
) -> None:
    """Losing the stream loses no event: the next one begins where it broke off."""
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment)
        watcher = Watcher(runtime, time.time())
        container, port = bench.started()
        since = watcher.wait("start", container).at
        proxy.cut_streams()
        watcher.thread.join(5)
        assert not watcher.thread.is_alive()
        http.order(port, exit=5)
        bench.ended(container)
        assert Watcher(runtime, since).wait("die", container).exit_code == 5
        runtime.close()


def test_a_late_answer_is_waited_for(engine: PrivateEngine, bench: Bench) -> None:
    """An engine that takes a while, within the deadline, is only slow."""
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment, timeout_seconds=5)
        proxy.add(Rule(match="GET /containers/json", do="delay", seconds=0.3, times=1))
        began = time.monotonic()
        assert runtime.list() == ()
        took = time.monotonic() - began
        runtime.close()
    assert 0.3 <= took < 5


def test_a_stream_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    """No engine at all: every call names it, and the hint says where to look."""
    runtime = DockerRuntime(environment={"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    for call in (runtime.list, lambda: next(runtime.watch(None)), runtime.identity):
        with pytest.raises(RuntimeUnavailable, match="no Docker Engine listens") as failed:
            call()
        assert type(failed.value) is RuntimeUnavailable
        assert "gpuctl doctor" in failed.value.hint


def test_threads_do_not_share_a_client(bench: Bench) -> None:
    """Eight threads list at once, and descriptors do not grow with the number of lists."""
    for _ in range(3):
        bench.create()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert len(bench.runtime.list()) == 3
                bench.runtime.inspect("gpuctl-none")
        except (AssertionError, RuntimeUnavailable) as error:
            failures.append(error)

    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    # One connection each at most, and those of ended threads go with them.
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def test_a_pull_tells_how_far_it_is_and_what_went_wrong(
    engine: PrivateEngine, bench: Bench
) -> None:
    """Progress reaches the caller; an error in the middle of it is the engine's own words."""
    told: list[tuple[str, float | None]] = []
    with SocketProxy(engine.socket) as proxy:
        runtime = DockerRuntime(environment=proxy.environment)
        half = {"current": 1, "total": 2}
        layer = {"status": "Downloading", "id": "a1b2", "progressDetail": half}
        for body in (layer, {"error": "manifest unknown"}):
            rule = Rule(match="POST /images/create", do="answer", status=200, body=body, times=1)
            proxy.add(rule)
        runtime.pull("some/image:tag", lambda line, ratio: told.append((line, ratio)))
        with pytest.raises(StartRefused, match="some/image:tag: manifest unknown"):
            runtime.pull("some/image:tag", lambda line, ratio: None)
        runtime.close()
    assert told == [("a1b2: Downloading", 0.5)]


def test_a_name_will_do_where_the_id_is_not_known(engine: PrivateEngine, bench: Bench) -> None:
    """A fresh client acts on a container by its name alone, after looking whose it is."""
    container, replica = bench.create()
    fresh = bench.open()
    fresh.rename(f"gpuctl-{replica}", "gpuctl-by-name")
    fresh.close()
    assert bench.read(container).name == "gpuctl-by-name"
