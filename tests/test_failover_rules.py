"""What becomes of replicas by rule, on a whole daemon that plans."""

from __future__ import annotations

from dataclasses import replace

from tests.moving import Rack


def test_a_profile_that_has_more_than_scale_wants_is_told() -> None:
    """`up` with four of them runs the two that were asked for, and says how to have all."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), cards=4)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((0,), (1,), (2,), (3,))), reserve=())
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}
    told = rack.condition("chat")
    assert (told["reason"], told["evidence"]["command"]) == ("scaled_down", "gpuctl scale chat=4")
    rack.ask("scale", counts={"chat": 4})
    rack.pass_(12)
    assert rack.places() == {f"chat-{index}": (index,) for index in range(4)}
    assert rack.reasons() == set()
