"""Who gets a seat, who waits and who is refused; what holds for any order is in the properties."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.gateway.admission import Seat
from tests.gateway.desk import COOLDOWN_SECONDS, Desk, replica, route


def opened(desk: Desk, name: str) -> None:
    """One failure opens the gate of a replica of the desk."""
    gate = desk.at(name).gate
    gate.failed(gate.begin(desk.now), desk.now, refused=True)


def test_a_free_replica_is_a_seat_at_once() -> None:
    """A seat counts at its replica and in all, until it is released, which counts once."""
    desk = Desk(route("chat", slots=2))
    assert desk.ask("a") == "chat-0"
    assert desk.ask("b") == "chat-0"
    assert (desk.at("chat-0").in_flight, desk.admission.in_flight) == (2, 2)
    seat = desk.seats["a"]
    seat.release()
    seat.release()
    assert (desk.at("chat-0").in_flight, desk.admission.in_flight) == (1, 1)


def test_the_strategy_is_the_settings_own() -> None:
    """Round robin counts the requests that were seated; least busy looks at what is in flight."""
    desk = Desk(route("chat", 2, slots=8), routing="round_robin")
    assert [desk.ask("a"), desk.ask("b"), desk.ask("c")] == ["chat-0", "chat-1", "chat-0"]
    desk.configure(routing="least_busy")
    assert desk.ask("d") == "chat-1"


def test_what_belongs_together_stays_together_until_its_replica_is_full() -> None:
    """Affinity goes before the strategy, and never waits for its replica."""
    desk = Desk(route("chat", 4, slots=2))
    first = desk.ask("a", affinity=b"talk")
    desk.release("a")
    assert desk.ask("b", affinity=b"talk") == first
    assert desk.ask("c", affinity=b"talk") == first
    assert desk.ask("d", affinity=b"talk") not in (first, None)


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        pytest.param({"state": "down"}, "no_replica", id="down"),
        pytest.param({"state": "draining"}, "no_replica", id="draining for good"),
        pytest.param({"state": "draining", "coming": True}, None, id="draining to be renewed"),
        pytest.param({"state": "down", "coming": True}, None, id="loading"),
        pytest.param({"in_flight": 1}, None, id="full"),
        pytest.param({"in_flight": 3}, None, id="fuller than it may be now"),
    ],
)
def test_a_request_waits_only_where_there_is_hope(known: dict[str, Any], answer: Any) -> None:
    """No replica that is ready or coming is a refusal at once; otherwise the request waits."""
    assert Desk(route("chat", **known)).ask("a") == answer


def test_an_unknown_model_has_no_replica() -> None:
    """A route that no Status has named serves nobody."""
    assert Desk(route("chat")).ask("a", model="gone") == "no_replica"


def test_a_release_serves_the_one_that_waits() -> None:
    """The place that is given back goes to the waiting request before release returns."""
    desk = Desk(route("chat"))
    desk.ask("a")
    assert desk.ask("b") is None
    assert (desk.admission.waiting(), desk.admission.depth()) == (1, {5: 1})
    desk.release("a")
    assert desk.heard() == [("b", "chat-0")]
    assert (desk.admission.waiting(), desk.admission.depth()) == (0, {})


def test_a_release_that_is_told_no_time_serves_as_well() -> None:
    """It goes by the latest time that was told."""
    desk = Desk(route("chat"))
    desk.ask("a")
    desk.ask("b")
    desk.seats["a"].release()
    assert desk.heard() == [("b", "chat-0")]


def test_the_order_is_priority_then_the_least_busy_key_then_age() -> None:
    """A key with much waiting and running holds up neither another key nor what is more urgent."""
    desk = Desk(route("chat"))
    desk.ask("running", key="many")
    for name in ("many 1", "many 2", "many 3"):
        desk.ask(name, key="many")
    desk.ask("one", key="few")
    desk.ask("urgent", key="many", priority=10)
    desk.ask("idle", key="few", priority=1)
    served = []
    last = "running"
    for _ in range(6):
        desk.release(last)
        ((last, _),) = desk.heard()
        served.append(last)
    assert served == ["urgent", "many 1", "many 2", "many 3", "one", "idle"]


def test_a_key_that_has_less_in_flight_is_next() -> None:
    """Of equal priority the key with the fewest seats goes first, though another waits longer."""
    desk = Desk(route("chat", slots=3))
    for name in ("many 1", "many 2", "many 3", "many 4", "many 5"):
        desk.ask(name, key="many")
    desk.ask("one", key="few")
    desk.release("many 1")
    assert desk.heard() == [("one", "chat-0")]
    desk.release("many 2")
    assert desk.heard() == [("many 4", "chat-0")]


def test_a_retry_that_has_waited_before_keeps_its_age() -> None:
    """The order goes by since when a ticket waits, not by when it came to the queue."""
    desk = Desk(route("chat"))
    desk.ask("running")
    desk.ask("later")
    desk.ask("retry", since=desk.now - 5)
    desk.release("running")
    assert desk.heard() == [("retry", "chat-0")]


def test_nobody_is_overtaken_by_a_newcomer() -> None:
    """Who waits for a gate gets the seat when the gate lets one try, though another asks first."""
    desk = Desk(route("chat"))
    opened(desk, "chat-0")
    assert desk.ask("a") is None
    desk.now += COOLDOWN_SECONDS
    assert desk.ask("b") is None
    assert desk.heard() == [("a", "chat-0")]


def test_a_route_without_a_free_replica_holds_up_no_other() -> None:
    """What is urgent and cannot be served leaves the common limit to those that can."""
    desk = Desk(route("chat"), route("embed"), most=2)
    desk.ask("a")
    desk.ask("urgent", priority=10)
    assert desk.ask("b", model="embed", priority=1) == "embed-0"
    assert desk.ask("c", model="embed", priority=1) is None
    desk.release("b")
    assert desk.heard() == [("c", "embed-0")]


def test_the_common_limit_holds_over_all_routes() -> None:
    """A seat that is released on one route serves whoever is next on any."""
    desk = Desk(route("chat", slots=4), route("embed", slots=4), most=1)
    desk.ask("a")
    assert desk.ask("b") is None
    assert desk.ask("c", model="embed", priority=10) is None
    desk.release("a")
    assert desk.heard() == [("c", "embed-0")]
    assert (desk.admission.waiting(desk.routes["chat"]), desk.admission.waiting()) == (1, 1)


def test_a_limit_below_what_is_in_flight_is_waited_for() -> None:
    """Lowered, it takes no seat away, and gives none until less is in flight; raised, at once."""
    desk = Desk(route("chat", slots=4), most=3)
    for name in "abcd":
        desk.ask(name)
    desk.configure(most=1)
    desk.release("a")
    desk.release("b")
    assert desk.heard() == []
    desk.configure(most=2)
    assert desk.heard() == [("d", "chat-0")]


def test_who_waits_is_counted() -> None:
    """In all, by route, by priority and by key; only where somebody does."""
    desk = Desk(route("chat"), route("embed"))
    desk.ask("running")
    for name, key, priority in (("a", "x", 5), ("b", "x", 5), ("c", "y", 10)):
        desk.ask(name, key=key, priority=priority)
    assert desk.admission.waiting() == desk.admission.waiting(desk.routes["chat"]) == 3
    assert desk.admission.waiting(desk.routes["embed"]) == 0
    assert desk.admission.depth() == {5: 2, 10: 1}
    assert desk.admission.crowds() == {"x": 2, "y": 1}


def test_a_full_queue_refuses() -> None:
    """One more of equal priority and key is refused, and so is any where none may wait."""
    desk = Desk(route("chat"), size=1)
    desk.ask("a")
    assert desk.ask("b") is None
    assert desk.ask("c") == "queue_full"
    assert Desk(route("chat", in_flight=1), size=0).ask("a") == "queue_full"


def test_a_full_queue_lets_the_urgent_in() -> None:
    """The youngest of the lowest priority goes for it, and no sooner than it is in."""
    desk = Desk(route("chat"), size=3)
    desk.ask("running")
    for name, priority in (("a", 5), ("b", 1), ("c", 1)):
        desk.ask(name, priority=priority)
    assert desk.ask("d", priority=5) is None
    assert desk.heard() == [("c", "queue_full")]
    assert desk.ask("e", priority=1) == "queue_full"
    assert desk.admission.depth() == {5: 2, 1: 1}


def test_one_key_alone_does_not_fill_the_queue() -> None:
    """A key that has less waiting gets in for the youngest of the one that has the most."""
    desk = Desk(route("chat"), size=3)
    desk.ask("running")
    for name in ("many 1", "many 2", "many 3"):
        desk.ask(name, key="many")
    assert desk.ask("few 1", key="few") is None
    assert desk.heard() == [("many 3", "queue_full")]
    assert desk.ask("few 2", key="few") == "queue_full"
    assert desk.ask("many 4", key="many") == "queue_full"


def test_a_full_queue_is_no_hindrance_to_a_free_seat() -> None:
    """Only who would have to wait is refused for the queue's sake."""
    desk = Desk(route("chat"), route("embed"), size=1)
    desk.ask("a")
    desk.ask("b")
    assert desk.ask("c", model="embed") == "embed-0"


