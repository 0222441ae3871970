"""Starts that hang, come back late, or are no longer wanted: never two of one replica."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.act import Outcome
from gpuctl.daemon import Daemon
from gpuctl.errors import StartRefused
from tests import make
from tests.fakes import FakeClock, FakeRuntime
from tests.stage import FAULTS, Killed, Stage, intend
from tests.test_daemon_properties import CALLS, Host, left_open

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0


class HangingRuntime(FakeRuntime):
    """An engine where one call hangs, and takes effect when it is released."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.hangs = ""
        self.quiet = threading.Event()  # nothing moves: the job has ended, or hangs
        self.released = threading.Event()

    def _call(self, *call: str) -> None:
        if call[0] == self.hangs:
            self.hangs = ""
            self.quiet.set()
            assert self.released.wait(PATIENCE_SECONDS)
        super()._call(*call)


class Lane:
    """Workers that do a job at once, unless it hangs."""

    def __init__(
        self,
        runtime: HangingRuntime,
        done: Callable[[str, Outcome], None],
        clock: Callable[[], float],
    ) -> None:
        self._runtime, self._done, self._clock = runtime, done, clock
        self._open: dict[str, float] = {}  # until when

    def submit(self, key: str, work: Callable[[], Outcome], seconds: float) -> None:
        def run() -> None:
            answer = work()
            if self._open.pop(key, None) is not None:
                self._done(key, answer)
            self._runtime.quiet.set()

        self._open[key] = self._clock() + seconds
        self._runtime.quiet.clear()
        threading.Thread(target=run, daemon=True).start()
        assert self._runtime.quiet.wait(PATIENCE_SECONDS)

    def overdue(self) -> tuple[str, ...]:
        late = tuple(key for key, until in self._open.items() if self._clock() > until)
        for key in late:
            del self._open[key]
        return late

    def close(self) -> None:
        self._open.clear()


class HangingStage(Stage):
    """A Stage whose engine can hang."""

    runtime: HangingRuntime

    def born(self) -> Daemon:
        self.runtime = HangingRuntime(self.fakes.clock)
        self.fakes.runtime = self.runtime
        self.fakes.world = replace(self.fakes.world, runtime=self.runtime)
        self.daemon = Daemon(
            self.fakes.world,
            self.load,
            hire=lambda _name, _count, done, clock: Lane(self.runtime, done, clock),  # type: ignore[arg-type, return-value]
        )
        return self.daemon

    def release(self) -> None:
        """Let the call that hangs take effect, and its thread go on until it ends."""
        self.runtime.quiet.clear()
        self.runtime.released.set()
        assert self.runtime.quiet.wait(PATIENCE_SECONDS)


@pytest.fixture
def hanging() -> HangingStage:
    return HangingStage()


@pytest.mark.parametrize("call", ["rename", "create", "start"])
@pytest.mark.parametrize("seconds", [62, 75], ids=["before-the-next", "after-the-next"])
def test_a_start_that_comes_back_late_makes_no_second_one(
    hanging: HangingStage, call: str, seconds: float
) -> None:
    """Given up after 60 s, its call takes effect, and what runs by then goes on alone."""
    hanging.up()
    hanging.runtime.die("c1", 1)
    hanging.runtime.hangs = call
    hanging.pass_(seconds)
    assert "undone action_timeout" in hanging.tale("undone")
    running = hanging.runtime.running()
    hanging.release()
    for _ in range(10):
        hanging.pass_(1)
        running = running or hanging.runtime.running()
        assert hanging.runtime.running() in ([], running)
    assert hanging.phase() == "ready"
    assert list(hanging.runtime.containers) == hanging.runtime.running()
    assert hanging.tale("failed") == ["failed exit_1"]


def test_one_that_starts_late_aside_is_ended_at_once(hanging: HangingStage) -> None:
    """What could not be removed and runs after all is not the current one: it is killed."""
    hanging.up()
    hanging.runtime.die("c1", 1)
    hanging.runtime.hangs = "start"
    hanging.runtime.irremovable.add("c2")
    hanging.pass_(105)
    (current,) = hanging.runtime.running()
    hanging.release()
    assert hanging.runtime.running() == ["c2", current]
    hanging.pass_(1)
    assert hanging.runtime.running() == [current]


