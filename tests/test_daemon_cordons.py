"""An operator's cordons on a whole daemon that plans: what leaves, what waits, what comes back."""

from __future__ import annotations

import pytest

from tests.moving import Rack, gpus_of, refused


def test_uncordon_brings_it_back() -> None:
    """Back on the bus it is not used again before an operator says so; then in its own time."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(12)
    rack.find(0)
    rack.pass_(30)
    assert rack.places() == {"chat-0": (1,)}
    assert rack.states() == ["cordoned", "reserve"]
    rack.ask("uncordon", "0")
    rack.pass_(20)
    assert (rack.places(), rack.phase()) == ({"chat-0": (0,)}, "ready")
    assert rack.tale("moved")[-1] == "moved moved_back"
    assert rack.reasons() == set()
    assert "drain" in rack.actions()[-4:], "what is well is drained first"


def test_an_operator_s_cordon_drains() -> None:
    """It moves in its own time, and is no failure."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("cordon", "GPU-0", note="new fan")
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (1,)}, "ready")
    assert rack.actions() == ["start", "drain", "terminate", "start"]
    assert rack.row()["restarts_24h"] == 0
    told = rack.condition("GPU-0")["evidence"]
    assert (told["by"], told["because"], told["command"]) == (
        "operator", "new fan", "gpuctl uncordon 0",
    )  # fmt: skip


def test_cordoned_with_nowhere_to_go_it_runs_on() -> None:
    """No place for it elsewhere is no reason to stop it; once it has ended it waits."""
    rack = Rack.with_gpus(gpus=(0,))
    rack.ask("cordon", "0")
    rack.pass_(30)
    assert (rack.phase(), rack.fakes.runtime.running()) == ("ready", ["c1"])
    assert rack.condition("chat-0")["reason"] == "no_gpu_left"
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(30)
    assert (rack.phase(), rack.row()["reason"]) == ("failed", "gpu_cordoned")
    rack.ask("uncordon", "0")
    rack.pass_(10)
    assert rack.phase() == "ready"


def test_cordoned_it_goes_to_the_cpu_only_when_it_has_ended() -> None:
    """What serves from a GPU is better off there than on the CPU."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu")
    rack.ask("cordon", "0")
    rack.pass_(30)
    assert rack.phase() == "ready"
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(12)
    assert rack.row()["on_cpu"] is True


def test_what_was_going_in_its_own_time_has_none_when_its_gpu_fails() -> None:
    """A drain that is under way is not waited for on a GPU that is lost meanwhile."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), engine="llama.cpp", model="/m.gguf")
    rack.works()
    rack.ask("cordon", "0")
    rack.pass_(4)
    assert rack.phase() == "draining"
    rack.lose(0)
    rack.pass_(8)
    assert rack.places() == {"chat-0": (1,)}


def test_on_its_way_back_it_has_no_time_when_the_gpu_it_is_on_fails() -> None:
    """A drain for the way home is not waited for either."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), engine="llama.cpp", model="/m.gguf")
    rack.ask("cordon", "0")
    rack.pass_(12)
    rack.works()
    rack.ask("uncordon", "0")
    rack.pass_(4)
    assert (rack.phase(), rack.row()["moved"]) == ("draining", "moved_back")
    rack.lose(1)
    rack.pass_(8)
    assert gpus_of(rack) == {"chat-0": ("GPU-0",)}


def test_a_cordon_of_a_gpu_that_is_gone_is_not_told_of() -> None:
    """It stands in the history, and holds should it come back."""
    rack = Rack.with_gpus(gpus=(0,), cards=2)
    rack.ask("cordon", "1")
    rack.pass_(2)
    assert ("GPU-1", "gpu_cordoned") in rack.reasons()
    rack.cards = rack.cards[:1]
    rack.hide(1)
    rack.ask("up")
    rack.pass_(2)
    assert rack.reasons() == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("7", "no GPU is known by '7'", id="index"),
        pytest.param("GPU-abc", "no GPU is known by 'GPU-abc'", id="uuid"),
        pytest.param("GPU-long", "'GPU-long' is the beginning of several", id="prefix"),
    ],
)
def test_a_gpu_that_is_not_there_cannot_be_cordoned(name: str, words: str) -> None:
    rack = Rack.with_gpus(gpus=(0,), uuids=("GPU-longer", "GPU-longest"))
    assert words in refused(rack, "cordon", name)


def test_a_gpu_is_known_by_the_beginning_of_its_uuid() -> None:
    rack = Rack.with_gpus(gpus=(0,), uuids=("GPU-abcd-1", "GPU-efgh-2"))
    rack.ask("cordon", "efgh")
    rack.pass_(2)
    assert rack.states() == ["ok", "cordoned"]


def test_a_cordon_with_room_in_reserve_never_says_that_no_gpu_is_left() -> None:
    """Places are judged by what moves in the same tick: alerts rest on it, and the command."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("cordon", "0")
    rack.pass_()
    assert rack.reasons() == {("GPU-0", "gpu_cordoned"), ("chat-0", "on_reserve")}
    rack.pass_(12)
    assert rack.tale("condition", "moved") == [
        "moved cordoned",
        "condition gpu_cordoned",
        "condition on_reserve",
    ]


def test_a_lost_gpu_without_a_reserve_leaves_none_at_once() -> None:
    """By what is read of it now, not by the tick before."""
    rack = Rack.with_gpus(gpus=(0,))
    rack.lose(0)
    rack.pass_()
    assert rack.reasons() == {("GPU-0", "gpu_lost"), ("chat-0", "no_gpu_left")}
