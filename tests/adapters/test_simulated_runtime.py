"""The lives of simulated containers: starts, ends, output and events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.adapters.clock import SystemClock
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.errors import RuntimeUnavailable, StartRefused
from gpuctl.model import RuntimeEvent
from tests.adapters.runtime_contract import Watcher, marked
from tests.adapters.simulated_bench import CARD, HOST, HostFile, Stage, file, spec, stage

__all__ = ["file", "stage"]


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
    runtime = SimulatedHost(str(file.path), clock=SystemClock()).runtime
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
