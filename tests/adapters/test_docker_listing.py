"""The list inspects what changed and nothing else; no engine needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from gpuctl.adapters.docker.listing import Listing
from gpuctl.model import RuntimeEvent
from tests.adapters.test_docker_translation import ID, inspected


class FakeEngine:
    """Answers list and inspection, and counts the inspections."""

    def __init__(self) -> None:
        self.rows = [{"Id": ID, "State": "running", "Names": ["/gpuctl-chat-0"]}]
        self.inspections = 0
        self.gone = False

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return self.rows

    def inspect_container(self, container: str) -> dict[str, Any]:
        self.inspections += 1
        if self.gone:
            raise docker.errors.NotFound("gone")
        return inspected(Pid=0)


def test_a_running_container_is_inspected_again_after_a_minute() -> None:
    """Without events, a restart behind our back is seen a minute later at the latest."""
    engine: Any = FakeEngine()
    clock = SimpleNamespace(now=0.0)
    listing = Listing(("gpuctl.replica",), lambda: clock.now)
    inspections = []
    for clock.now in (0.0, 5.0, 59.0, 61.0, 66.0):
        listing.read(engine)
        inspections.append(engine.inspections)
    assert inspections == [1, 1, 1, 2, 2]


def test_what_has_ended_is_inspected_once() -> None:
    """An exited container does not change until an event says so."""
    engine: Any = FakeEngine()
    clock = SimpleNamespace(now=0.0)
    listing = Listing(("gpuctl.replica",), lambda: clock.now)
    listing.read(engine)
    engine.rows[0]["State"] = "exited"
    engine.inspect_container = lambda _: _counted(engine, Status="exited")
    for clock.now in (5.0, 100.0, 200.0):
        listing.read(engine)
    assert engine.inspections == 2
    listing.changed(ID)
    listing.read(engine)
    assert engine.inspections == 3


def _counted(engine: FakeEngine, **state: object) -> dict[str, Any]:
    engine.inspections += 1
    return inspected(Pid=0, **state)


def test_a_container_that_vanishes_between_list_and_inspection_is_left_out() -> None:
    """The race with a removal is not an error."""
    engine: Any = FakeEngine()
    engine.gone = True
    assert Listing(("gpuctl.replica",), lambda: 0.0).read(engine) == ()


def test_what_is_gone_is_forgotten() -> None:
    """An id that is listed no more is not kept as ours."""
    engine: Any = FakeEngine()
    listing = Listing(("gpuctl.replica",), lambda: 0.0)
    listing.read(engine)
    assert listing.knows(ID)
    engine.rows = []
    assert listing.read(engine) == ()
    assert not listing.knows(ID)


def heard(*actions: str, **state: object) -> tuple[bool, bool]:
    """Return `oom_killed` and `signalled` of a container that the stream told this of."""
    engine: Any = FakeEngine()
    engine.inspect_container = lambda _: inspected(Pid=0, **state)
    listing = Listing(("gpuctl.replica",), lambda: 0.0)
    for action in actions:
        listing.hear(RuntimeEvent(at=1.0, action=action, container=ID, replica="chat-0"))
    (found,) = listing.read(engine)
    assert found == listing.inspected(engine.inspect_container(ID), 0.0)
    return found.oom_killed, found.signalled


@pytest.mark.parametrize(
    ("actions", "state", "told"),
    [
        pytest.param(["die", "oom"], {"ExitCode": 137}, (True, False), id="told-after-the-death"),
        pytest.param(["oom", "die"], {"ExitCode": 137}, (True, False), id="told-before-it"),
        pytest.param(
            ["oom", "start", "die"], {"ExitCode": 137}, (False, False), id="of-a-life-ago"
        ),
        pytest.param(["oom", "die"], {"ExitCode": 1}, (False, False), id="survived-it"),
        pytest.param(["oom"], {"Status": "running"}, (False, False), id="still-runs"),
        pytest.param(["kill", "die"], {"ExitCode": 137}, (False, True), id="a-client-killed-it"),
        pytest.param(["kill", "start"], {"Status": "running"}, (False, False), id="started-again"),
        pytest.param(
            [], {"ExitCode": 137, "OOMKilled": True}, (True, False), id="the-engine-knows"
        ),
    ],
)
def test_what_the_stream_told_completes_an_inspection(
    actions: list[str], state: dict[str, object], told: tuple[bool, bool]
) -> None:
    """An `oom` that comes after the `die` never reaches State.OOMKilled, and a kill no field."""
    assert heard(*actions, **{"Status": "exited", **state}) == told


@pytest.mark.parametrize(
    ("actions", "code", "told"),
    [
        pytest.param(["die"], 137, ["oom", "die"], id="nobody-told"),
        pytest.param(["oom", "die"], 137, ["oom", "die"], id="the-engine-told"),
        pytest.param(["kill", "die"], 137, ["kill", "die"], id="a-client-killed-it"),
        pytest.param(["die"], 1, ["die"], id="ended-otherwise"),
        pytest.param(["kill", "start", "die"], 137, ["kill", "start", "oom", "die"], id="anew"),
    ],
)
def test_an_oom_kill_of_which_the_engine_said_nothing(
    actions: list[str], code: int, told: list[str]
) -> None:
    """What the kernel says of a container's limit comes before its death, as the engine's would."""
    listing = Listing(("gpuctl.replica",), lambda: 0.0, starved=[ID].__contains__)
    events = [
        RuntimeEvent(
            at=1.0,
            action=action,
            container=ID,
            replica="chat-0",
            exit_code=code if action == "die" else None,
        )
        for action in actions
    ]
    heard = [each for event in events for each in listing.heard(event)]
    assert [each.action for each in heard] == told
    assert all(each.exit_code is None for each in heard if each.action == "oom")
    dead = listing.inspected(inspected(Pid=0, Status="exited", ExitCode=code), 0.0)
    assert dead.oom_killed == ("oom" in told)


def test_a_death_that_the_kernel_does_not_explain() -> None:
    """It is passed on as it is."""
    listing = Listing(("gpuctl.replica",), lambda: 0.0)
    event = RuntimeEvent(at=1.0, action="die", container=ID, replica="chat-0", exit_code=137)
    assert listing.heard(event) == (event,)


def test_what_the_stream_told_of_the_gone_is_forgotten() -> None:
    """What is listed no more leaves nothing behind."""
    engine: Any = FakeEngine()
    listing = Listing(("gpuctl.replica",), lambda: 0.0)
    for action in ("oom", "kill"):
        listing.hear(RuntimeEvent(at=1.0, action=action, container=ID, replica="chat-0"))
    engine.rows = []
    listing.read(engine)
    dead = listing.inspected(inspected(Pid=0, Status="exited", ExitCode=137), 0.0)
    assert (dead.oom_killed, dead.signalled) == (False, False)
