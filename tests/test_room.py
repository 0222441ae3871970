"""Where a replica that leaves its GPU may go, on a whole daemon that plans."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.model import GpuProcess
from tests import make
from tests.moving import GIB, Rack


def test_it_does_not_go_where_it_could_not_start() -> None:
    """A card of the reserve near its shutdown takes nothing new: the next one does."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.heat(1)
    rack.pass_(3)
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,)}
    assert rack.phase() == "ready"


def test_it_does_not_go_home_to_a_card_near_its_shutdown() -> None:
    """It serves on from the reserve until its own may be started on."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(12)
    rack.find(0)
    rack.heat(0)
    rack.pass_(3)
    rack.ask("uncordon", "0")
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (1,)}, "ready")
    rack.cool(0)
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (0,)}, "ready")


def test_scale_passes_over_a_card_near_its_shutdown() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.heat(1)
    rack.pass_(3)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"vram_bytes": 5 * GIB}, id="known"),
        pytest.param({}, id="not-known"),
    ],
)
def test_a_card_that_a_stranger_fills_is_passed_over(fields: dict[str, Any]) -> None:
    """What counts is who holds its VRAM now, not who did when the profile was applied."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), **fields)
    rack.crowd(1, GpuProcess(pid=999, used_bytes=4 * GIB, name="miner"))
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,)}


def test_a_stranger_who_is_on_every_card_is_no_obstacle() -> None:
    """It shared its own card with as much."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    for index in (0, 1):
        rack.crowd(index, GpuProcess(pid=900 + index, used_bytes=GIB, name="Xorg"))
    rack.pass_(3)
    rack.ask("cordon", "0")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


def test_where_processes_are_not_told_what_was_found_at_first_counts() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), vram_bytes=5 * GIB)
    rack.crowd(1)
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


def test_what_filled_its_own_card_may_fill_another_of_its_size() -> None:
    """It ran with less to spare than the headroom: an empty card of that size is no worse."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), vram_bytes=6 * GIB - 1, small=(1,))
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,)}


def test_replicas_share_no_reserve_while_a_card_of_it_is_empty() -> None:
    """Each would fit beside the other: the emptiest comes first, then the lowest index."""
    rack = Rack.with_gpus(gpus=(0, 1, 2), reserve=(3, 4), vram_bytes=2 * GIB)
    rack.lose(0, 1, 2)
    rack.pass_(20)
    assert rack.places() == {"chat-0": (3,), "chat-1": (4,), "chat-2": (3,)}


def test_what_the_driver_keeps_of_a_card_is_no_room() -> None:
    """It would fit beside nothing but the headroom, were all of the card to be had."""
    profile = Rack.with_gpus(gpus=(0,), reserve=(1,), vram_bytes=5 * GIB).profile
    own = make.gpu(0, memory_total_bytes=8 * GIB)
    kept = make.gpu(1, memory_total_bytes=6 * GIB, memory_reserved_bytes=GIB)
    rack = Rack(profile, (own, kept))
    rack.pass_(6)
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,)}


def test_what_was_added_has_no_card_of_its_own_to_go_by() -> None:
    """More than a card has to give is no room for what `scale` adds."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), vram_bytes=6 * GIB - 1)
    rack.ask("scale", counts={"chat": 1})
    with pytest.raises(GpuctlError, match="no room for chat-1"):
        rack.ask("scale", counts={"chat": 2})


def test_cards_that_do_not_tell_their_size_are_taken_for_equal() -> None:
    profile = Rack.with_gpus(gpus=(0,), reserve=(1,)).profile
    cards = (make.gpu(0, memory_total_bytes=None), make.gpu(1, memory_total_bytes=None))
    rack = Rack(profile, cards)
    rack.pass_(6)
    rack.lose(0)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


def test_what_is_stopped_gives_its_place_back() -> None:
    """The reserve is for who is wanted; run again, it finds itself a place anew."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,), vram_bytes=4 * GIB)
    rack.lose(0)
    rack.pass_(12)
    rack.ask("stop", "chat-0")
    rack.pass_(12)
    rack.lose(1)
    rack.pass_(12)
    assert (rack.places(), rack.phase("chat-1")) == ({"chat-1": (2,)}, "ready")
    rack.ask("run", "chat-0")
    rack.pass_(12)
    assert (rack.places(), rack.row()["reason"]) == (
        {"chat-0": (0,), "chat-1": (2,)},
        "gpu_avoided",
    )


def test_down_and_up_find_the_reserve_again() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.lose(0)
    rack.pass_(12)
    rack.ask("down")
    rack.pass_(40)
    rack.ask("up")
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (1,)}, "ready")
    assert rack.actions() == ["start", "terminate", "start", "drain", "terminate", "start"]