def test_who_has_waited_too_long_is_refused() -> None:
    """The queue's time-out counts from since when it waits; its own deadline may be sooner."""
    desk = Desk(route("chat"), timeout_seconds=30)
    desk.ask("running")
    desk.ask("a")
    desk.ask("b", deadline=desk.now + 10)
    desk.ask("c", since=desk.now - 25)
    for after, heard in ((4.9, []), (0.1, ["c"]), (5, ["b"]), (19.9, []), (0.1, ["a"])):
        desk.now += after
        desk.admission.expire(desk.now)
        assert desk.heard() == [(name, "queue_timeout") for name in heard]


def test_a_cancelled_ticket_is_gone() -> None:
    """Nothing of it is kept, and it is never told anything."""
    desk = Desk(route("chat"))
    desk.ask("a")
    desk.ask("b")
    gone = weakref.ref(desk.tickets["b"].serve)
    desk.admission.cancel(desk.tickets.pop("b"))
    gc.collect()
    assert (gone(), desk.admission.waiting()) == (None, 0)
    desk.release("a")
    assert desk.heard() == []


def test_cancelling_what_does_not_wait_is_nothing() -> None:
    """A ticket that was seated keeps its seat; only who holds that gives it back."""
    desk = Desk(route("chat"))
    desk.ask("a")
    desk.admission.cancel(desk.tickets["a"])
    assert desk.admission.in_flight == 1


