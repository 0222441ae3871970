"""
The life of one request that a replica answers: wait, send, answer; or fail there and try another.

No task and no future belongs to it but while a connection is opened: the event loop's callbacks
drive it, and `sweep` its deadlines.

1. It asks `Admission` for a seat, and may wait for one.
2. Seated, an `Attempt` sends it, and gives the answer to the sink.
3. A replica that refuses, dies or errs before anything was sent: another one is tried, within the
   retries of the settings and the budget.
4. A client that leaves ends it wherever it is, and the replica's connection with it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final

from gpuctl.gateway import openai_errors, sse
from gpuctl.gateway.access import Bearer
from gpuctl.gateway.admission import NOBODY, Seat, Ticket
from gpuctl.gateway.answer import EVENTS
from gpuctl.gateway.asked import Asked
from gpuctl.gateway.attempt import Attempt, Headers, Owner
from gpuctl.gateway.gate import UNHEARD
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Replica, Route
from gpuctl.gateway.sink import Sink

if TYPE_CHECKING:
    from gpuctl.gateway.gateway import Gateway

_FOREVER: Final = float("inf")
#: Replicas that one request finds nobody at; each refusal has opened a gate.
_UNSENT: Final = 16


class Exchange(Owner):
    """One request, from the moment it may be served."""

    __slots__ = (
        *("_asked", "_attempt", "_attempt_deadline", "_avoid", "_deadline", "_gateway"),
        *("_last_sent", "_paused", "_priority", "_queued_at", "_route", "_seat", "_sink"),
        *("_suspects", "_ticket", "_unsent", "key", "over", "record"),
    )

    def __init__(
        self, gateway: Gateway, route: Route, asked: Asked, sink: Sink, record: Record
    ) -> None:
        self._gateway = gateway
        self._route = route
        self._asked = asked
        self._sink = sink
        self.record = record
        self.key: Bearer | None = None  # whose request it is
        self.over = False
        self._deadline = _FOREVER
        self._attempt_deadline = _FOREVER
        self._priority = 0
        self._avoid: Set[str] = NOBODY
        self._ticket: Ticket | None = None  # while it waits
        self._seat: Seat | None = None
        self._attempt: Attempt | None = None
        self._unsent = 0  # attempts that found nobody to send it to
        self._suspects: tuple[Attempt, ...] = ()  # each had an error that may be its replica's
        self._queued_at = 0.0
        self._last_sent = 0.0  # a comment, to the client
        self._paused = False

    # 1. The queue.

    def begin(self, priority: int) -> None:
        """Ask for a seat, wait for one, or be refused."""
        terms = self._gateway.terms
        batch = self._asked.way == "whole"
        total = terms.batch_seconds if batch else terms.streaming_seconds
        self._deadline = self.record.began + total
        self._priority = priority
        self._last_sent = self.record.began
        self._gateway.running.add(self)
        self._ask(self.record.began)

    def _ask(self, now: float) -> None:
        self._queued_at = now
        admission, affinity = self._gateway.admission, self._asked.affinity
        whose = self.record.key or self.record.ip
        if (seat := admission.at_once(self._route, whose, self._avoid, affinity, now)) is not None:
            self._seated(seat)
            return
        ticket = Ticket(
            self._route,
            whose,
            self._priority,
            self._avoid,
            affinity,
            now,
            self._deadline,
            self._seated,
            self._refused,
        )
        found = admission.ask(ticket, now)
        if isinstance(found, Seat):
            self._seated(found)
        elif found is not None:
            self._refused(found)
        else:
            self._ticket = ticket
            self._note("queued", now)

    def _refused(self, code: str) -> None:
        self._ticket = None
        if code == "queue_full":
            self._gateway.turned_away += 1
        # Who has tried one was not refused: what was tried has failed.
        self._fail("upstream_failed" if self._avoid and code != "draining" else code)

    # 2. A replica.

    def direct(self, seconds: float) -> None:
        """Ask the operator's endpoints, which give no seats."""
        self._deadline = self.record.began + seconds
        self._gateway.running.add(self)
        self._gateway.turns.ask(self)

    def turn(self, replica: Replica) -> None:
        """Go there, or be refused."""
        now = self._gateway.now()
        if replica.gate.allows(now):
            self._go(replica, now)
        else:
            self._fail("upstream_failed")

    def _seated(self, seat: Seat) -> None:
        self._ticket = None
        self._seat = seat
        now = self._gateway.now()
        self.record.queued_seconds += now - self._queued_at
        if not self._avoid:  # the first
            self._gateway.budget.sent(now)
        self._go(seat.replica, now)

    def _go(self, replica: Replica, now: float) -> None:
        most = self._gateway.terms.attempt_seconds
        self._attempt_deadline = _FOREVER if most is None else now + most
        attempt = Attempt(self._gateway, replica, self._asked, self._sink, self.record)
        self._attempt = attempt
        attempt.begin(self, now)

    def answered(self, now: float) -> None:
        """Know that the whole answer went to the sink."""
        attempt = self._attempt
        assert attempt is not None
        attempt.replica.gate.succeeded(attempt.token)
        attempt.replica.latency.add(now - attempt.sent_at, now)
        for suspect in self._suspects:  # an error that no other had was that replica's own
            self._gateway.blame(suspect.replica, suspect.token, now, "error")
        self._end("answered", now)

    # 3. What went wrong there.

    def erred(self, status: int, headers: Headers, body: bytes, now: float) -> None:
        """Take an engine's error: is it the request's, or the replica's?"""
        attempt = self._attempt
        assert attempt is not None
        answer = openai_errors.mapped_answer(status, body, self.record.model, self.record.endpoint)
        if answer.status == 503:  # it loads, or has died behind its own door
            self.failed("503", refused=False)
            return
        if status < 500 or answer.status < 500:  # who asks, how often, or what
            attempt.replica.gate.dropped(attempt.token)
        else:
            # The replica's only if another one answers the same request: one that no engine can
            # answer must not shut all of them.
            self._suspects = (*self._suspects, attempt)
        if answer.status >= 500:  # one that refuses the gateway's own key too
            self._gateway.failed(attempt.replica, str(status))
            self._note(f"failed {attempt.replica.name} {status}", now)
            tried = self._avoid | {attempt.replica.name}
            if self._route.others(tried) and self._may_retry(now):
                self._again(now)
                return
        self._pass_error(answer, headers, now)

    def _pass_error(self, answer: openai_errors.Answer, headers: Headers, now: float) -> None:
        self.record.error = answer.code
        self.record.seconds = now - self.record.began
        begun = self._sink.begun
        if begun:
            self._cut(answer.body)
        else:
            later = [(b"retry-after", v) for n, v in headers if n.lower() == b"retry-after"]
            kept = [header for header in answer.headers if not later or header[0] != b"retry-after"]
            self.record.completion_tokens = None  # as in `_fail`
            self._sink.whole(answer.status, (*kept, *later), answer.body)
        self._end("cut" if begun else "answered", now)

    def failed(self, why: str, *, refused: bool) -> None:
        """Hold it against the replica, and try another one; *why* as in `attempt.Owner`."""
        now = self._gateway.now()
        attempt = self._attempt
        assert attempt is not None
        replica = attempt.replica
        self._gateway.blame(replica, attempt.token, now, why, refused=refused)
        self._gateway.failed(replica, why)
        self._note(f"failed {replica.name} {why}", now)
        if self._may_retry(now, unsent=not attempt.sent):
            self._again(now)
        else:
            self._fail("upstream_failed")

    def _may_retry(self, now: float, *, unsent: bool = False) -> bool:
        if self._sink.sent or now >= self._deadline:
            return False
        if unsent:  # it is no load, and has ended no engine: it waits for one that is there
            self._unsent += 1
            return self._unsent < _UNSENT
        most = self._gateway.terms.retries if self._asked.way != "pass" else 0
        return self.record.attempts <= most and self._gateway.budget.retry(now)

    def _again(self, now: float) -> None:
        self._avoid = self._avoid | {self.record.replica}
        self._leave()
        self._ask(now)

    def _fail(self, code: str) -> None:
        """Answer that it could not be done, or break off what was begun."""
        now = self._gateway.now()
        if code == "upstream_failed" and self._sink.sent:
            code = "stream_interrupted"
        self.record.error = code
        self.record.seconds = now - self.record.began
        answer = openai_errors.answer(code)
        if self._sink.begun:
            self._cut(answer.body)
            self._end("cut", now)
        else:
            self.record.completion_tokens = None  # what was made was not given to anybody
            self._sink.whole(answer.status, answer.headers, answer.body)
            self._end("refused", now)

    def _cut(self, body: bytes) -> None:
        if self._asked.way == "stream":
            self._sink.spoil(sse.error_event(body))
        else:
            self._sink.cut()

    # 4. Its end.

    def gone(self) -> None:
        """Stop: nobody waits for it any more."""
        if self.over:
            return
        now, attempt = self._gateway.now(), self._attempt
        if attempt is not None and attempt.complete:
            attempt.drop()
            self.answered(now)
            return
        self._stop_there()
        self._end("client_gone", now)

    def stop(self, code: str) -> None:
        """End it now, and say so: the gateway stops."""
        self._stop_there()
        self._fail(code)

    def pause(self) -> None:
        """Send no more for now: the client is slow."""
        self._paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """Go on sending."""
        self._paused = False
        if self._attempt is not None:
            self._attempt.resume(self._gateway.now())

    def sweep(self, now: float) -> None:
        """Look at its deadlines."""
        attempt = self._attempt
        if self.over:
            return
        if now >= self._deadline:
            self._late(now)
        elif attempt is not None and now >= self._attempt_deadline and not self._sink.sent:
            if attempt.first_byte:  # slow, and not silent: as in `_late`
                attempt.token = UNHEARD
            attempt.drop()
            self.failed("timeout", refused=False)
        elif self._asked.way == "stream" and not self._paused:
            self._sweep_stream(now)

    def _sweep_stream(self, now: float) -> None:
        terms, attempt = self._gateway.terms, self._attempt
        heard = self._last_sent  # when the client last was sent anything
        if attempt is not None and attempt.first_byte:
            heard = max(heard, attempt.moved_at)
            if now - attempt.moved_at >= terms.idle_seconds:
                attempt.drop()
                self.failed("timeout", refused=False)
                return
        if now - heard >= terms.keep_alive_interval_seconds:
            self._last_sent = now
            self._note("keep_alive", now)
            if not self._sink.begun:
                self.record.seconds = now - self.record.began
                self._sink.head(200, EVENTS)
            self._sink.comment(sse.KEEP_ALIVE)

    def _late(self, now: float) -> None:
        attempt = self._attempt
        if attempt is not None:
            # One that has said nothing all the while is at fault; one that still talks is not.
            if not attempt.first_byte:
                self._gateway.blame(attempt.replica, attempt.token, now, "timeout")
            self._gateway.failed(attempt.replica, "timeout")
        self._stop_there()
        self._fail("timeout")

    def _stop_there(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._gateway.admission.cancel(ticket)
        if self._attempt is not None:
            self._attempt.replica.gate.dropped(self._attempt.token)
            self._attempt.drop()

    def _leave(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.leave()
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.release()
        else:
            self._gateway.turns.left(self)

    def _end(self, how: str, now: float) -> None:
        self.over = True
        self.record.end = how
        self.record.seconds = now - self.record.began
        self._gateway.running.discard(self)
        for suspect in self._suspects:  # not told yet where a later attempt failed or was late
            suspect.replica.gate.dropped(suspect.token)
        self._leave()
        self._gateway.finished(self.record, self.key, self._asked.body)

    def _note(self, what: str, now: float) -> None:
        self.record.timeline.append((what, now - self.record.began))
