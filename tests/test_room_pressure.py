"""How full a card is decides whether another model goes there, on a whole daemon that plans."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.model import GpuProcess
from tests.moving import GIB, Rack, refused


def fill(rack: Rack, index: int, gib: float, *holders: GpuProcess) -> None:
    """Have so much of a card in use, all of it by *holders* where there are any."""
    fields: dict[str, Any] = {"processes": holders} if holders else {}
    rack._change((index,), memory_used_bytes=int(gib * GIB), **fields)


def container(rack: Rack, replica: str, gib: float) -> GpuProcess:
    """A process of a replica's container."""
    return GpuProcess(
        pid=1, used_bytes=int(gib * GIB), container=str(rack.row(replica)["container"])
    )


@pytest.mark.parametrize(
    ("used", "need", "placed"),
    [
        pytest.param(2.9, 2.5, True, id="low-takes-any"),
        pytest.param(4.0, 1.7, True, id="normal-below-full"),
        pytest.param(4.0, 1.75, False, id="normal-not-into-full"),
        pytest.param(4.5, 0.5, True, id="high-below-critical"),
        pytest.param(4.5, 0.7, False, id="high-not-into-critical"),
        pytest.param(5.2, 0.1, False, id="critical-nothing"),
        pytest.param(5.2, None, False, id="critical-nothing-of-unknown-size"),
        pytest.param(4.5, None, True, id="high-of-unknown-size"),
    ],
)
def test_the_level_decides_where_a_failed_gpu_s_replica_goes(
    used: float, need: float | None, placed: bool
) -> None:
    """A card of the reserve that something fills takes no model that its level does not allow."""
    fields: dict[str, Any] = {} if need is None else {"vram_bytes": int(need * GIB)}
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), **fields)
    fill(rack, 1, used)
    rack.lose(0)
    rack.pass_(12)
    assert (rack.places() == {"chat-0": (1,)}) is placed


def test_the_next_card_is_taken_instead() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    fill(rack, 1, 5.5)
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,)}


def test_what_is_refused_by_its_level_is_told_with_the_figures() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), vram_bytes=GIB)
    fill(rack, 1, 4.5)
    fill(rack, 2, 5.9)
    rack.pass_(1)
    assert refused(rack, "scale", counts={"chat": 2}) == (
        "no room for chat-1: it takes one GPU with 1.0 GiB free, neither unused nor in reserve\n"
        "GPU 1: high pressure, 4.5 of 6.0 GiB in use: 0.6 GiB for another model\n"
        "GPU 2: full pressure, 5.9 of 6.0 GiB in use: 0.0 GiB for another model"
    )


def test_a_card_that_would_be_no_room_anyway_has_no_level_told() -> None:
    """Only what the level alone keeps from there is told by it."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), vram_bytes=4 * GIB, small=(1,))
    fill(rack, 1, 2.9)
    rack.pass_(1)
    assert "pressure" not in refused(rack, "scale", counts={"chat": 2})


def test_what_leaves_is_not_counted_against_a_card() -> None:
    """Scaled down and up again by another workload: the one that drains makes room."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("embed",), vram_bytes=2 * GIB)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    fill(rack, 1, 5.2, container(rack, "chat-1", 5.2))
    rack.pass_(1)
    rack.ask("scale", counts={"chat": 1})
    rack.ask("scale", counts={"embed": 2})
    rack.pass_(30)
    assert rack.places() == {"chat-0": (0,), "embed-0": (0,), "embed-1": (1,)}


def test_what_stays_is_counted_against_a_card() -> None:
    """Another model that is at home there fills the card as a stranger would."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("embed",), vram_bytes=2 * GIB)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    fill(rack, 1, 5.2, container(rack, "chat-1", 5.2))
    rack.pass_(1)
    assert "critical pressure" in refused(rack, "scale", counts={"embed": 2})


def test_what_leaves_and_does_not_tell_its_vram_decides_nothing() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("embed",), vram_bytes=2 * GIB)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack._change((1,), memory_used_bytes=int(5.2 * GIB), processes=None)
    rack.pass_(1)
    rack.ask("scale", counts={"chat": 1})
    rack.ask("scale", counts={"embed": 2})
    rack.pass_(30)
    assert rack.places() == {"chat-0": (0,), "embed-0": (0,), "embed-1": (1,)}


def test_what_shared_its_card_is_no_other_model() -> None:
    """The profile planned them with each other, however full that makes the next card."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("embed",))
    rack.ask("stop", "embed-0")
    rack.lose(0)
    rack.pass_(12)
    fill(rack, 1, 5.2, container(rack, "chat-0", 5.2))
    rack.ask("run", "embed-0")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,), "embed-0": (1,)}


def test_a_group_s_own_vram_is_not_counted_against_it() -> None:
    """With one of its GPUs lost it is loaded anew on the other, which it fills itself."""
    rack = Rack.with_gpus(gpus=((0, 1),), reserve=(2,))
    fill(rack, 0, 5.8, container(rack, "chat-0", 5.8))
    rack.lose(1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2, 0)}


def test_a_full_card_holds_no_restart_of_what_is_planned_there() -> None:
    rack = Rack.with_gpus(gpus=(0,), vram_bytes=5 * GIB)
    fill(rack, 0, 5.9)
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (0,)}, "ready")


def test_a_full_card_keeps_nothing_from_going_home() -> None:
    """It was planned there."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("cordon", "0")
    rack.pass_(12)
    fill(rack, 0, 5.9)
    rack.ask("uncordon", "0")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,)}
