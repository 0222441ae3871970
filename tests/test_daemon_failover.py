"""A whole daemon, its planner included, on a host whose GPUs fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import Variant
from tests import make
from tests.moving import Rack, gpus_of
from tests.stage import Killed


def test_a_lost_gpu_s_replica_serves_from_the_reserve() -> None:
    """It is stopped where it was and started elsewhere, and the GPU it left is cordoned."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2, 3))
    rack.lose(1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,)}
    assert (rack.phase("chat-1"), rack.row("chat-1")["moved"]) == ("ready", "gpu_lost")
    assert rack.tale("cordoned", "moved") == ["cordoned gpu_lost", "moved gpu_lost"]
    assert rack.reasons() == {
        ("GPU-1", "gpu_lost"), ("GPU-1", "gpu_cordoned"), ("chat-1", "on_reserve"),
    }  # fmt: skip
    assert rack.states() == ["ok", "lost", "reserve", "reserve"]


def test_a_failure_does_not_drain() -> None:
    """On a GPU that is gone there is nothing to finish: no drain, and the short grace."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(6)
    assert rack.places() == {"chat-0": (1,)}
    actions = [e.evidence.get("action") for e in rack.fakes.store.stored if e.kind == "attempt"]
    assert actions == ["start", "terminate", "start"]


def test_two_lost_and_one_reserve() -> None:
    """The first gets it; the other waits, and says for what."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,))
    rack.lose(0, 1)
    rack.fakes.runtime.die("c2", 1)
    rack.pass_(12)
    assert rack.places()["chat-0"] == (2,)
    assert (rack.phase("chat-1"), rack.row("chat-1")["reason"]) == ("failed", "gpu_avoided")
    assert ("chat-1", "no_gpu_left") in rack.reasons()
    assert rack.tale("cordoned") == ["cordoned gpu_lost"], "what nobody left is not cordoned"


def test_a_group_moves_as_a_whole() -> None:
    """With one of its GPUs lost it goes to two of the reserve; only the lost one is cordoned."""
    rack = Rack.with_gpus(gpus=((0, 1),), reserve=(2, 3, 4))
    rack.lose(1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2, 3)}
    assert [e.subject for e in rack.fakes.store.stored if e.kind == "cordoned"] == ["GPU-1"]


def test_a_group_takes_its_own_with_it_where_the_reserve_is_short() -> None:
    """One of the reserve beside the one that is still well is a whole group as well."""
    rack = Rack.with_gpus(gpus=((0, 1),), reserve=(2,))
    rack.lose(1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2, 0)}


def test_a_group_does_not_move_in_part() -> None:
    """Two lost and one in reserve: it stays, and waits."""
    rack = Rack.with_gpus(gpus=((0, 1),), reserve=(2,))
    rack.lose(0, 1)
    rack.pass_(12)
    assert rack.tale("moved", "cordoned") == []
    assert ("chat-0", "no_gpu_left") in rack.reasons()


def test_without_a_reserve_it_goes_to_the_cpu() -> None:
    """Loudly: in its phase, its condition, the Status; and its container has no GPU."""
    small = Variant(image="engine:cpu", parallel=1)
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu", on_cpu=small, parallel=4)
    rack.lose(0)
    rack.pass_(12)
    spec = rack.spec("chat-0")
    assert (spec.gpus, spec.image) == ((), "engine:cpu")
    assert spec.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert (rack.phase(), rack.row()["reason"], rack.row()["on_cpu"]) == (
        "degraded",
        "on_cpu",
        True,
    )
    assert rack.row()["gpus"] == []
    assert ("chat-0", "on_cpu") in rack.reasons()


def test_an_image_of_one_s_own_is_told_that_it_has_no_gpu() -> None:
    """An engine that gpuctl does not know is told in the words that most of them understand."""
    rack = Rack.with_gpus(
        gpus=(0,), engine="container", fallback="cpu", environment={"DEVICE": "cuda"}
    )
    rack.lose(0)
    rack.pass_(12)
    told = rack.spec("chat-0").environment
    assert (told["CUDA_VISIBLE_DEVICES"], told["DEVICE"]) == ("", "cpu")


def test_from_the_cpu_it_goes_to_the_reserve_once_there_is_one() -> None:
    """A reserve GPU that was lost and is back takes over from the CPU."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), fallback="cpu", lost=(1,))
    rack.lose(0)
    rack.pass_(12)
    assert rack.row()["on_cpu"] is True
    rack.find(1)
    rack.pass_(20)
    assert (rack.places(), rack.row()["on_cpu"]) == ({"chat-0": (1,)}, False)


def test_an_old_container_that_will_not_die_is_left_behind() -> None:
    """After SIGKILL it is cut from its network and put aside, and the new one starts elsewhere."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fakes.runtime.immortal.add("c1")
    rack.lose(0)
    rack.pass_(30)
    assert rack.places() == {"chat-0": (1,)}
    assert ("disconnect", "c1") in rack.fakes.runtime.calls
    assert rack.fakes.runtime.running() == ["c1", "c2"]
    assert rack.fakes.runtime.containers["c1"].name != "gpuctl-chat-0"
    rack.find(0)
    rack.ask("uncordon", "0")
    rack.pass_(60)
    assert rack.row()["reason"] == "old_container_runs", "never two of one replica on one GPU"