def test_a_start_that_hangs_with_its_engine_is_not_held_against_it(hanging: HangingStage) -> None:
    """An engine that lists nothing either for half a minute is away, though no call has failed."""
    hanging.runtime.hangs = "start"
    hanging.pass_()
    for _ in range(31):
        hanging.fakes.clock.advance(2)
        hanging.daemon.step()
    (undone,) = (e for e in hanging.fakes.store.stored if e.kind == "undone")
    assert (undone.reason, "failures" in undone.evidence) == ("action_timeout", False)
    hanging.release()
    hanging.pass_(3)
    assert (hanging.phase(), hanging.row()["restarts_1h"]) == ("ready", 0)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("seconds", range(1, 14))
def test_what_an_engine_does_too_late_makes_no_second_one(call: str, seconds: int) -> None:
    """A step of a start that was not answered takes effect at any moment: never two run."""
    host = Host()
    host.up()
    host.late, host.late_seconds = call, seconds
    host.fakes.runtime.die("c1", 1)
    for _ in range(30):
        host.pass_()
        host.fakes.clock.advance(1)
        host.arrive()
        assert len(host.fakes.runtime.running()) <= 1
    host.pass_(70)
    assert host.phase() == "ready"
    assert list(host.fakes.runtime.containers) == host.fakes.runtime.running()


@pytest.mark.parametrize("verb", ["stop", "down"])
@pytest.mark.parametrize("step", FAULTS)
def test_a_start_that_nobody_wants_any_more_is_not_taken_up_again(step: str, verb: str) -> None:
    """The daemon dies in a start, and a stop comes before the next one looks: nothing starts."""
    stage = Stage()
    stage.up()
    stage.fakes.runtime.die("c1", 1)
    stage.fault = step
    with pytest.raises(Killed):
        stage.pass_()
    stage.born()
    intend(stage, verb)
    runs = stage.fakes.runtime.running()
    asked = len(stage.fakes.runtime.calls)
    stage.pass_(5)
    started = [c for c in stage.fakes.runtime.calls[asked:] if c[0] in ("create", "start")]
    assert started == [("start", id_) for id_ in runs]  # it has happened: that is made sure of
    assert (stage.phase(), stage.fakes.runtime.running()) == ("stopped", [])
    assert left_open(stage) == set()
    assert verb == "stop" or stage.fakes.runtime.containers == {}
    intend(stage, "up")
    stage.pass_(5)
    assert (stage.phase(), len(stage.fakes.runtime.running())) == ("ready", 1)


def test_a_start_of_what_left_the_profile_is_not_taken_up_again() -> None:
    """What the daemon before was starting has no place any more: it goes, and its attempt ends."""
    stage = Stage()
    stage.fault = "start.created"
    with pytest.raises(Killed):
        stage.pass_()
    stage.plan = make.plan(make.replica("embed-0", gpus=()))
    stage.born()
    stage.pass_(5)
    assert [c.replica for c in stage.fakes.runtime.containers.values()] == ["embed-0"]
    assert stage.tale("undone") == ["undone not_in_profile"]
    assert left_open(stage) == set()


@pytest.mark.parametrize("step", ["stop.terminate", "stop.terminate.asked", "stop.remove"])
def test_a_stop_that_is_taken_up_again_ends_the_attempt_it_was(step: str) -> None:
    """The journal tells the end of every attempt that it tells the beginning of."""
    stage = Stage()
    stage.up()
    intend(stage, "down")
    stage.fault = step
    with pytest.raises(Killed):
        stage.pass_(5)
    stage.born()
    stage.pass_(5)
    assert (stage.phase(), stage.fakes.runtime.containers) == ("stopped", {})
    assert left_open(stage) == set()


class PullingStage(HangingStage):
    """Replicas of two images, the first of which is not here, and whose pull takes long."""

    def __init__(self, **settings: Any) -> None:
        spec = make.replica().spec
        absent = [
            make.replica(f"chat-{i}", gpus=(), spec=replace(spec, image="absent:1")) for i in (0, 1)
        ]
        present = [make.replica(f"embed-{i}", gpus=()) for i in range(3)]
        watchdog = replace(make.SETTINGS, loads_at_once=1, **settings)
        super().__init__(make.plan(*absent, *present, watchdog=watchdog))
        self.runtime.hangs = "pull"

    def phases(self) -> dict[str, str]:
        return {row["name"]: row["phase"] for row in self.fakes.store.status["replicas"]}


