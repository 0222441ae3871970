"""Admission under anything in any order: what holds at every moment."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpuctl.gateway.admission import Seat, Ticket
from gpuctl.gateway.replica import Replica
from tests.gateway.desk import COOLDOWN_SECONDS, Desk, replica, route

MODELS = st.sampled_from(("chat", "embed"))
#: What is done by one that is told, while it is told.
REACTIONS = st.sampled_from(("keeps", "keeps", "leaves", "asks", "ends another", "fails"))


class Request:
    """A ticket and what became of it: asking, waiting, seated, over, refused or cancelled."""

    def __init__(self, ticket: Ticket, reaction: str) -> None:
        self.ticket = ticket
        self.reaction = reaction
        self.state = "asking"
        self.seat: Seat | None = None
        self.trial = False


class Gateway(RuleBasedStateMachine):
    """Three replicas of one model and one of another, with one to three slots each."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(route("chat", 3, slots=2), route("embed", slots=3), size=4)
        self.admission = self.desk.admission
        self.most: float = math.inf
        self.size = 4
        self.requests: list[Request] = []
        self.known: list[Replica] = [
            each for made in self.desk.routes.values() for each in made.replicas
        ]

    # What happens.

    @rule(
        model=MODELS,
        key=st.sampled_from("xyz"),
        priority=st.sampled_from((5, 5, 10)),
        avoid=st.sets(st.sampled_from(("chat-0", "chat-1", "chat-2")), max_size=2),
        affinity=st.sampled_from((None, b"talk")),
        reaction=REACTIONS,
    )
    def ask(self, reaction: str, **wish: Any) -> None:
        ticket = self.desk.ticket("", **wish)
        request = Request(ticket, reaction)
        ticket.serve = lambda seat: self.serve(request, seat)
        ticket.refuse = lambda reason: self.refuse(request, reason)
        self.requests.append(request)
        self.answered(request)

    def answered(self, request: Request) -> None:
        request.state = "asking"
        answer = self.admission.ask(request.ticket, self.desk.now)
        assert request.state == "asking"  # nobody is told before the answer
        if isinstance(answer, Seat):
            self.seated(request, answer)
        elif answer is None:
            request.state = "waiting"
        else:
            request.state = "refused"
            assert (answer == "no_replica") is not self.promising(request)

    def seated(self, request: Request, seat: Seat) -> None:
        request.state, request.seat = "seated", seat
        request.trial = seat.replica.gate.state(self.desk.now) == "half_open"
        assert not (request.trial and self.tried(seat.replica, request))
        assert seat.replica.state == "ready"
        assert seat.replica.gate.allows(self.desk.now)
        assert seat.replica.in_flight <= seat.replica.slots
        assert self.admission.in_flight <= self.most

    def serve(self, request: Request, seat: Seat) -> None:
        assert request.state == "waiting"  # once, and never after it was cancelled
        self.seated(request, seat)
        self.react(request)

    def refuse(self, request: Request, reason: str) -> None:
        assert request.state == "waiting"
        request.state = "refused"
        self.react(request)

    def react(self, request: Request) -> None:
        reaction, request.reaction = request.reaction, "keeps"
        if reaction == "leaves":
            self.over(request)
        elif reaction == "asks":
            self.ask(reaction="keeps", model="chat", key="x", priority=5)
        elif reaction == "ends another":
            self.cancel_first()
            for other in self.requests:
                if other.state == "seated" and other is not request:
                    self.over(other)
                    return
        elif reaction == "fails" and request.state == "refused":
            request.ticket.since = self.desk.now
            self.answered(request)  # the same ticket again

    def over(self, request: Request) -> None:
        if request.seat is not None:
            request.state, seat = "over", request.seat
            request.seat = None
            seat.release()
            seat.release()

    def cancel_first(self) -> None:
        for request in self.requests:
            if request.state == "waiting":
                request.state = "cancelled"
                self.admission.cancel(request.ticket)
                return

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = [request for request in self.requests if request.state == "seated"]
        if held:
            self.over(data.draw(st.sampled_from(held)))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A client leaves; one that does not wait any more changes nothing by it."""
        if self.requests:
            request = data.draw(st.sampled_from(self.requests))
            request.state = {"waiting": "cancelled"}.get(request.state, request.state)
            self.admission.cancel(request.ticket)

    @rule(data=st.data(), well=st.booleans(), refused=st.booleans())
    def verdict(self, data: st.DataObject, well: bool, refused: bool) -> None:
        """A request that runs ends well or badly for its replica's gate."""
        held = [request for request in self.requests if request.seat is not None]
        if not held:
            return
        request = data.draw(st.sampled_from(held))
        assert request.seat is not None
        gate = request.seat.replica.gate
        token = gate.begin(self.desk.now)
        if well:
            gate.succeeded(token)
        else:
            gate.failed(token, self.desk.now, refused=refused)
            request.ticket.avoid = request.ticket.avoid | {request.seat.replica.name}
        self.admission.wake(self.desk.now)

    @rule(name=st.sampled_from(("chat-0", "chat-1", "embed-0")))
    def cools_down(self, name: str) -> None:
        """A gate is half-open: it was opened some time ago."""
        gate = self.desk.at(name).gate
        before = self.desk.now - COOLDOWN_SECONDS
        gate.failed(gate.begin(before), before, refused=True)
        self.admission.wake(self.desk.now)

    @rule(seconds=st.sampled_from((0.5, 10.0, COOLDOWN_SECONDS)))
    def time_passes(self, seconds: float) -> None:
        self.desk.now += seconds
        self.admission.expire(self.desk.now)
        self.admission.wake(self.desk.now)
        for request in self.requests:
            if request.state == "waiting":
                assert self.desk.now < request.ticket.since + 30.0

    @rule(
        most=st.sampled_from((None, None, 1, 3)),
        size=st.sampled_from((0, 2, 4, 6)),
        changes=st.lists(
            st.tuples(
                st.sampled_from(range(3)),
                st.sampled_from(("ready", "ready", "ready", "draining", "down")),
                st.booleans(),
                st.sampled_from((1, 2, 3)),
                st.sampled_from((None, 0.5, 0.9, 0.97)),
            ),
            max_size=3,
        ),
        made_anew=st.booleans(),
        strategy=st.sampled_from(("least_busy", "round_robin", "latency")),
    )
    def status(
        self, most: int | None, size: int, changes: list[Any], made_anew: bool, strategy: str
    ) -> None:
        self.most, self.size = math.inf if most is None else most, size
        chat = self.desk.routes["chat"]
        for index, state, coming, slots, ratio in changes:
            if made_anew:
                chat.replicas[index] = replica(f"chat-{index}")
                self.known.append(chat.replicas[index])
            changed = chat.replicas[index]
            changed.state, changed.coming, changed.slots = state, coming, slots
            changed.kv_ratio = ratio
        self.desk.configure(most=most, size=size, routing=strategy)
        for request in self.requests:
            assert request.state != "waiting" or self.promising(request)

    # What holds.

    def promising(self, request: Request) -> bool:
        replicas = self.desk.routes[request.ticket.route.model].replicas
        return any(each.state == "ready" or each.coming for each in replicas)

    def tried(self, each: Replica, but: Request | None = None) -> bool:
        """Return whether a request has the seat of a replica's trial."""
        return any(
            one.trial and one.seat is not None and one.seat.replica is each
            for one in self.requests
            if one is not but
        )

    def has_place(self, each: Replica) -> bool:
        now = self.desk.now
        gate = each.gate.state(now)
        return (
            each.state == "ready"
            and each.in_flight < each.slots
            and (gate == "closed" or (each.gate.allows(now) and not self.tried(each)))
            and (each.kv_ratio is None or each.kv_ratio < 0.95 or each.in_flight == 0)
        )

    @invariant()
    def seats_are_counted(self) -> None:
        held = Counter(request.seat.replica for request in self.requests if request.seat)
        assert {each: each.in_flight for each in self.known if each.in_flight} == held
        assert self.admission.in_flight == held.total()

    @invariant()
    def the_queue_is_bounded_and_nobody_is_lost(self) -> None:
        waiting = [request for request in self.requests if request.state == "waiting"]
        assert {request.ticket for request in waiting} == {*self.admission._queue}
        assert self.admission.waiting() == len(waiting) <= self.size
        assert self.admission.depth() == Counter(request.ticket.priority for request in waiting)
        assert all(request.ticket.due is None for request in self.requests)

    @invariant()
    def nobody_waits_while_a_seat_is_free(self) -> None:
        if self.admission.in_flight >= self.most:
            return
        for request in self.requests:
            if request.state != "waiting":
                continue
            replicas = self.desk.routes[request.ticket.route.model].replicas
            others = [each for each in replicas if each.name not in request.ticket.avoid]
            sound = any(
                each.state == "ready" and each.gate.state(self.desk.now) == "closed"
                for each in others
            )
            able = others if sound else replicas
            assert not [each.name for each in able if self.has_place(each)]

    def teardown(self) -> None:
        """When it stops, everybody has been told, and when all are gone nothing is left."""
        for request in self.requests:
            request.reaction = "keeps"
        self.admission.drain()
        assert "waiting" not in {request.state for request in self.requests}
        for request in self.requests:
            self.over(request)
        assert [each.in_flight for each in self.known] == [0] * len(self.known)
        assert (self.admission.in_flight, self.admission.waiting()) == (0, 0)
        assert (self.admission._seats, self.admission._trials) == ({}, set())
        assert (self.admission._queue.models(), len(self.admission._due)) == ([], 0)


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


WAITING = st.lists(
    st.tuples(st.sampled_from((1, 5, 10)), st.sampled_from("abcd"), st.sampled_from((0, 1, 2))),
    max_size=30,
)


@settings(deadline=None)
@given(running=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), waiting=WAITING)
def test_whose_turn_it_is(running: list[str], waiting: list[tuple[int, str, int]]) -> None:
    """Every seat that is released goes to the one that the rule names, whatever came before."""
    desk = Desk(route("chat", slots=len(running)))
    for index, key in enumerate(running):
        desk.ask(f"running {index}", key=key)
    left = {}
    for index, (priority, key, before) in enumerate(waiting):
        desk.ask(f"{index}", key=key, priority=priority, since=desk.now - before)
        left[f"{index}"] = (-priority, key, -before, index)
    while desk.seats:
        desk.release(next(iter(desk.seats)))
        busy = Counter(desk.tickets[name].key for name in desk.seats)
        for name, _ in desk.heard():
            busy[left[name][1]] -= 1
            due = min(left, key=lambda each: (left[each][0], busy[left[each][1]], *left[each][2:]))
            assert name == due
            del left[name]
    assert left == {}
