"""What holds of routing over many requests, simulated, and of any one choice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway.latency import Latency
from gpuctl.gateway.routing import STRATEGIES, Turn, least_busy, prefer, round_robin
from tests.gateway.traffic import Lengths, Target, Traffic, even, targets, varied

lengths = pytest.mark.parametrize("lengths", [even, varied])
spreading = pytest.mark.parametrize("strategy", ["least_busy", "round_robin"])


@lengths
@spreading
@pytest.mark.parametrize(
    ("clients", "slots"), [(1, 4), (2, 1), (2, 4), (3, 2), (8, 1), (8, 4), (16, 4), (64, 4)]
)
def test_equals_share_evenly(strategy: str, clients: int, slots: int, lengths: Lengths) -> None:
    """Of 1,000 requests each of four equal replicas gets 20 to 30 %."""
    traffic = Traffic(
        replicas=targets(1.0, 1.0, 1.0, 1.0, slots=slots),
        strategy=STRATEGIES[strategy],
        lengths=lengths,
    )
    traffic.one_by_one(clients, 1000)
    assert [share for share in traffic.shares() if not 0.20 <= share <= 0.30] == []


@lengths
@pytest.mark.parametrize("seconds", [0.002, 0.05, 1.0, 10.0])
@pytest.mark.parametrize("pause", [0.0, 1.0, 45.0])
def test_one_after_the_other_shares_evenly(seconds: float, pause: float, lengths: Lengths) -> None:
    """With nothing in flight only averages could tell them apart, and these differ by chance."""
    replicas = targets(seconds, seconds * 1.05, seconds * 1.1, seconds * 0.95)
    traffic = Traffic(replicas=replicas, strategy=least_busy, lengths=lengths)
    longest = 2 * 1.1 * seconds
    traffic.at(index * (longest + pause) for index in range(1000))
    assert [share for share in traffic.shares() if not 0.20 <= share <= 0.30] == []


@pytest.mark.parametrize("strategy", ["least_busy", "latency"])
@lengths
@pytest.mark.parametrize(("clients", "slots"), [(1, 4), (2, 1), (4, 4), (8, 4), (12, 4)])
@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_a_slow_one_gets_least_and_delays_few(
    strategy: str, lengths: Lengths, clients: int, slots: int, seconds: float
) -> None:
    """One of four is four times slower: p95 is less than half of what round robin makes of it."""
    p95 = {}
    for name in (strategy, "round_robin"):
        replicas = targets(seconds, seconds, seconds, 4 * seconds, slots=slots)
        traffic = Traffic(replicas=replicas, strategy=STRATEGIES[name], lengths=lengths)
        traffic.one_by_one(clients, 1000)
        p95[name] = traffic.p95()
        if name == strategy:
            assert traffic.shares()[3] == min(traffic.shares())
            assert traffic.shares()[3] < 0.06
    assert p95[strategy] < 0.5 * p95["round_robin"]


@pytest.mark.parametrize("used", [0.3, 0.6, 0.8])
def test_nor_does_it_where_requests_come_at_random(used: float) -> None:
    """So many of the slots in use on average, whatever becomes of the requests before."""
    took = {}
    for strategy in ("least_busy", "round_robin"):
        replicas = targets(1.0, 1.0, 1.0, 4.0, slots=4)
        generator = random.Random(7)
        times, now = [], 0.0
        for _ in range(1000):
            now += generator.expovariate(used * 3.25 * 4)
            times.append(now)
        traffic = Traffic(replicas=replicas, strategy=STRATEGIES[strategy], lengths=varied)
        traffic.at(times)
        took[strategy] = traffic.p95(), sum(traffic.took)
        assert traffic.shares()[3] == min(traffic.shares())
    assert took["least_busy"] < took["round_robin"]
    assert took["least_busy"][1] < took["round_robin"][1]


@pytest.mark.parametrize(
    ("strategy", "seconds"),
    [
        ("least_busy", 0.05), ("least_busy", 1.0), ("least_busy", 5.0),
        ("latency", 1.0), ("latency", 5.0),
    ],
)  # fmt: skip
def test_one_that_has_recovered_is_found_out(strategy: str, seconds: float) -> None:
    """Asked again now and then while it is slow, it is served as the others soon after."""
    replicas = targets(seconds, seconds, seconds, 4 * seconds)
    traffic = Traffic(replicas=replicas, strategy=STRATEGIES[strategy])
    traffic.one_by_one(1, 400)
    slow = replicas[3].served
    replicas[3].seconds = seconds
    traffic.one_by_one(1, 400)  # in which it is found out
    before = replicas[3].served
    traffic.one_by_one(1, 400)
    assert slow >= 3
    assert replicas[3].served - before >= 80


def test_a_lone_one_is_tried_within_half_a_minute() -> None:
    """Requests come one a second, and the fast one could take them all."""
    replicas = targets(0.5, 20.0)
    for replica in replicas:
        replica.latency.add(replica.seconds, 0.0)
    tried = []
    generator = random.Random(3)
    for second in range(1, 60):
        chosen = least_busy(replicas, Turn(float(second), generator.random, second))
        chosen.latency.add(chosen.seconds, float(second))
        if chosen is replicas[1]:
            tried.append(second)
    assert tried
    assert tried[0] <= 30
    assert len(tried) <= 4


def test_a_burst_is_not_all_sent_where_nothing_is_known() -> None:
    """One comes up anew beside three that are busy: by latency too it gets its share, not all."""
    replicas = targets(1.0, 1.0, 1.0, 1.0, slots=8)
    for replica in replicas[:3]:
        replica.latency.add(1.0, 0.0)
    traffic = Traffic(replicas=replicas, strategy=STRATEGIES["latency"])
    traffic.at([0.0] * 12)
    assert [replica.served for replica in replicas] == [3, 3, 3, 3]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_hottest_gets_nothing_while_another_may(strategy: str) -> None:
    """Weight 0: not by being idle, nor untried, nor by its turn."""
    replicas = targets(1.0, 1.0, 1.0, slots=4)
    replicas[1].weight = 0.0
    traffic = Traffic(replicas=replicas, strategy=STRATEGIES[strategy])
    traffic.one_by_one(8, 1000)
    assert replicas[1].served == 0
    traffic.one_by_one(9, 100)
    assert replicas[1].served > 0


def test_a_hot_one_gets_less() -> None:
    replicas = targets(1.0, 1.0, 1.0, 1.0, slots=4)
    replicas[0].weight = 0.4
    traffic = Traffic(replicas=replicas, strategy=least_busy, lengths=varied)
    traffic.one_by_one(8, 1000)
    assert 0.05 < traffic.shares()[0] < 0.6 * min(traffic.shares()[1:])


def test_more_slots_get_more() -> None:
    """One with 6 of 9 slots gets two thirds of what keeps them busy."""
    replicas = [Target(name="large", slots=6), *targets(1.0, 1.0, 1.0)]
    traffic = Traffic(replicas=replicas, strategy=least_busy, lengths=varied)
    traffic.one_by_one(9, 1000)
    assert traffic.shares()[0] == pytest.approx(2 / 3, abs=0.02)


@given(st.integers(1, 6), st.data())
def test_every_lap_of_round_robin_is_fair(size: int, data: st.DataObject) -> None:
    """Whoever is out for all of it: the others' shares differ by one in each lap at most."""
    ring = targets(*[1.0] * size)
    free = data.draw(st.lists(st.sampled_from(ring), min_size=1, unique=True))
    laps = size * len(free)
    counts = Counter(
        round_robin(free, Turn(0.0, random.Random(1).random, count, ring)).name
        for count in range(laps)
    )
    assert counts == {target.name: size for target in free}


