"""The first thing asked of the runtime when a start begins, and what it finds there."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.act import act
from gpuctl.model import ContainerReading, Start
from gpuctl.orders import Order
from tests import make
from tests.fakes import FakeRuntime, FakeWorld


class Asked(FakeRuntime):
    """A runtime that also keeps what it was asked and not told to do."""

    def inspect(self, container: str) -> ContainerReading | None:
        self.calls.append(("inspect", container))
        return super().inspect(container)


REPLICA = make.replica(gpus=())
LABELS = {"gpuctl.replica": "chat-0", "gpuctl.profile": "test", "gpuctl.digest": "v1:a"}


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
        labels={**LABELS, "gpuctl.attempt": "a2"},
    )
    assert act(order, runtime, lambda _: None, lambda _: None).done
    return runtime


def test_the_dead_are_put_aside_unseen() -> None:
    """The first call renames the container that was there: an inspection would wait for Docker."""
    runtime = started("c1", make.container(state="exited", exit_code=1))
    assert [call[0] for call in runtime.calls[:3]] == ["rename", "inspect", "create"]
    assert runtime.running() == ["c8"]


def test_one_that_somebody_started_again_is_ended_first() -> None:
    """Never two of a replica: what runs after all is killed before the new one is made."""
    runtime = started("c1", make.container())
    steps = [call[0] for call in runtime.calls]
    assert steps.index("SIGKILL") < steps.index("create")
    assert runtime.running() == ["c8"]


def test_another_holder_of_the_name_is_put_aside_too() -> None:
    """What an earlier start left under the name makes way, though the history does not know it."""
    runtime = started("c1", make.container(id_="c2", state="created", attempt="a1"))
    assert runtime.containers["c2"].name == "gpuctl-chat-0.old-c2"
    assert runtime.running() == ["c8"]


def test_a_start_that_was_cut_off_finds_its_own_container() -> None:
    """Taken up again, it starts what it had created, and makes no second one."""
    own = replace(make.container(id_="c2", state="created"), attempt="a2")
    runtime = started("c1", own, resumed=True)
    assert list(runtime.containers) == ["c2"]
    assert runtime.running() == ["c2"]


def test_a_removal_by_another_client_is_left_to_end() -> None:
    """A container that is being removed is not renamed meanwhile: that would fail the removal."""
    runtime = Asked(FakeWorld().clock)
    runtime.containers = {"c1": make.container(state="removing")}

    def pause(_: float) -> None:
        runtime.containers.clear()

    order = Order(
        action=Start(replica="chat-0", reason="removed"),
        attempt="a2",
        replica=REPLICA,
        previous="c1",
        labels={**LABELS, "gpuctl.attempt": "a2"},
    )
    assert act(order, runtime, lambda _: None, pause).done
    steps = [call[0] for call in runtime.calls]
    assert steps[:2] == ["inspect", "inspect"]
    assert len(runtime.running()) == 1
