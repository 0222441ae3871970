"""What was moved, scaled or failed over belongs to the profile that it was asked for under."""

from __future__ import annotations

from dataclasses import replace

from tests.moving import Rack


def test_what_was_scaled_is_forgotten_with_its_profile() -> None:
    """A workload of the same name in another profile is as that one has it; so is the first."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(chat, name="other")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}
    assert rack.tale("moved") == ["moved scaled", "moved other_profile"]
    assert rack.reasons() == set()
    rack.reworked(chat)
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}


def test_a_move_is_forgotten_with_its_profile() -> None:
    """Of the cards that the other one names, those that are well are used."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(2,), cards=3, lost=(0,))
    assert rack.places() == {"chat-0": (2,)}
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((1,),)), name="other")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (1,)}
    assert rack.tale("moved")[-1:] == ["moved other_profile"]
    assert [d for d in rack.reasons() if d[0] == "chat-0"] == []


def test_a_gpu_that_failed_is_left_under_any_profile() -> None:
    """The cordon is the GPU's own: the move is made anew."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), lost=(0,))
    (chat,) = rack.profile.workloads
    rack.reworked(chat, name="other")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (1,)}
    assert rack.tale("moved") == ["moved gpu_lost", "moved other_profile", "moved gpu_lost"]
    known = rack.daemon.journal.history.assignments.moved["chat-0"]
    assert (known.profile, known.gpus) == ("other", ("GPU-1",))


def test_an_emergency_of_one_workload_is_forgotten_with_its_profile() -> None:
    """One of the whole host goes on until it is ended."""
    rack = Rack.with_gpus(gpus=(0,), fallback="cpu")
    rack.ask("failover", "chat", to="cpu")
    rack.pass_(12)
    assert rack.places() == {"chat-0": ()}
    (chat,) = rack.profile.workloads
    rack.reworked(chat, name="other")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}
    rack.ask("failover", to="cpu")
    rack.pass_(12)
    rack.reworked(chat)
    rack.pass_(20)
    assert rack.places() == {"chat-0": ()}
    rack.ask("failover", to="gpu")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}


def test_a_daemon_that_is_born_under_another_profile_forgets_as_well() -> None:
    """By what the events say, whoever was there when it was applied."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.profile = replace(rack.profile, host=replace(rack.profile.host, name="other"))
    rack.born()
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}
    assert rack.daemon.journal.history.assignments.counts == {}
