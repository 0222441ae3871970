"""Which replicas may take a request now, and which of them takes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from gpuctl.gateway import places, routing
from gpuctl.gateway.replica import Replica
from tests.gateway.desk import COOLDOWN_SECONDS, replica, route

NOW = 100.0
HALF_OPEN = NOW + COOLDOWN_SECONDS


def opened(name: str, **known: Any) -> Replica:
    """A replica whose gate was opened at NOW."""
    made = replica(name, **known)
    made.gate.failed(made.gate.begin(NOW), NOW, refused=True)
    return made


def names(found: Sequence[Replica | places.Pressed]) -> list[str]:
    return [place.name for place in found]


@pytest.mark.parametrize(
    ("one", "now", "has_place"),
    [
        pytest.param(replica("chat-0"), NOW, True, id="idle"),
        pytest.param(replica("chat-0", in_flight=1, slots=2), NOW, True, id="busy"),
        pytest.param(replica("chat-0", in_flight=2, slots=2), NOW, False, id="full"),
        pytest.param(replica("chat-0", in_flight=3, slots=2), NOW, False, id="over full"),
        pytest.param(replica("chat-0", state="draining"), NOW, False, id="draining"),
        pytest.param(replica("chat-0", state="down", coming=True), NOW, False, id="loading"),
        pytest.param(opened("chat-0"), NOW, False, id="gate open"),
        pytest.param(opened("chat-0"), HALF_OPEN, True, id="gate half-open"),
        pytest.param(replica("chat-0", kv_ratio=0.84), NOW, True, id="KV cache below"),
        pytest.param(replica("chat-0", kv_ratio=0.94, in_flight=1, slots=2), NOW, True, id="KV"),
        pytest.param(
            replica("chat-0", kv_ratio=0.95, in_flight=1, slots=2), NOW, False, id="KV full"
        ),
        pytest.param(replica("chat-0", kv_ratio=0.99), NOW, True, id="KV full of what is kept"),
    ],
)
def test_who_has_a_place(one: Replica, now: float, has_place: bool) -> None:
    """Ready, let through by the gate, with a free slot and room in its cache or nothing to do."""
    made = route("chat", 0)
    made.replicas = [one]
    assert names(places.free(made, (), (), now)) == ["chat-0"] * has_place
    assert places.promising(made) is (one.state == "ready" or one.coming)


def test_a_second_trial_waits_for_the_first() -> None:
    """One that has its seat is as good as sent, as long as the gate is not closed."""
    made = route("chat", 0)
    tried = opened("chat-0")
    made.replicas = [tried]
    assert places.free(made, (), {tried}, HALF_OPEN) == []
    tried.gate.reset()
    assert places.free(made, (), {tried}, HALF_OPEN) == [tried]


@pytest.mark.parametrize(
    ("other", "now", "found"),
    [
        pytest.param(replica("chat-1"), NOW, ["chat-1"], id="idle"),
        pytest.param(replica("chat-1", in_flight=1), NOW, [], id="full"),
        pytest.param(replica("chat-1", state="down", coming=True), NOW, ["chat-0"], id="down"),
        pytest.param(opened("chat-1"), NOW, ["chat-0"], id="gate open"),
        pytest.param(opened("chat-1"), HALF_OPEN, ["chat-0", "chat-1"], id="gate half-open"),
    ],
)
def test_one_that_failed_is_gone_back_to_only_for_want_of_a_sound_one(
    other: Replica, now: float, found: list[str]
) -> None:
    """A sound one is waited for, however busy; where there is none, any that is free will do."""
    made = route("chat", 0)
    made.replicas = [replica("chat-0"), other]
    assert names(places.free(made, {"chat-0"}, (), now)) == found


def chosen(replicas: list[Replica], affinity: bytes | None = None) -> str:
    made = route("chat", 0)
    made.replicas = replicas
    found = places.free(made, (), (), NOW)
    turn = routing.Turn(NOW, random.Random(1).random, 0)
    return places.chosen(made, found, affinity, (), routing.least_busy, turn).name


def test_a_cache_that_fills_up_counts_half() -> None:
    """At 85 % a replica is as good as one that is twice as busy; the replica itself is chosen."""
    pressed = replica("chat-0", kv_ratio=0.85, slots=8, in_flight=1)
    assert chosen([pressed, replica("chat-1", slots=8, in_flight=2)]) == "chat-1"
    assert chosen([pressed, replica("chat-1", slots=8, in_flight=4)]) == "chat-0"


def test_affinity_stays_the_same_while_others_are_full() -> None:
    """Whose conversation it is depends on all that are ready, not on those that are free."""
    ready = [replica(f"chat-{index}", slots=4, kv_ratio=0.9) for index in range(3)]
    ready.append(replica("chat-3", slots=4))
    homes = {f"{talk}": chosen(ready, b"%d" % talk) for talk in range(40)}
    assert {*homes.values()} == {"chat-0", "chat-1", "chat-2", "chat-3"}
    ready[0].in_flight = 4
    for talk, home in homes.items():
        assert (chosen(ready, talk.encode()) == home) is (home != "chat-0")


def test_affinity_moves_together_from_a_replica_that_is_shut() -> None:
    """One conversation has one new home, also where a half-open gate is on trial."""
    ready = [replica("chat-0"), replica("chat-1"), replica("chat-2")]
    talk = next(b"%d" % talk for talk in range(99) if chosen(ready, b"%d" % talk) == "chat-0")
    shut = [opened("chat-0"), replica("chat-3", state="down"), *ready[1:]]
    assert len({chosen(shut, talk) for _ in range(9)}) == 1


@pytest.mark.parametrize(
    ("ratio", "level"),
    [
        pytest.param(None, "ok", id="not told"),
        pytest.param(0.849, "ok", id="room"),
        pytest.param(0.85, "warning", id="pressed"),
        pytest.param(0.949, "warning", id="still some"),
        pytest.param(0.95, "critical", id="full"),
    ],
)
def test_how_full_a_cache_is(ratio: float | None, level: str) -> None:
    """A level begins at its ratio."""
    assert places.kv_level(ratio) == level