def test_a_process_has_no_image_to_fetch() -> None:
    """A replica without an image is started at once."""
    stage = Stage(make.plan(make.replica(gpus=(), spec=replace(make.replica().spec, image=""))))
    stage.fakes.runtime.images.add("")
    stage.up()
    assert stage.tale("attempt", "done", "ready") == ["attempt wanted", "done wanted", "ready"]


def test_a_pull_holds_up_nothing_else() -> None:
    """While an image is fetched, everything that needs none of it starts, a load at a time."""
    pulling = PullingStage()
    pulling.pass_(30)
    assert [call for call in pulling.runtime.calls if call[0] == "pull"] == []  # it hangs
    others = {f"embed-{i}": "ready" for i in range(3)}
    assert pulling.phases() == {"chat-0": "pending", "chat-1": "pending", **others}
    assert pulling.row("chat-0")["reason"] == "fetching_image"
    pulling.release()
    pulling.pass_(30)
    assert pulling.phases() == {"chat-0": "ready", "chat-1": "ready", **others}
    assert [call for call in pulling.runtime.calls if call[0] == "pull"] == [("pull", "absent:1")]
    assert pulling.tale("failed") == []
    assert left_open(pulling) == set()


def test_a_pull_may_take_an_hour() -> None:
    """It is no action of a minute, and no load that must become ready."""
    pulling = PullingStage()
    pulling.pass_(3500, step=5)
    pulling.release()
    pulling.pass_(30)
    assert set(pulling.phases().values()) == {"ready"}
    assert "undone action_timeout" not in pulling.tale("undone")


@pytest.mark.parametrize("verb", ["stop", "down"])
def test_what_is_not_wanted_any_more_after_its_pull_is_not_started(verb: str) -> None:
    """A stop does not wait for the pull, and no container is made when it has ended."""
    pulling = PullingStage()
    pulling.pass_(30)
    intend(pulling, verb, "chat")
    pulling.pass_(1)
    assert (pulling.phases()["chat-0"], left_open(pulling)) == ("stopped", set())
    pulling.release()
    pulling.pass_(30)
    assert {c.replica for c in pulling.runtime.containers.values()} == {
        "embed-0",
        "embed-1",
        "embed-2",
    }


def test_a_pull_ends_with_its_daemon_and_is_begun_again() -> None:
    """The next daemon closes what the one before was fetching, and fetches what is wanted."""
    stage = Stage()
    stage.fakes.runtime.images.clear()
    stage.fault = "fetch.begun"
    with pytest.raises(Killed):
        stage.pass_(5)
    stage.born()
    stage.pass_(5)
    assert (stage.phase(), left_open(stage)) == ("ready", set())


def test_a_pull_that_fails_is_tried_again_in_its_turn() -> None:
    """It counts as a failure, told in the engine's words, and waits for its back-off."""
    stage = Stage()
    stage.fakes.runtime.images.clear()
    pull = stage.fakes.runtime.pull

    def refused(image: str, progress: object) -> None:
        raise StartRefused(f"cannot fetch the image {image}: no such host")

    stage.fakes.runtime.pull = refused  # type: ignore[method-assign]
    stage.pass_(30)
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", "start_refused")
    refusals = [e for e in stage.fakes.store.stored if "failures" in e.evidence]
    assert [e.evidence["failures"] for e in refusals] == [1, 2, 3]
    stage.fakes.runtime.pull = pull  # type: ignore[method-assign]
    stage.pass_(30)
    assert stage.phase() == "ready"


def test_an_image_that_went_with_its_container_is_fetched_again() -> None:
    """Somebody removes a replica with its image: one failure, and it serves again."""
    stage = Stage()
    stage.up()
    stage.fakes.runtime.containers.clear()
    stage.fakes.runtime.images.clear()
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.tale("failed") == ["failed removed"]