@st.composite
def some_targets(draw: st.DrawFn) -> list[Target]:
    """Up to five replicas in any state; some of them idle, some of them equal."""
    found = []
    for index in range(draw(st.integers(1, 5))):
        slots = draw(st.sampled_from((1, 2, 4, 64)))
        latency = Latency()
        for sample in draw(st.lists(st.sampled_from((0.0, 0.1, 1.0, 1.2, 9.0)), max_size=3)):
            latency.add(sample, draw(st.sampled_from((0.0, 50.0, 99.0))))
        found.append(
            Target(
                name=f"chat-{index}",
                slots=slots,
                in_flight=draw(st.integers(0, slots - 1)),
                weight=draw(st.sampled_from((0.0, 0.4, 0.8, 1.0))),
                engine_waiting=draw(st.integers(0, 3)),
                latency=latency,
            )
        )
    return found


def choices(strategy: str, replicas: list[Target]) -> set[str]:
    """Return whom it may choose, with any luck and at any turn."""
    return {
        STRATEGIES[strategy](replicas, Turn(100.0, partial(float, luck / 60), count)).name
        for luck in range(60)
        for count in range(5 if strategy == "round_robin" else 1)
    }


@given(some_targets(), st.randoms())
@settings(deadline=None)
def test_the_order_of_replicas_means_nothing(
    replicas: list[Target], shuffling: random.Random
) -> None:
    for strategy in STRATEGIES:
        shuffled = list(replicas)
        shuffling.shuffle(shuffled)
        assert choices(strategy, shuffled) == choices(strategy, replicas)


@given(some_targets(), st.sampled_from(("least_busy", "latency")))
@settings(deadline=None)
def test_a_twin_that_is_busier_is_never_chosen(replicas: list[Target], strategy: str) -> None:
    """Whatever the rest is like: of two that differ in what is in flight alone, the idler one."""
    busier = replace(replicas[0], name="twin", in_flight=replicas[0].in_flight + 1)
    idle = replace(replicas[0], in_flight=0, name="idle")
    assert "twin" not in choices(strategy, [*replicas, busier, idle])


keys = st.binary(max_size=40)


@given(some_targets(), keys, st.data())
def test_a_key_moves_only_with_its_replica(
    replicas: list[Target], key: bytes, data: st.DataObject
) -> None:
    """One that goes takes its own keys along; everyone else's stay where they are."""
    for replica in replicas:
        replica.in_flight, replica.weight = 0, 1.0
    gone = data.draw(st.sampled_from(replicas))
    left = [replica for replica in replicas if replica is not gone]
    before = prefer(replicas, replicas, key)
    if left and before is not gone:
        assert prefer(left, left, key) is before


@given(some_targets(), keys, st.data())
def test_what_is_preferred_is_free_and_hardly_busier(
    replicas: list[Target], key: bytes, data: st.DataObject
) -> None:
    free = data.draw(st.lists(st.sampled_from(replicas), min_size=1, unique=True))
    chosen = prefer(replicas, free, key)
    if chosen is not None:
        assert chosen in free
        least = min(target.in_flight / target.slots for target in free)
        assert chosen.in_flight / chosen.slots <= least + 1 / chosen.slots + 1e-9


def test_keys_spread_evenly() -> None:
    replicas = targets(*[1.0] * 4)
    counts = Counter(
        chosen.name
        for number in range(4000)
        if (chosen := prefer(replicas, replicas, b"session-%d" % number)) is not None
    )
    assert [name for name, count in counts.items() if not 900 <= count <= 1100] == []
    assert sum(counts.values()) == 4000
