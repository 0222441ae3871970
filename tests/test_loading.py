"""How far a start has come: whose logs are read, and what becomes of what they tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gpuctl.errors import RuntimeTimeout
from gpuctl.loading import LoadSource, fold
from gpuctl.model import ContainerReading, LoadReading
from gpuctl.observe import Latest
from tests import make
from tests.fakes import FakeClock, FakeRuntime
from tests.make import NOW


def reached(**stages: float) -> LoadReading:
    return LoadReading(replica="chat-0", container="c1", reached=stages)


@pytest.mark.parametrize(
    ("before", "stage", "after"),
    [
        pytest.param(None, "", reached(), id="nothing yet"),
        pytest.param(None, "weights_loaded", reached(weights_loaded=NOW), id="the first"),
        pytest.param(
            reached(weights_loaded=1.0),
            "graphs_ready",
            reached(weights_loaded=1.0, graphs_ready=NOW),
            id="the next",
        ),
        pytest.param(
            reached(weights_loaded=1.0), "weights_loaded", reached(weights_loaded=1.0), id="again"
        ),
        pytest.param(
            reached(graphs_ready=1.0), "weights_loaded", reached(graphs_ready=1.0), id="scrolled by"
        ),
        pytest.param(reached(weights_loaded=1.0), "", reached(weights_loaded=1.0), id="all gone"),
        pytest.param(
            LoadReading(replica="chat-0", container="c0", reached={"warmed_up": 1.0}),
            "weights_loaded",
            reached(weights_loaded=NOW),
            id="another container",
        ),
    ],
)
def test_a_stage_once_reached_stays(
    before: LoadReading | None, stage: str, after: LoadReading
) -> None:
    """Each is known with when it was first read of, and none is taken back."""
    assert fold(before, "chat-0", "c1", stage, NOW) == after


def test_the_furthest_stage() -> None:
    """What is shown is the last one reached, and nothing before the first."""
    assert reached().stage == ""
    assert reached(weights_loaded=1.0, graphs_ready=2.0).stage == "graphs_ready"


class Written(FakeRuntime):
    """A runtime whose containers write what `lines` says."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.read: list[str] = []
        self.lines: dict[str, tuple[str, ...]] = {}
        self.mute = ""  # a container whose log cannot be read

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        self.read.append(container)
        if container == self.mute:
            raise RuntimeTimeout("the engine does not answer")
        return self.lines.get(container, ())


def last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else ""


class Loading:
    """A source of stages, and what woke the loop."""

    def __init__(self) -> None:
        self.runtime, self.latest, self.woken = Written(), Latest(), list[str]()
        self.source = LoadSource(
            self.runtime, self.runtime.clock, self.latest, self.woken.append, {"llama.cpp": last}
        )

    def follow(self, *containers: ContainerReading, ready: str = "") -> None:
        running = {container.replica: container for container in containers}
        replicas = (make.replica("chat-0"), make.replica("chat-1"), OTHER)
        self.source.follow(make.plan(*replicas), running, {ready})


OTHER = make.replica("any-0", engine="container")


def test_only_what_loads_is_read() -> None:
    """Not what is ready, nor what does not run, nor an engine that tells no stages."""
    loading = Loading()
    loading.follow(make.container("chat-0", "c1"), make.container("chat-1", "c2"), ready="c2")
    loading.source.sample()
    loading.follow(make.container("chat-0", "c1", state="exited"), make.container("any-0", "c3"))
    loading.source.sample()
    assert loading.runtime.read == ["c1"]


def test_a_new_stage_wakes_the_loop() -> None:
    """Each stage is on the board at once; the same lines again tell nothing."""
    loading = Loading()
    loading.follow(make.container("chat-0", "c1"))
    loading.runtime.lines["c1"] = ("weights_loaded",)
    loading.source.sample()
    loading.source.sample()
    assert loading.latest.loads == {"chat-0": reached(weights_loaded=NOW)}
    assert loading.woken == ["stage chat-0"]


def test_what_is_ready_is_forgotten() -> None:
    """Its stages are in the event of its being ready; the board is for what loads."""
    loading = Loading()
    loading.follow(make.container("chat-0", "c1"))
    loading.runtime.lines["c1"] = ("weights_loaded",)
    loading.source.sample()
    loading.follow(make.container("chat-0", "c1"), ready="c1")
    assert loading.latest.loads == {}


def test_a_log_that_cannot_be_read_tells_nothing() -> None:
    """The others are read all the same."""
    loading = Loading()
    loading.runtime.mute = "c1"
    loading.runtime.lines["c2"] = ("weights_loaded",)
    loading.follow(make.container("chat-0", "c1"), make.container("chat-1", "c2"))
    loading.source.sample()
    assert list(loading.latest.loads) == ["chat-1"]