def test_on_the_host_s_network_it_keeps_its_port() -> None:
    """What cannot be cut from its network is waited for, whatever GPU there would be."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), network="host")
    rack.fakes.runtime.immortal.add("c1")
    rack.lose(0)
    rack.pass_(60)
    assert rack.fakes.runtime.running() == ["c1"]


def test_neighbours_move_together() -> None:
    """What shared a card of unknown use may share one of the same size again."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("embed",))
    rack.lose(0)
    rack.pass_(20)
    assert rack.places() == {"chat-0": (1,), "embed-0": (1,)}


def test_strangers_do_not_share_what_is_not_known() -> None:
    """Two that were on different cards get different cards."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2, 3))
    rack.lose(0, 1)
    rack.pass_(20)
    assert rack.places() == {"chat-0": (2,), "chat-1": (3,)}


def test_a_card_that_is_too_small_is_passed_over() -> None:
    """It takes what the profile says of a card, and a smaller one has not that much."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), vram_bytes=5 * 2**30, small=(1,))
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,)}


def test_heat_moves_nothing() -> None:
    """A card near its shutdown gets nothing new, and keeps what it has."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.heat(0)
    rack.pass_(30)
    assert rack.places() == {"chat-0": (0,)}
    assert rack.tale("moved", "cordoned") == []


def test_a_card_that_is_not_listed_is_looked_for_twice() -> None:
    """A driver that has just come up may list its cards one by one."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.hide(0)
    rack.pass_(0)
    assert rack.tale("moved") == []
    rack.pass_(6, step=3)
    assert rack.tale("moved") == ["moved gpu_missing"]


def test_without_docker_nothing_moves() -> None:
    """What cannot be read is not acted on."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fakes.runtime.unreachable = True
    rack.lose(0)
    rack.pass_(20)
    assert rack.tale("moved", "cordoned") == []


def test_in_observe_mode_nothing_moves() -> None:
    """What would be moved is said, and the journal is as it was."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.profile = replace(rack.profile, watchdog=replace(make.SETTINGS, mode="observe"))
    rack.ask("up")
    rack.lose(0)
    rack.pass_(20)
    assert (rack.tale("moved", "cordoned"), gpus_of(rack)) == ([], {"chat-0": ("GPU-0",)})
    assert rack.row()["reason"] == "observe_only: moved gpu_lost"


def test_what_is_stopped_does_not_take_a_reserve() -> None:
    """It moves when it is wanted again."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("stop", "chat-0")
    rack.lose(0)
    rack.pass_(20)
    assert rack.tale("moved") == []
    rack.ask("run", "chat-0")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


def lost(rack: Rack) -> None:
    rack.lose(0)


def cordoned(rack: Rack) -> None:
    rack.ask("cordon", "0")


def to_cpu(rack: Rack) -> None:
    rack.ask("failover", "", to="cpu")


def scaled(rack: Rack) -> None:
    rack.ask("scale", counts={"chat": 2})


@pytest.mark.parametrize("seconds", range(0, 14, 2))
@pytest.mark.parametrize(
    ("happens", "places"),
    [
        pytest.param(lost, {"chat-0": (1,)}, id="lost"),
        pytest.param(cordoned, {"chat-0": (1,)}, id="cordoned"),
        pytest.param(to_cpu, {"chat-0": ()}, id="failover-cpu"),
        pytest.param(scaled, {"chat-0": (0,), "chat-1": (1,)}, id="scaled"),
    ],
)
def test_a_new_daemon_goes_on_where_the_old_one_was(
    happens: Any, places: dict[str, tuple[int, ...]], seconds: int
) -> None:
    """Whenever it is replaced, the end is the same, and nothing is started twice."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), fallback="cpu")
    happens(rack)
    rack.pass_(seconds)
    rack.born()
    rack.pass_(40)
    assert rack.places() == places
    assert len(rack.fakes.runtime.running()) == len(places)
    assert [call[0] for call in rack.fakes.runtime.calls].count("create") == 2
    assert gpus_of(rack) == {name: tuple(f"GPU-{i}" for i in at) for name, at in places.items()}


def test_a_start_under_way_to_a_gpu_that_is_left_is_withdrawn() -> None:
    """A daemon that finds it cut off begins another one, elsewhere."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fault = "start.named"
    rack.fakes.runtime.die("c1", 1)
    with pytest.raises(Killed):
        rack.pass_(12)
    rack.born()
    rack.lose(0)
    rack.pass_(20)
    assert gpus_of(rack) == {"chat-0": ("GPU-1",)}
    assert rack.tale("undone") == ["undone moved"]
