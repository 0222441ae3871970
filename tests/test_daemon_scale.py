"""`scale` on a whole daemon that plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.model import Variant
from tests.moving import Rack, refused
from tests.stage import Killed


def test_scale_takes_what_the_profile_uses_for_nothing_first() -> None:
    """Before the reserve, which is for failures."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), cards=3)
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,), "chat-2": (1,)}
    assert [rack.row(f"chat-{n}")["port"] for n in range(3)] == [8081, 8082, 8083]
    assert rack.phase("chat-2") == "ready"
    assert rack.reasons() == set()


def test_what_scale_adds_may_be_of_another_shape() -> None:
    """One on two GPUs and one more on a single one, of another image."""
    small = Variant(image="engine:big", gpus=1, environment={"SIZE": "1"})
    rack = Rack.with_gpus(gpus=((0, 1),), reserve=(2,), scaled=small)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    spec = rack.spec("chat-1")
    assert rack.places() == {"chat-0": (0, 1), "chat-1": (2,)}
    assert (spec.image, spec.environment["SIZE"]) == ("engine:big", "1")


def test_scaled_down_it_drains_and_is_gone() -> None:
    """The highest go, the profile's own with them; scaled up again they are back."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,))
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(2)
    assert "drain" in rack.actions()
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}
    assert [c.name for c in rack.fakes.runtime.containers.values()] == ["gpuctl-chat-0"]
    assert (rack.phase("chat-1"), rack.row("chat-1")["reason"]) == ("stopped", "scaled")
    assert [row["name"] for row in rack.fakes.store.status["replicas"]] == ["chat-0", "chat-1"]
    assert rack.states() == ["ok", "ok", "reserve"]
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}


def test_scaled_up_while_it_goes_it_stays() -> None:
    """What drains only because there were too many serves on when there are not."""
    rack = Rack.with_gpus(gpus=(0, 1), engine="llama.cpp", model="/m.gguf")
    rack.works()
    rack.fakes.prober.answers[8082] = rack.fakes.prober.answers[8081]
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(3)
    assert rack.phase("chat-1") == "draining"
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(3)
    assert (rack.row("chat-1")["container"], rack.actions().count("terminate")) == ("c2", 0)


def test_what_was_stopped_runs_again_when_it_is_counted() -> None:
    """It is scaled away and back: the `stop` before that is over, and so is its failure."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.fakes.runtime.die(str(rack.row("chat-1")["container"]), 1)
    rack.pass_(12)
    rack.ask("stop", "chat-1")
    rack.pass_(20)
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,)}
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    assert (rack.phase("chat-1"), rack.places()["chat-1"]) == ("ready", (1,))
    assert rack.row("chat-1")["restarts_1h"] == 1


def test_what_was_stopped_of_the_profile_runs_again_when_it_is_counted() -> None:
    """`scale` to what the profile has is a command like any other, and tells so."""
    rack = Rack.with_gpus(gpus=(0, 1))
    rack.ask("stop", "chat")
    rack.pass_(20)
    assert rack.places() == {}
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}
    assert rack.story("chat-1")[0].startswith("chat-1: `scale` started it; ready after")


def test_what_was_scaled_moves_like_any_other() -> None:
    """It has no place of its own to return to: where it is, is its own."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.lose(1)
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,)}
    rack.find(1)
    rack.ask("uncordon", "1")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,)}


def test_replicas_on_the_cpu_need_no_room() -> None:
    """A workload without GPUs is scaled by a number."""
    rack = Rack.with_gpus(gpus=(), others=(), cards=1, fallback="none")
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (), "chat-1": ()}
    assert rack.row("chat-1")["on_cpu"] is False
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(12)
    assert rack.places() == {"chat-0": ()}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        pytest.param({"chat": 3}, "no room for chat-2: it takes one GPU", id="no-room"),
        pytest.param({"chat": 0}, "chat=0: not 1 or more", id="none"),
        pytest.param({"chat": True}, "chat=True: not 1 or more", id="no-number"),
        pytest.param({"embed": 2}, "no workload is named 'embed'", id="unknown"),
        pytest.param({}, "scale to how many?", id="nothing"),
        pytest.param({"chat": 2, "other": 9}, "no room for other-1", id="one-of-two"),
        pytest.param(
            {"far": 2}, "other-0 would listen on 8181, which far-1 has already", id="port-taken"
        ),
        pytest.param({"two": 2}, "would take more than its max_gpus (1)", id="max-gpus"),
    ],
)
def test_what_cannot_be_is_refused_at_once(counts: dict[str, int], words: str) -> None:
    """With the reason, before anything is recorded."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("other",))
    chat, other = rack.profile.workloads
    if "far" in counts:
        rack.reworked(replace(chat, name="far", port=8180), other)
    if "two" in counts:
        rack.reworked(replace(chat, name="two", max_gpus=1), other)
    assert words in refused(rack, "scale", counts=counts)


def test_without_a_reserve_the_hint_says_so() -> None:
    rack = Rack.with_gpus(gpus=(0,))
    with pytest.raises(GpuctlError) as caught:
        rack.ask("scale", counts={"chat": 2})
    assert "host.reserve" in caught.value.hint


def test_what_is_asked_for_together_is_counted_together() -> None:
    """Two workloads do not get the same GPU."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), others=("other",))
    rack.ask("scale", counts={"chat": 2, "other": 2})
    rack.pass_(12)
    places = rack.places()
    assert (places["chat-1"], places["other-1"]) == ((1,), (2,))


def test_up_keeps_what_was_scaled_and_says_what_it_cannot() -> None:
    """A profile without room for it is no reason to forget it."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.ask("up")
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}
    rack.ask("cordon", "1")
    rack.pass_(12)
    assert rack.condition("chat-1")["reason"] == "no_gpu_left"


