"""What becomes of replicas by rule, on a whole daemon that plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.model import GpuHealth, Xid
from tests.fakes import busy
from tests.moving import Rack

#: An engine that tells what it is working on.
LLAMA: dict[str, Any] = {"engine": "llama.cpp", "model": "/m.gguf"}


def asks(rack: Rack, index: int, action: str) -> None:
    """Have the driver ask for a recovery of a GPU."""
    at = rack.fakes.clock.seconds
    rack._change((index,), health=GpuHealth(recovery_action=action, boot_seconds=at))


def rests(rack: Rack) -> None:
    """Have the first replica's requests end."""
    rack.fakes.prober.answers[8081] = busy(tokens=2, running=0)


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


def test_a_gpu_to_be_drained_is_left_in_its_replica_s_own_time() -> None:
    """Its driver says that what runs there runs well: requests are let finish."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), **LLAMA)
    rack.works()
    asks(rack, 0, "drain_and_reset")
    rack.pass_(2)
    assert (rack.phase(), rack.actions()) == ("draining", ["start", "drain"])
    rests(rack)
    rack.pass_(12)
    assert (rack.places(), rack.tale("cordoned")) == (
        {"chat-0": (1,)},
        ["cordoned recovery_asked"],
    )
    assert rack.actions() == ["start", "drain", "terminate", "start"]


def test_a_gpu_to_be_reset_is_left_at_once() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), **LLAMA)
    rack.works()
    asks(rack, 0, "gpu_reset")
    rack.pass_(12)
    assert rack.actions() == ["start", "terminate", "start"]


def test_replicas_of_a_gpu_to_be_drained_go_one_after_the_other() -> None:
    """The second serves until the first does so elsewhere."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2, 3), **LLAMA)
    rack.works()
    for index in (0, 1):
        asks(rack, index, "drain_and_reset")
    rack.pass_(4)
    assert (rack.phase("chat-0"), rack.phase("chat-1")) == ("draining", "ready")
    rests(rack)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (2,), "chat-1": (3,)}


def test_a_gpu_that_fails_while_it_is_drained_is_left_at_once() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), **LLAMA)
    rack.works()
    asks(rack, 0, "drain_and_reset")
    rack.pass_(4)
    rack.lose(0)
    rack.pass_(8)
    assert rack.actions() == ["start", "drain", "terminate", "start"]
    assert rack.places() == {"chat-0": (1,)}
    assert rack.tale("moved") == ["moved recovery_asked", "moved gpu_lost"]


def test_what_has_failed_on_a_gpu_to_be_drained_is_not_drained() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fakes.runtime.die("c1", 1)
    asks(rack, 0, "drain_and_reset")
    rack.pass_(12)
    assert (rack.places(), rack.actions()) == ({"chat-0": (1,)}, ["start", "start"])


def test_cards_that_are_listed_one_by_one_cost_nothing() -> None:
    """Looked for four times a second, a driver that comes up is given two seconds for all."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    every = rack.fakes.gpus.readings
    rack.hide(0)
    rack.pass_(1.5, step=0.25)
    rack.fakes.gpus.readings = every
    rack.pass_(6)
    assert (rack.tale("moved", "cordoned"), rack.places()) == ([], {"chat-0": (0,)})
    rack.hide(0)
    rack.pass_(2.5, step=0.25)
    assert rack.tale("moved", "cordoned") == ["cordoned gpu_missing", "moved gpu_missing"]


def test_a_daemon_that_never_reads_the_gpus_lists_those_of_the_profile() -> None:
    """NVML hangs from the start: an operator still sees which there are, and may cordon one."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fakes.gpus.broken = "no answer in 10 s"
    rack.born()
    rack.pass_(1)
    told = rack.fakes.store.status["gpus"]
    assert [(gpu["index"], gpu["state"], gpu["at"]) for gpu in told] == [
        (0, "unknown", None),
        (1, "unknown", None),
    ]
    rack.ask("cordon", "1")