def test_draining_refuses_all_but_a_retry_that_has_a_place() -> None:
    """What runs may go on elsewhere when its replica fails; nothing new begins, nothing waits."""
    desk = Desk(route("chat", 3))
    for name in "abcd":
        desk.ask(name)
    desk.admission.drain()
    assert desk.heard() == [("d", "draining")]
    assert desk.ask("e") == "draining"
    failed, other = desk.seats["a"].replica.name, desk.seats["b"].replica.name
    desk.release("a")
    desk.release("b")
    assert desk.ask("f") == "draining"
    assert desk.ask("a", avoid=[failed]) == other
    assert desk.ask("b", avoid=[failed, other]) == "draining"


def test_who_waits_for_a_route_without_hope_is_refused() -> None:
    """A Status in which nothing of a route is ready or coming, or without it, ends the wait."""
    desk = Desk(route("chat"), route("embed"), route("ocr"))
    for model in ("chat", "embed", "ocr"):
        desk.ask(model)
        desk.ask(f"{model} next", model=model)
        desk.ask(f"{model} other", model=model)
    desk.at("embed-0").state = "down"
    del desk.routes["ocr"]
    desk.configure()
    assert sorted(desk.heard()) == [
        ("embed other", "no_replica"),
        ("ocr other", "no_replica"),
    ]  # fmt: skip


