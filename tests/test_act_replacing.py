"""A start in the place of what is there: what becomes of every older container."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.act import act
from gpuctl.model import ContainerReading, Start
from gpuctl.orders import Order
from tests import make
from tests.act_bench import LABELS_OF_A2, REPLICA
from tests.fakes import FakeRuntime, FakeWorld


class Asked(FakeRuntime):
    """A runtime that also keeps what it was asked and not told to do."""

    def inspect(self, container: str) -> ContainerReading | None:
        self.calls.append(("inspect", container))
        return super().inspect(container)


def started(previous: str, *containers: ContainerReading, resumed: bool = False) -> Asked:
    """Carry out a start on a runtime with these containers."""
    runtime = Asked(FakeWorld().clock)
    runtime._ids = iter(("c8", "c9"))  # type: ignore[assignment]
    runtime.containers = {each.id: each for each in containers}
    order = Order(
        action=Start(replica="chat-0", reason="killed", attempt="a2" if resumed else ""),
        attempt="a2",
        replica=REPLICA,
        previous=previous,
        resumed=resumed,
        labels=LABELS_OF_A2,
    )
    assert act(order, runtime, lambda _: None, lambda _: None).done
    return runtime


def test_the_new_one_is_made_before_the_dead_one_is_looked_at() -> None:
    """Docker cleans up after a death meanwhile, and keeps every call on the dead one waiting."""
    runtime = started("c1", make.container(state="exited", exit_code=1))
    assert [call[:2] for call in runtime.calls[:5]] == [
        ("create", "gpuctl-chat-0.next"),
        ("rename", "c1"),
        ("inspect", "c1"),
        ("rename", "c8"),
        ("start", "c8"),
    ]
    assert runtime.containers["c8"].name == "gpuctl-chat-0"
    assert runtime.running() == ["c8"]


def test_one_that_somebody_started_again_is_ended_first() -> None:
    """Never two of a replica: what runs after all is killed before the new one is started."""
    runtime = started("c1", make.container())
    steps = [call[0] for call in runtime.calls]
    assert steps.index("SIGKILL") < steps.index("start")
    assert runtime.running() == ["c8"]


def test_another_holder_of_the_name_is_put_aside_too() -> None:
    """What an earlier start left under the name makes way, though the history does not know it."""
    runtime = started("c1", make.container(id_="c2", state="exited", attempt="a1"))
    assert runtime.containers["c2"].name == "gpuctl-chat-0.old-c2"
    assert runtime.running() == ["c8"]


def test_what_another_attempt_never_started_is_removed() -> None:
    """Its start may still be on its way to the engine: it must find nothing there."""
    runtime = started("c1", make.container(id_="c2", state="created", attempt="a1"))
    assert list(runtime.containers) == ["c8"]
    assert [call[0] for call in runtime.calls if call[-1] == "c2"] == ["inspect", "remove"]


def test_what_another_attempt_started_late_is_ended_first() -> None:
    """A start that took effect after it was given up does not run beside the next one."""
    runtime = started("c1", make.container(id_="c2", attempt="a1"))
    assert runtime.containers["c2"].state == "exited"
    assert runtime.running() == ["c8"]


def test_a_start_that_was_cut_off_finds_its_own_container() -> None:
    """Taken up again, it starts what it had created, and makes no second one."""
    own = replace(make.container(id_="c2", state="created"), attempt="a2")
    runtime = started("c1", own, resumed=True)
    assert list(runtime.containers) == ["c2"]
    assert runtime.running() == ["c2"]


def test_a_start_that_was_cut_off_before_the_kill_goes_on_there() -> None:
    """Its own new container and the old one put aside are found, and the old one ends."""
    old = replace(make.container(), name="gpuctl-chat-0.old-c1")
    own = make.container(id_="c2", state="created", attempt="a2")
    runtime = started("c1", old, replace(own, name="gpuctl-chat-0.next"), resumed=True)
    assert "c1" not in runtime.containers
    assert runtime.running() == ["c2"]
    assert runtime.containers["c2"].name == "gpuctl-chat-0"


def test_what_another_attempt_made_and_never_named_is_replaced() -> None:
    """A start that was given up left it there: labels tell whose it is."""
    left = make.container(id_="c2", state="created", attempt="a1")
    runtime = started("", replace(left, name="gpuctl-chat-0.next"))
    assert list(runtime.containers) == runtime.running() == ["c8"]


def test_a_removal_by_another_client_is_left_to_end() -> None:
    """A container that is being removed is not renamed meanwhile: that would fail the removal."""
    runtime = Asked(FakeWorld().clock)
    runtime.containers = {"c9": make.container(id_="c9", state="removing")}

    def pause(_: float) -> None:
        runtime.containers.pop("c9", None)

    order = Order(
        action=Start(replica="chat-0", reason="removed"),
        attempt="a2",
        replica=REPLICA,
        previous="c9",
        labels=LABELS_OF_A2,
    )
    assert act(order, runtime, lambda _: None, pause).done
    steps = [call[0] for call in runtime.calls]
    assert steps[:3] == ["create", "inspect", "inspect"]
    assert len(runtime.running()) == 1