def unload(rack: Rack, code: int = 18) -> None:
    """Have NVML fail with a code of its own."""
    rack.fakes.gpus.broken, rack.fakes.gpus.code = "NVML: it does not work", code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(18, "driver_mismatch", id="mismatch"),
        pytest.param(9, "driver_not_loaded", id="not-loaded"),
        pytest.param(12, "driver_library_missing", id="no-library"),
    ],
)
def test_without_a_driver_what_has_ended_goes_to_the_cpu(code: int, reason: str) -> None:
    """No start would find a GPU: after a minute it serves from the CPU, and nothing is cordoned."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,), fallback="cpu")
    unload(rack, code)
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(55)
    assert (rack.row()["reason"], rack.tale("moved")) == ("driver_unusable", [])
    rack.pass_(15)
    assert (rack.places(), rack.phase()) == ({"chat-0": (), "chat-1": (1,)}, "degraded")
    assert rack.tale("moved", "cordoned") == [f"moved {reason}"]
    rack.fakes.gpus.broken = ""
    rack.pass_(20)
    assert (rack.places(), rack.phase()) == ({"chat-0": (0,), "chat-1": (1,)}, "ready")


def test_a_driver_that_is_replaced_within_a_minute_moves_nothing() -> None:
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu")
    unload(rack)
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(55)
    rack.fakes.gpus.broken = ""
    rack.pass_(20)
    assert (rack.tale("moved"), rack.places(), rack.phase()) == ([], {"chat-0": (0,)}, "ready")


def test_without_a_driver_and_a_fallback_it_waits() -> None:
    rack = Rack.with_gpus(gpus=(0,))
    unload(rack)
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(90)
    assert (rack.row()["reason"], rack.tale("moved")) == ("driver_unusable", [])


def test_without_a_driver_no_card_of_the_reserve_is_any_better() -> None:
    """What was last read of it was read by a driver that worked."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), fallback="cpu")
    unload(rack)
    rack.pass_(2)
    rack.ask("cordon", "0")
    rack.pass_(12)
    assert (rack.places(), rack.phase()) == ({"chat-0": (0,)}, "ready"), "what runs runs on"
    rack.fakes.runtime.die("c1", 1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": ()}
    rack.fakes.gpus.broken = ""
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


UNREAD = [
    pytest.param("NVML: no answer for 40 s", id="hung"),
    pytest.param("NVML: no permission", id="no-permission"),
]


@pytest.mark.parametrize("words", UNREAD)
def test_nothing_that_serves_moves_to_a_card_that_cannot_be_read(words: str) -> None:
    """It goes on where it is, and moves when the reserve is read as well again."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.fakes.gpus.broken = words
    rack.pass_(2)
    rack.ask("cordon", "0")
    rack.pass_(12)
    assert (rack.places(), rack.actions()) == ({"chat-0": (0,)}, ["start"])
    assert rack.condition("chat-0")["evidence"] == {
        "gpu": "GPU-0", "because": "gpu_cordoned", "runs": True, "unread": words,
    }  # fmt: skip
    rack.fakes.gpus.broken = ""
    rack.pass_(12)
    assert rack.places() == {"chat-0": (1,)}


def test_what_scale_asked_for_waits_for_a_card_that_can_be_read() -> None:
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(6)
    rack.ask("cordon", "1")
    rack.fakes.gpus.broken = "NVML: no answer for 40 s"
    rack.pass_(6)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}


def test_what_has_lost_its_card_goes_where_it_was_well_last() -> None:
    """Xid 79 silences NVML for a while: nothing that serves is put at risk by not waiting."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), fallback="cpu")
    at, boot_seconds = rack.fakes.clock.now(), rack.fakes.clock.boot_seconds()
    lost = Xid(number=79, gpu="GPU-0", source="kernel", at=at, boot_seconds=boot_seconds)
    rack.fakes.kernel_log.told = (lost,)
    rack.fakes.gpus.broken = "NVML: not asked since Xid 79 of GPU-0"
    rack.pass_(12)
    assert rack.tale("moved", "cordoned") == ["cordoned xid_79", "moved xid_79"]
    assert rack.places() == {"chat-0": (1,)}