def test_a_route_that_is_made_anew_serves_those_that_waited_for_the_old_one() -> None:
    """Who waits does so for a model; a seat at a replica that is gone is given back as any."""
    desk = Desk(route("chat"))
    desk.ask("a")
    desk.ask("b")
    old = desk.at("chat-0")
    desk.routes["chat"] = route("chat")
    desk.configure()
    assert desk.heard() == [("b", "chat-0")]
    desk.release("a")
    assert (old.in_flight, desk.at("chat-0").in_flight, desk.admission.in_flight) == (0, 1, 1)


def test_a_queue_made_shorter_lets_the_last_ones_go() -> None:
    """Of the lowest priority, the youngest first."""
    desk = Desk(route("chat"))
    for name, priority in (("running", 5), ("a", 1), ("b", 5), ("c", 1), ("d", 5)):
        desk.ask(name, priority=priority)
    desk.configure(size=1)
    assert desk.heard() == [("c", "queue_full"), ("a", "queue_full"), ("d", "queue_full")]


def test_a_retry_goes_elsewhere_while_anything_else_is_sound() -> None:
    """It waits for a busy sibling; where all others are down or shut it may try the same again."""
    desk = Desk(route("chat", 2))
    desk.ask("busy", avoid=["chat-0"])
    assert desk.ask("retry", avoid=["chat-0"]) is None
    assert desk.ask("new") == "chat-0"
    desk.release("new")
    assert desk.heard() == []
    opened(desk, "chat-1")
    desk.admission.wake(desk.now)
    assert desk.heard() == [("retry", "chat-0")]


def test_who_avoids_the_free_replica_holds_up_nobody() -> None:
    """The next one of the same key gets it."""
    desk = Desk(route("chat", 2))
    desk.ask("a", avoid=["chat-1"])
    desk.ask("b", avoid=["chat-0"])
    desk.ask("retry", avoid=["chat-0"])
    desk.ask("next")
    desk.release("a")
    assert desk.heard() == [("next", "chat-0")]
    desk.release("b")
    assert desk.heard() == [("retry", "chat-1")]


def test_one_at_a_time_tries_a_replica_whose_gate_is_half_open() -> None:
    """A second one waits though its trial was not sent yet, until the gate closes."""
    desk = Desk(route("chat", slots=4))
    opened(desk, "chat-0")
    for name in "abc":
        assert desk.ask(name) is None
    desk.now += COOLDOWN_SECONDS
    desk.admission.wake(desk.now)
    assert desk.heard() == [("a", "chat-0")]
    desk.release("a")
    assert desk.heard() == [("b", "chat-0")]
    gate = desk.at("chat-0").gate
    gate.succeeded(gate.begin(desk.now))
    desk.admission.wake(desk.now)
    assert desk.heard() == [("c", "chat-0")]


# Whoever is told may do anything at once.


def on_serve(desk: Desk, name: str, act: Callable[[Seat], None]) -> None:
    """Let a request do something of its own when it is served."""
    tell = desk.tickets[name].serve

    def told(seat: Seat) -> None:
        tell(seat)
        act(seat)

    desk.tickets[name].serve = told


def on_refuse(desk: Desk, name: str, act: Callable[[], None]) -> None:
    tell = desk.tickets[name].refuse

    def told(reason: str) -> None:
        tell(reason)
        act()

    desk.tickets[name].refuse = told