def test_a_workload_that_is_gone_takes_what_was_scaled_with_it() -> None:
    """Its containers are removed and its places forgotten."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("other",))
    rack.ask("scale", counts={"other": 2})
    rack.pass_(12)
    rack.reworked(rack.profile.workloads[0])
    rack.pass_(20)
    assert [c.name for c in rack.fakes.runtime.containers.values()] == ["gpuctl-chat-0"]
    assert rack.daemon.journal.history.assignments.moved == {}


def test_a_place_that_the_profile_gives_to_another_is_left() -> None:
    """It moves on, in its own time."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(chat, replace(chat, name="new", port=9000, gpus=((1,),)), reserve=(2,))
    rack.pass_(30)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,), "new-0": (1,)}


def test_a_plan_that_is_refused_keeps_the_one_before() -> None:
    """What moved and cannot be planned any more is told, and nothing is torn down."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(chat, replace(chat, name="new", port=8082, gpus=((0,),)))
    rack.pass_(12)
    assert ("host", "plan_refused") in rack.reasons()
    assert rack.phase("chat-0") == "ready"


def test_scaled_to_what_the_profile_has_it_follows_the_profile() -> None:
    """Nothing is kept of it: a profile with more replicas has them."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), cards=3)
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((0,), (2,))))
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (2,)}


def test_a_workload_that_comes_back_is_as_its_profile_has_it() -> None:
    """What was scaled is forgotten with the workload."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,), others=("other",))
    rack.ask("scale", counts={"other": 2})
    rack.pass_(12)
    chat, other = rack.profile.workloads
    rack.reworked(chat)
    rack.pass_(12)
    rack.reworked(chat, other)
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,), "other-0": (0,)}


def test_a_place_that_the_profile_takes_away_is_made_up_for() -> None:
    """As many as were asked for, on what the profile uses for nothing."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,))
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((0,),)))
    rack.pass_(40)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,), "chat-2": (2,)}


def test_where_there_is_no_room_fewer_run_and_it_is_told() -> None:
    """The condition names how many were asked for."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,))
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((0,),)), replace(chat, name="new", port=9000, gpus=((1,),)))
    rack.pass_(40)
    assert rack.places() == {"chat-0": (0,), "chat-2": (2,), "new-0": (1,)}
    assert rack.condition("chat")["evidence"] == {"wanted": 3, "placed": 2}


def test_more_than_max_gpus_are_not_made_up_for() -> None:
    """A profile that allows fewer has the last word."""
    rack = Rack.with_gpus(gpus=(0, 1), reserve=(2,))
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, gpus=((0,),), max_gpus=2))
    rack.pass_(40)
    assert rack.places() == {"chat-0": (0,), "chat-2": (2,)}


def test_what_max_gpus_does_not_allow_any_more_is_drained_and_gone() -> None:
    """A profile that allows fewer takes what `scale` added, and says so; one with more gives it."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2), max_gpus=3)
    rack.ask("scale", counts={"chat": 3})
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, max_gpus=2))
    rack.pass_(20)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,)}
    assert rack.tale("attempt", "moved", subject="chat-2")[-4:] == [
        "attempt max_gpus", "attempt max_gpus", "attempt max_gpus", "moved max_gpus",
    ]  # fmt: skip
    assert rack.actions()[-2:] == ["drain", "terminate"]
    assert rack.condition("chat")["evidence"] == {"wanted": 3, "placed": 2, "max_gpus": 2}
    told = "chat-2: an operator asked for `up`; taken away, because max_gpus"
    assert rack.story("chat-2")[0] == told
    rack.reworked(replace(chat, max_gpus=3))
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,), "chat-1": (1,), "chat-2": (2,)}


def test_a_start_under_way_is_withdrawn_when_it_is_not_wanted_any_more() -> None:
    """A daemon that finds a start cut off begins none for a replica that is scaled away."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.ask("scale", counts={"chat": 2})
    rack.fault = "start.created"
    with pytest.raises(Killed):
        rack.pass_(12)
    rack.born()
    rack.ask("scale", counts={"chat": 1})
    rack.pass_(12)
    assert rack.places() == {"chat-0": (0,)}
    assert rack.tale("undone") == ["undone scaled"]


def test_the_shipped_profile_of_eight_a100_scales_its_model() -> None:
    """One instance over two cards, and a second one on one card of the reserve."""
    rack = Rack.of_profile("a100x8", memory_total_bytes=80 * 2**30)
    rack.ask("scale", counts={"llm": 2, "whisper": 2})
    rack.pass_(12)
    assert rack.places() == {
        "whisper-0": (0,), "whisper-1": (6,), "embedding-0": (1,), "llm-0": (2, 3),
        "llm-1": (5,), "ocr-0": (4,),
    }  # fmt: skip


def test_what_is_added_is_spread_over_the_reserve() -> None:
    """Three fit on one card, and each has one of its own while there are as many."""
    rack = Rack.of_profile("a100x8", memory_total_bytes=80 * 2**30)
    rack.ask("scale", counts={"whisper": 2, "embedding": 2, "ocr": 2})
    rack.pass_(12)
    added = {name: place for name, place in rack.places().items() if name.endswith("-1")}
    assert added == {"whisper-1": (5,), "embedding-1": (6,), "ocr-1": (7,)}
