"""What holds of every decision, whatever the past, the present and the conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.decide import Decision, decide
from gpuctl.gates import StartGates
from gpuctl.history import History
from gpuctl.model import (
    Condition,
    Drain,
    Event,
    GatewayReading,
    GatewayReplica,
    GpuProcess,
    Plan,
    Snapshot,
    Start,
    Stop,
    WatchdogSettings,
)
from gpuctl.wanted import desired
from tests import make
from tests.make import INSTANCE, NOW

NAMES = ("chat-0", "chat-1", "embed-0")
SETTINGS = WatchdogSettings()
PLAN = make.plan(
    *(make.replica(name, gpus=(index % 2,)) for index, name in enumerate(NAMES)),
    watchdog=SETTINGS,
)

names = st.sampled_from((*NAMES, "old-0"))
ids = st.sampled_from(("c1", "c1", "c2"))
times = st.floats(0.0, NOW, allow_nan=False)
kinds = st.sampled_from(
    [
        *("attempt", "attempt", "attempt", "done", "done", "undone"),
        *("failed", "ready", "adopted", "intent", "host_fault", "host_ok"),
    ]
)
errors = st.sampled_from(((), (), (), ("runtime",), ("gpus",)))
instances = st.sampled_from((INSTANCE, "a-dead-daemon"))


@st.composite
def some_event(draw: st.DrawFn) -> Event:
    """One event of any kind that a history listens to."""
    kind = draw(kinds)
    evidence: dict[str, Any] = {"container": draw(ids), "attempt": draw(st.sampled_from("ab"))}
    subject, reason = draw(names), draw(st.sampled_from(("exit_1", "wanted")))
    match kind:
        case "attempt":
            evidence["action"] = draw(
                st.sampled_from(("start", "start", "fetch", "terminate", "kill", "remove", "drain"))
            )
            evidence |= {"instance": draw(instances), "deadline_seconds": 30.0, "seq": 5}
            evidence["restart"] = draw(st.booleans())
        case "failed" | "undone":
            evidence["failures"] = draw(st.integers(0, 9))
            evidence["missing_image"] = draw(st.sampled_from(("", "", "engine:1", "other:1")))
        case "intent":
            subject = draw(st.sampled_from((*NAMES, "chat", "embed", "")))
            reason = draw(st.sampled_from(("run", "stop", "up", "down", "renew", "renew")))
    return make.event(kind, subject, reason, draw(times), **evidence)


@st.composite
def pasts(draw: st.DrawFn) -> History:
    """Any past, in its order."""
    events = draw(st.lists(some_event(), max_size=25))
    events += [event for name in draw(st.sets(names)) for event in make.served(name)]
    return make.history(sorted(events, key=lambda e: e.at), cautious=draw(st.booleans()))


STATES = ("created", "running", "running", "paused", "exited", "dead", "removing", "removed")


@st.composite
def presents(draw: st.DrawFn) -> Snapshot:
    """Any present: what runs, what was put aside, what the probes and the GPUs say."""
    containers = []
    for name in draw(st.sets(names)):
        state = draw(st.sampled_from(STATES))
        digest = draw(st.sampled_from(("v1:a", "v1:old")))
        containers.append(make.container(name, draw(ids), state=state, digest=digest))
        if draw(st.booleans()):
            aside = draw(st.sampled_from(STATES[:-1]))
            containers.append(make.container(name, "c0", name=f"gpuctl-{name}.old-c0", state=aside))
    holder = GpuProcess(pid=7, used_bytes=9, container=draw(st.none() | ids))
    through = {
        name: GatewayReplica(in_flight=draw(st.integers(0, 1))) for name in draw(st.sets(names))
    }
    gateway = GatewayReading(
        instance=draw(instances), seq=draw(st.integers(0, 9)), replicas=through
    )
    return replace(
        make.snapshot(
            *containers,
            gpus=[make.gpu(0, processes=[holder]), make.gpu(1)],
            probes=[
                make.probe(name, draw(ids), in_flight=draw(st.integers(0, 2))) for name in NAMES
            ],
            errors={source: "x" for source in draw(errors)},
            gateway=draw(st.none() | st.just(gateway)),
        ),
        runtime_boot_seconds=draw(st.sampled_from((NOW, NOW, NOW, None))),
    )


@st.composite
def conditions(draw: st.DrawFn) -> list[Condition]:
    """Some GPUs to avoid, some replicas unwell."""
    avoided = draw(st.sets(st.sampled_from(("GPU-0", "GPU-1"))))
    unwell = draw(st.sets(st.sampled_from(NAMES)))
    return [
        *(make.condition("gpu_missing", uuid, remedy="avoid") for uuid in avoided),
        *(make.condition("health", name, remedy="restart") for name in unwell),
    ]


def decided(past: History, now: Snapshot, held: list[Condition], plan: Plan = PLAN) -> Decision:
    return decide(plan, now, make.conditions(*held), past, INSTANCE)


@given(past=pasts(), now=presents(), held=conditions())
@settings(max_examples=100, deadline=None)
def test_what_holds_of_every_decision(past: History, now: Snapshot, held: list[Condition]) -> None:
    """
    A decision is a function of its input, and does no harm.

    It does at most one thing to a replica, nothing where the runtime is unread, and starts only
    what is wanted, does not run, and has a free GPU and a free slot.
    """
    decision = decided(past, now, held)
    assert decided(past, now, held) == decision

    replicas = [action.replica for action in decision.actions]
    assert len(replicas) == len(set(replicas))
    if now.runtime_boot_seconds is None or "runtime" in now.errors:
        assert decision.actions == ()

    avoided = {c.verdict.subject for c in held if c.verdict.remedy == "avoid"}
    fresh = [a for a in decision.actions if isinstance(a, Start) and not a.attempt]
    for start in fresh:
        replica = PLAN.replica(start.replica)
        assert replica is not None
        container = now.own(replica.name)
        assert container is None or container.state not in ("running", "paused")
        assert desired(past, replica, running=False)
        assert not avoided & {gpu.uuid for gpu in replica.gpus}
        assert past.replica(replica.name).attempt is None

    loads = [start for start in fresh if start.step == "start"]
    before = StartGates(PLAN, now, {}, past).loading
    assert before + len(loads) <= max(before, SETTINGS.loads_at_once)
    assert len(loads) <= 1  # they are spaced
    assert len(fresh) - len(loads) <= 1  # all are of one image


@given(past=pasts(), now=presents(), held=conditions())
@settings(max_examples=100, deadline=None)
def test_only_what_is_there_is_stopped(past: History, now: Snapshot, held: list[Condition]) -> None:
    """A Stop or a Drain names a container that was seen, or is a dead daemon's step."""
    for action in decided(past, now, held).actions:
        if isinstance(action, Start):
            continue
        own = now.own(action.replica)
        seen = {
            c.id: c.state for c in (*([own] if own else []), *now.aside.get(action.replica, ()))
        }
        attempt = past.replica(action.replica).attempt
        if attempt is not None and attempt.instance != INSTANCE and attempt.action != "start":
            assert action.container == attempt.container
            continue
        assert action.container in seen
        if isinstance(action, Drain) or (isinstance(action, Stop) and action.step != "remove"):
            assert seen[action.container] in ("running", "paused")


@given(ready=st.lists(times, min_size=3, max_size=3), asked=st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_converged_host_is_left_alone(ready: list[float], asked: bool) -> None:
    """Every wanted replica is ready, as planned and known: nothing is done, nothing waits."""
    events: list[Event] = [make.event("intent", "", "up", 0.0)] if asked else []
    for name, at in zip(NAMES, ready, strict=True):
        events += make.served(name, f"c-{name}", at)
    now = make.snapshot(*(make.container(name, f"c-{name}") for name in NAMES))
    assert decided(make.history(events), now, []) == Decision(waits={})
