"""
The loop: observe, judge, record, decide, act, publish. Begin reading the code at `tick`.

One thread decides; samplers and workers run beside it and wake it through one queue. `cli`
composes the World and calls `run`.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import gpuctl
from gpuctl.act import FaultPoint
from gpuctl.arrangement import Arrangement, Setting
from gpuctl.attempts import Attempts, Hire
from gpuctl.decide import Decision, decide
from gpuctl.errors import GpuctlError, StoreError
from gpuctl.failover import failover
from gpuctl.gates import Wait
from gpuctl.guarded import guarded
from gpuctl.inbox import Finished, Message, Request, received
from gpuctl.intents import Body, intents
from gpuctl.journal import Journal
from gpuctl.judge import Conditions, judge, judge_moved
from gpuctl.measuring import measured
from gpuctl.model import Drain, Event, EventKind, Evidence, Plan, Snapshot
from gpuctl.moments import event
from gpuctl.moving import Present
from gpuctl.observe import Latest, observe
from gpuctl.orders import Order, attempt, order
from gpuctl.peaks import Peaks
from gpuctl.plugin import Scene, load_checks
from gpuctl.ports import World
from gpuctl.publishing import Publisher
from gpuctl.sightings import sightings
from gpuctl.sources import Sources
from gpuctl.timing import gpus_wanted, next_tick
from gpuctl.transitions import changes, transitions
from gpuctl.trends import Trends
from gpuctl.workers import Workers

log = logging.getLogger("gpuctl")

#: The loop turns at least this often, so that systemd's watchdog (30 s) sees it live.
_TURN_SECONDS = 10.0
#: The first Status waits this long for every source to have said something.
_FIRST_SECONDS = 10.0
#: After a tick that failed.
_RETRY_SECONDS = 1.0
#: A source that was not read for so long, and so many intervals, counts as unread.
_STALE_SECONDS = 30.0
_STALE_INTERVALS = 3
#: An intent is answered within one turn; a client is not kept waiting for ever.
_ANSWER_SECONDS = 10.0


Load = Callable[[], Setting]
Notify = Callable[[str], None]  # "READY=1", "WATCHDOG=1" …, to systemd


class Daemon:
    """The supervisor of one host."""

    def __init__(
        self,
        world: World,
        load: Load,
        *,
        notify: Notify = lambda _: None,
        fault: FaultPoint = lambda _: None,
        simulated: bool = False,
        hire: Hire = Workers,
    ) -> None:
        clock = world.clock
        self._world, self._load, self._notify = world, load, notify
        self.arrangement = Arrangement(load())
        self._checks = load_checks()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._conditions: Conditions = {}
        self._peaks = Peaks(since=clock.boot_seconds())
        self._trends = Trends()
        self._last_tick: float | None = None
        self._next_tick = 0.0
        self._stopping = False
        self.instance = uuid.uuid4().hex
        self.journal = Journal(world.store, clock)
        self._status = Publisher(world, self.journal, self.instance, simulated=simulated)
        self.latest = Latest()
        interval = self.arrangement.setting.plan.watchdog.interval_seconds
        self.sources = Sources(world, self.latest, self._inbox.put, interval)
        self._attempts = Attempts(
            world,
            self.journal,
            finished=lambda id_, outcome: self._inbox.put(Finished(attempt=id_, outcome=outcome)),
            refresh=self.sources.runtime.refresh,
            fault=fault,
            hire=hire,
        )

    def run(self) -> None:
        """Supervise until `stop`."""
        self._say("started", {"version": gpuctl.__version__, "instance": self.instance})
        self.sources.begin()
        self._await_sources()
        ready = False
        while not self._stopping:
            self.turn()
            if not ready and self._status.last is not None:
                ready = True
                self._notify("READY=1")
        self._notify("STOPPING=1")

    def end(self) -> None:
        """Leave everything running, say so, and let go."""
        try:
            self._status.stopping()
            self.journal.record(self._part())
            self._say("stopped", {})
        except StoreError as error:
            log.error("event=not_recorded error=%s", json.dumps(error.message))
        self.sources.end()
        self._attempts.end()
        self._world.runtime.close()
        self._world.gpus.close()
        self._world.store.close()

    def _say(self, reason: str, told: Evidence) -> None:
        told = {"pid": os.getpid(), **told}
        self.journal.record([self.journal.event(EventKind.DAEMON, "daemon", reason, told)])

    def stop(self) -> None:
        """Ask the loop to end; from any thread or a signal handler."""
        self._stopping = True
        self._inbox.put("stop")

    def reload(self) -> None:
        """Ask the loop to read the applied profile again."""
        self._inbox.put("reload")

    def handle(self, body: Body) -> Body:
        """Answer one request of the control socket; called on its thread."""
        request = Request(body=body, answer=Future())
        self._inbox.put(request)
        return request.answer.result(timeout=_ANSWER_SECONDS)

    def turn(self) -> None:
        """Wait for whatever comes first, take it in, and tick."""
        wait = max(0.0, self._next_tick - self._world.clock.boot_seconds())
        self.step(min(wait, _TURN_SECONDS))

    def step(self, wait_seconds: float = 0.0) -> None:
        """
        Take in what has come, waiting for the first message that long, and tick.

        It feeds systemd's watchdog unless a mistake broke the tick off: those may be of what this
        process has come to, and another one does better. A full disk or an engine that is away is
        told, tried again, and would be no different for a new daemon.
        """
        self._take_in(received(self._inbox, wait_seconds))
        self._next_tick = self._world.clock.boot_seconds() + _RETRY_SECONDS
        try:
            self.tick()
        except GpuctlError as error:
            log.error("event=tick_failed error=%s", json.dumps(error.message))
        except Exception:  # one bad tick must not end the watch over all the rest
            log.exception("event=tick_failed")
            return
        self._notify("WATCHDOG=1")

    def tick(self) -> None:
        """One fold, and the only place where anything is decided."""
        began = time.perf_counter()
        plan = self._plan()
        self._attempts.commit(plan, self._board(plan))
        now = self._observed(plan)
        self.journal.record(sightings(now, self.journal.history))  # what the checks judge by
        self._trends = self._trends.with_reading(plan, now, self.journal.history)
        history, trends = self.journal.history, self._trends
        scene = Scene(plan=plan, now=now, history=history, before=self._conditions, trends=trends)
        conditions = judge(self._checks, scene)
        moves = failover(plan, now, conditions, history)
        observing = plan.watchdog.mode == "observe"
        self.journal.record(
            [
                *transitions(plan, now, conditions, history),
                *changes(self._conditions, conditions, now),
                *(() if observing else moves),
                *self._hourly(now),
                *self._measured(plan, now, conditions),
            ]
        )
        self._conditions, plan = conditions, self._plan()
        scene = replace(scene, plan=plan, history=self.journal.history)
        conditions = judge_moved(self._checks, scene, conditions)
        self.journal.record(changes(self._conditions, conditions, now))
        self._conditions = conditions
        decision = decide(plan, now, conditions, self.journal.history, self.instance)
        waits = _said(decision, moves) if observing else self._act(decision, plan, now)
        self._attempts.fetch_ahead(plan, now)
        if gpus_wanted(conditions, waits, now):
            self.sources.hurry_gpus()
        gateway = self.arrangement.setting.profile.gateway
        self._status.publish(
            plan, gateway, now, conditions, waits, self._trends, self._peaks, began
        )
        self._next_tick = next_tick(plan, now, conditions, self.journal.history, waits)

    def _plan(self) -> Plan:
        """Return the plan with what has moved by now."""
        return self.arrangement.plan(self.journal.history.assignments)

    def _await_sources(self) -> None:
        """Wait until every source has spoken, so that the first Status is no guess."""
        end = self._world.clock.boot_seconds() + _FIRST_SECONDS
        while not (self.sources.spoken() or self._stopping):
            left = end - self._world.clock.boot_seconds()
            if left <= 0:
                return
            self._take_in(received(self._inbox, left))

    def _take_in(self, messages: list[Message]) -> None:
        """Heed each message, whatever becomes of the one before."""
        for message in messages:
            guarded("inbox", partial(self._heed, message))

    def _heed(self, message: Message) -> None:
        match message:
            case Finished():
                self._attempts.ended(message.attempt, message.outcome)
            case Request():
                self._answer(message)
            case "reload":
                self._reload()

    def _reload(self) -> None:
        try:
            self._load_again()
        except GpuctlError as error:  # the last good one goes on
            log.error("event=reload_failed error=%s", json.dumps(error.message))

    def _load_again(self) -> None:
        setting = self._load()
        self.arrangement = Arrangement(setting)
        self.sources.pace(setting.plan.watchdog.interval_seconds)

    def _observed(self, plan: Plan) -> Snapshot:
        boot, last = self._world.clock.boot_seconds(), self._last_tick
        gap = last is not None and boot - last > plan.watchdog.tick_gap_seconds
        self._last_tick = boot
        now = self._board(plan, gap=gap)
        self.sources.follow(plan, now, self.journal.history)
        return now

    def _board(self, plan: Plan, *, gap: bool = False) -> Snapshot:
        stale = max(_STALE_SECONDS, _STALE_INTERVALS * plan.watchdog.interval_seconds)
        return observe(self.latest, self._world.clock, gap=gap, stale_seconds=stale)

    def _hourly(self, now: Snapshot) -> tuple[Event, ...]:
        full, self._peaks = self._peaks.with_reading(now).taken(now)
        return tuple(event(now, EventKind.PEAK, gpu, "hour", told) for gpu, told in full.items())

    def _part(self) -> tuple[Event, ...]:
        """Return what the hour that the end cuts short was like."""
        told = self._peaks.so_far().items()
        return tuple(self.journal.event(EventKind.PEAK, gpu, "part", each) for gpu, each in told)

    def _measured(self, plan: Plan, now: Snapshot, conditions: Conditions) -> Iterator[Event]:
        for key, told in measured(plan, now, self.journal.history, conditions).items():
            yield event(now, EventKind.MEASURED, key, "peak", told)

    def _answer(self, request: Request) -> None:
        try:
            request.answer.set_result(self.intend(request.body))
        except GpuctlError as error:
            told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
            request.answer.set_result({"ok": False, **told})

    def intend(self, body: Body) -> Body:
        """Commit one request; it is acted on by the tick that follows. Raises `GpuctlError`."""
        if body["verb"] in ("up", "reload"):
            self._load_again()
        plan = self._plan()
        present = Present(
            plan=plan,
            now=self._board(plan),
            conditions=self._conditions,
            history=self.journal.history,
            arrange=self.arrangement.setting.arrange,
        )
        stored = self.journal.record(intents(body, present, self.journal))
        return {"ok": True, "event": stored[0].id}

    def _act(self, decision: Decision, plan: Plan, now: Snapshot) -> Mapping[str, Wait]:
        """Commit what is decided, then begin it; return what the replicas wait for."""
        if decision.withdrawn:
            self._attempts.withdraw(decision.withdrawn)
            self._inbox.put("withdrawn")  # what follows from it is decided at once
        orders = [
            order(action, plan, plan.replica(action.replica), self.journal.history, _new_id)
            for action in decision.actions
        ]
        seq = self._status.seq + 1
        self.journal.record([attempt(item, self.instance, now, seq) for item in orders])
        for item in orders:
            self._begin(item, plan.watchdog.action_seconds)
        return decision.waits

    def _begin(self, item: Order, seconds: float) -> None:
        if isinstance(item.action, Drain):
            # Nothing to carry out: whether it is idle is what the next tick must know.
            self.sources.probes.hurry(item.action.replica)
            self._inbox.put("drain")
        else:
            self._attempts.begin(item, seconds)


def _said(decision: Decision, moves: tuple[Event, ...]) -> Mapping[str, Wait]:
    """Return what the replicas wait for where nothing is done: first of all, for anybody to act."""
    would = {each.subject: f"moved {each.reason}" for each in moves if each.kind == EventKind.MOVED}
    would |= {action.replica: action.reason for action in decision.actions}
    said = {name: Wait(reason=f"observe_only: {reason}") for name, reason in would.items()}
    return {**decision.waits, **said}


def _new_id() -> str:
    return uuid.uuid4().hex


def run(daemon: Daemon) -> None:
    """Run a daemon until SIGTERM or SIGINT; SIGHUP has it read the applied profile again."""
    signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
    signal.signal(signal.SIGINT, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    try:
        daemon.run()
    finally:
        daemon.end()