def test_a_seat_that_is_given_back_at_once_goes_to_the_next() -> None:
    """However many do so, one is told after the other, and none within another."""
    desk = Desk(route("chat"), size=5000)
    desk.ask("running")
    names = [f"{index}" for index in range(3000)]
    for name in names:
        desk.ask(name)
        on_serve(desk, name, lambda seat: seat.release())
    desk.release("running")
    assert desk.heard() == [(name, "chat-0") for name in names]
    assert desk.admission.in_flight == 0


def test_a_seat_is_told_to_nobody_who_left_meanwhile() -> None:
    """Two are due; the first one's word cancels the second, whose seat serves the third."""
    desk = Desk(route("chat", slots=2))
    for name in ("x", "y", "a", "b", "c"):
        desk.ask(name)
    on_serve(desk, "a", lambda _: desk.admission.cancel(desk.tickets["b"]))
    opened(desk, "chat-0")
    desk.release("x")
    desk.release("y")
    desk.at("chat-0").gate.reset()
    desk.admission.wake(desk.now)
    assert desk.heard() == [("a", "chat-0"), ("c", "chat-0")]
    assert (desk.admission.in_flight, desk.admission.waiting()) == (2, 0)


def test_a_refusal_is_told_to_nobody_who_left_meanwhile() -> None:
    """A cancelled ticket hears nothing, not even what was decided before."""
    desk = Desk(route("chat"))
    for name in ("x", "a", "b"):
        desk.ask(name)
    on_refuse(desk, "a", lambda: desk.admission.cancel(desk.tickets["b"]))
    desk.admission.drain()
    assert desk.heard() == [("a", "draining")]


def test_asking_while_told_is_answered_at_once() -> None:
    """Its answer is final: a seat where one is left, else a place in the queue."""
    desk = Desk(route("chat"), route("embed"))
    desk.ask("x")
    desk.ask("a")
    answers: list[str | None] = []

    def more(_: Seat) -> None:
        answers.append(desk.ask("b", model="embed"))
        answers.append(desk.ask("c"))

    on_serve(desk, "a", more)
    desk.release("x")
    assert answers == ["embed-0", None]
    assert desk.heard() == [("a", "chat-0")]


def test_who_asks_gets_its_answer_by_return() -> None:
    """The one it drives out releases a seat: the newcomer has it without being told."""
    desk = Desk(route("chat"), size=1)
    desk.ask("running")
    desk.ask("a", priority=1)
    on_refuse(desk, "a", lambda: desk.release("running"))
    assert desk.ask("b", priority=5) == "chat-0"
    assert desk.heard() == [("a", "queue_full")]


def test_a_refusal_may_ask_again() -> None:
    """The same ticket may come back at once, and counts as one that waits."""
    desk = Desk(route("chat"), timeout_seconds=1)
    desk.ask("x")
    desk.ask("a")

    def again() -> None:
        desk.tickets["a"].since = desk.now
        assert desk.admission.ask(desk.tickets["a"], desk.now) is None

    on_refuse(desk, "a", again)
    desk.now += 1
    desk.admission.expire(desk.now)
    assert (desk.heard(), desk.admission.waiting()) == ([("a", "queue_timeout")], 1)


def test_a_callback_that_fails_holds_up_nobody_for_long() -> None:
    """What it raises comes out where it was told; the others are told at the next occasion."""
    desk = Desk(route("chat"))
    for name in ("x", "a", "b"):
        desk.ask(name)

    def fails() -> None:
        raise ZeroDivisionError

    on_refuse(desk, "a", fails)
    with pytest.raises(ZeroDivisionError):
        desk.admission.drain()
    desk.admission.wake(desk.now)
    assert desk.heard() == [("a", "draining"), ("b", "draining")]


def test_a_replica_that_is_named_anew_counts_from_nothing() -> None:
    """A seat keeps the replica it was given, whatever is in the route now."""
    desk = Desk(route("chat"))
    desk.ask("a")
    desk.routes["chat"].replicas = [replica("chat-0")]
    desk.configure()
    assert desk.ask("b") == "chat-0"
    desk.release("a")
    assert desk.at("chat-0").in_flight == 1
