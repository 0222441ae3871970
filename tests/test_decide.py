"""One row per rung of the ladder: a snapshot and a history in, exact actions out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.decide import Decision, Withdrawal, decide
from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import (
    Action,
    Drain,
    GatewayReading,
    GatewayReplica,
    GpuProcess,
    Plan,
    Snapshot,
    Start,
    Stop,
)
from tests import make
from tests.make import INSTANCE, NOW


def decided(now: Snapshot, past: History, plan: Plan | None = None, *held: Any) -> Decision:
    return decide(plan or make.plan(), now, make.conditions(*held), past, INSTANCE)


def terminate(reason: str, name: str = "chat-0", id_: str = "c1") -> Stop:
    return Stop(replica=name, container=id_, reason=reason, step="terminate")


RUNNING = make.snapshot(make.container())
NOTHING = make.snapshot()
EXITED = make.snapshot(make.container(state="exited", exit_code=1))


@pytest.mark.parametrize(
    ("now", "past", "actions"),
    [
        pytest.param(
            make.snapshot(errors={"runtime": "connection refused"}),
            make.history(),
            (),
            id="0-runtime-unread",
        ),
        pytest.param(
            replace(NOTHING, runtime_boot_seconds=None), make.history(), (), id="0-never-read"
        ),
        pytest.param(
            NOTHING,
            make.history(make.started()[0]),
            (),
            id="1-attempt-under-way",
        ),
        pytest.param(
            NOTHING,
            make.history(
                make.event(
                    "attempt", reason="exit_1", attempt="a9", action="start", instance="dead"
                )
            ),
            (Start(replica="chat-0", reason="exit_1", attempt="a9"),),
            id="1-interrupted-start-is-taken-up-again",
        ),
        pytest.param(
            RUNNING,
            make.history(
                make.served(),
                make.event(
                    "attempt",
                    reason="stop",
                    attempt="a9",
                    action="kill",
                    container="c1",
                    instance="dead",
                ),
            ),
            (Stop(replica="chat-0", container="c1", reason="stop", step="kill", attempt="a9"),),
            id="1-interrupted-stop-is-taken-up-again",
        ),
        pytest.param(
            make.snapshot(
                make.container(id_="c2"),
                make.container(id_="c1", name="gpuctl-chat-0.old-c1", state="exited"),
            ),
            make.history(make.served(id_="c2")),
            (Stop(replica="chat-0", container="c1", reason="replaced", step="remove"),),
            id="2-aside-and-ended-is-removed",
        ),
        pytest.param(
            make.snapshot(
                make.container(id_="c2"),
                make.container(id_="c1", name="gpuctl-chat-0.old-c1"),
            ),
            make.history(make.served(id_="c2")),
            (Stop(replica="chat-0", container="c1", reason="replaced", step="kill"),),
            id="2-aside-and-running-is-killed",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served()),
            (),
            id="paused-is-the-operator's",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served(), make.failed()),
            (),
            id="paused-is-not-mended",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.served(), make.event("intent", reason="stop")),
            (terminate("stop"),),
            id="8-paused-is-not-drained",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event("attempt", attempt="t", action="terminate", container="c1"),
                make.event("done", attempt="t", container="c1"),
            ),
            (Stop(replica="chat-0", container="c1", reason="grace_over", step="kill"),),
            id="8-paused-has-no-grace",
        ),
        pytest.param(
            make.snapshot(make.container(state="paused")),
            make.history(make.event("intent", reason="down")),
            (terminate("down"),),
            id="8-paused-before-it-was-adopted",
        ),
        pytest.param(
            NOTHING, make.history(make.event("intent", reason="stop")), (), id="3-not-wanted"
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.event("intent", subject="", reason="down")),
            (Stop(replica="chat-0", container="c1", reason="down", step="remove"),),
            id="3-what-is-left-after-down-is-removed",
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.event("intent", reason="stop")),
            (),
            id="3-what-is-left-after-stop-is-kept",
        ),
        pytest.param(
            NOTHING, make.history(), (Start(replica="chat-0", reason="wanted"),), id="5-first-start"
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.failed()),
            (
                Start(
                    replica="chat-0",
                    reason="exit_1",
                    restart=True,
                    evidence={"container": "c1", "failures": 1},
                ),
            ),
            id="5-restart-at-once-after-the-first-failure",
        ),
        pytest.param(
            EXITED,
            make.history(make.served(), make.failed(reason="runtime_restarted", failures=0)),
            (
                Start(
                    replica="chat-0",
                    reason="runtime_restarted",
                    evidence={"container": "c1", "failures": 0},
                ),
            ),
            id="5-an-excused-failure-is-no-restart",
        ),
        pytest.param(RUNNING, make.history(make.served()), (), id="6-running-as-wanted"),
        pytest.param(
            make.snapshot(make.container(id_="new")),
            make.history(make.served()),
            (),
            id="6-not-adopted-yet",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.failed(reason="health_refused")),
            (terminate("health_refused"),),
            id="7-failed-goes-without-a-drain",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.event("intent", reason="stop")),
            (
                Drain(replica="chat-0", container="c1", reason="stop", deadline_seconds=30.0),
            ),
            id="7-stop-drains-first",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), make.event("intent", subject="chat", reason="renew")),
            (
                Drain(replica="chat-0", container="c1", reason="renew", deadline_seconds=30.0),
            ),
            id="7-renew",
        ),
        pytest.param(
            make.snapshot(make.container(digest="v1:old")),
            make.history(make.served()),
            (
                Drain(
                    replica="chat-0",
                    container="c1",
                    reason="profile_changed",
                    deadline_seconds=30.0,
                ),
            ),
            id="7-profile-changed",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=2)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 5,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (),
            id="8-draining-and-busy",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=0)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 5,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (terminate("stop"),),
            id="8-drained",
        ),
        pytest.param(
            make.snapshot(make.container(), probes=[make.probe(in_flight=2)]),
            make.history(
                make.served(),
                make.event("intent", reason="stop"),
                make.event(
                    "attempt",
                    reason="stop",
                    at=NOW - 31,
                    action="drain",
                    container="c1",
                    deadline_seconds=30.0,
                ),
            ),
            (terminate("stop"),),
            id="8-past-its-drain-deadline",
        ),
    ],
)  # fmt: skip
def test_ladder(now: Snapshot, past: History, actions: tuple[Action, ...]) -> None:
    """Each rung gives exactly its actions."""
    assert decided(now, past).actions == actions


CUT_OFF = make.event("attempt", reason="exit_1", attempt="a9", action="start", instance="dead")
UNWANTED = make.event("intent", reason="stop")


@pytest.mark.parametrize(
    ("now", "past", "held", "reason"),
    [
        pytest.param(NOTHING, [UNWANTED], [], "stop", id="stopped-since"),
        pytest.param(
            make.snapshot(make.container(state="created", attempt="a9")),
            [make.event("intent", "", "down")],
            [],
            "down",
            id="created-and-down-since",
        ),
        pytest.param(
            make.snapshot(make.container(attempt="a9")), [UNWANTED], [], "", id="runs-already"
        ),
        pytest.param(
            make.snapshot(make.container(attempt="a1")), [UNWANTED], [], "stop", id="another-runs"
        ),
        pytest.param(
            NOTHING,
            [],
            [make.condition("xid", "GPU-0", remedy="avoid")],
            "gpu_avoided",
            id="its-gpu-is-avoided",
        ),
    ],
)
def test_an_interrupted_start_is_looked_at_again(
    now: Snapshot, past: list[Any], held: list[Any], reason: str
) -> None:
    """What nobody wants any more, or must not be, is withdrawn; what has happened is told."""
    decision = decided(now, make.history(CUT_OFF, past), None, *held)
    if reason:
        closed = Withdrawal(replica="chat-0", attempt="a9", reason=reason)
        assert (decision.actions, decision.withdrawn) == ((), (closed,))
    else:
        assert decision.actions == (Start(replica="chat-0", reason="exit_1", attempt="a9"),)


def test_what_was_begun_for_a_replica_that_has_left_the_profile_is_ended() -> None:
    """A start is withdrawn, a stop taken up again, though nothing of the replica is left."""
    start = replace(CUT_OFF, subject="old-0")
    decision = decided(RUNNING, make.history(make.served(), start))
    assert decision.withdrawn == (
        Withdrawal(replica="old-0", attempt="a9", reason="not_in_profile"),
    )
    told: dict[str, Any] = {"attempt": "a9", "action": "remove", "container": "c9"}
    stop = make.event("attempt", "old-0", "not_in_profile", instance="dead", **told)
    assert decided(RUNNING, make.history(make.served(), stop)).actions == (
        Stop(
            replica="old-0",
            container="c9",
            reason="not_in_profile",
            step="remove",
            attempt="a9",
        ),
    )


def imageless(*more: Any, instance: str = INSTANCE) -> History:
    """A start of chat-0 found no image, and the fetching of it has begun if *more* says so."""
    start: dict[str, Any] = {"attempt": "a1", "action": "start", "instance": instance}
    missing = make.event("undone", attempt="a1", missing_image="engine:1")
    return make.history(make.event("attempt", reason="wanted", **start), missing, *more)


def fetch(instance: str = INSTANCE) -> Any:
    return make.event("attempt", attempt="f1", action="fetch", instance=instance)


FETCHES = Wait(reason="fetching_image", evidence={"image": "engine:1"})


def test_a_missing_image_is_fetched_while_others_load() -> None:
    """Fetching takes no slot and waits for none; a start of the same image waits for it."""
    plan = make.plan(
        make.replica("chat-0"),
        make.replica("chat-1"),
        make.replica("embed-0", spec=replace(make.replica().spec, image="other:1")),
        watchdog=replace(make.SETTINGS, loads_at_once=1, load_spacing_seconds=5.0),
    )
    later = make.snapshot(boot_seconds=NOW + 5)
    fetching = Start(replica="chat-0", reason="wanted", step="fetch")
    other = Start(replica="embed-0", reason="wanted")
    decision = decided(later, imageless(), plan)
    assert decision.actions == (fetching, other)
    assert decision.waits == {"chat-1": FETCHES}
    under_way = decided(later, imageless(fetch()), plan)
    assert under_way.actions == (other,)
    assert under_way.waits == {"chat-0": FETCHES, "chat-1": FETCHES}


def test_an_image_that_could_not_be_fetched_waits_its_turn() -> None:
    """A pull that failed counts, and is tried again after the back-off."""
    past = imageless(
        fetch(), make.event("undone", reason="start_refused", attempt="f1", failures=2)
    )
    later = make.snapshot(boot_seconds=NOW + 9)
    assert decided(later, past).waits["chat-0"].reason == "backoff"
    later = make.snapshot(boot_seconds=NOW + 10)
    (again,) = decided(later, past).actions
    assert isinstance(again, Start)
    assert (again.step, again.reason) == ("fetch", "start_refused")


@pytest.mark.parametrize(
    ("now", "past", "plan", "reason"),
    [
        pytest.param(NOTHING, imageless(fetch("dead")), make.plan(), "daemon_ended", id="daemon"),
        pytest.param(NOTHING, imageless(fetch(), UNWANTED), make.plan(), "stop", id="stopped"),
        pytest.param(RUNNING, imageless(fetch()), make.plan(), "runs_already", id="runs"),
        pytest.param(
            NOTHING,
            imageless(fetch()),
            make.plan(make.replica(spec=replace(make.replica().spec, image="engine:2"))),
            "profile_changed",
            id="another-image",
        ),
        pytest.param(
            NOTHING, imageless(fetch()), make.plan(make.replica("x-0")), "not_in_profile", id="gone"
        ),
    ],
)
def test_an_image_that_nobody_waits_for_holds_up_nothing(
    now: Snapshot, past: History, plan: Plan, reason: str
) -> None:
    """The fetching is withdrawn, and the replica is free for what is decided next."""
    decision = decided(now, past, plan)
    assert decision.withdrawn == (Withdrawal(replica="chat-0", attempt="f1", reason=reason),)
    assert "chat-0" not in {a.replica for a in decision.actions}


def terminated(at: float, *, failed: bool) -> History:
    why = [make.failed(at=at)] if failed else [make.event("intent", reason="stop", at=at)]
    return make.history(
        make.served(),
        why,
        make.event("attempt", reason="x", at=at, attempt="t", action="terminate", container="c1"),
        make.event("done", reason="x", at=at, attempt="t", container="c1"),
    )


@pytest.mark.parametrize(
    ("failed", "seconds", "killed"),
    [
        pytest.param(True, 4, False, id="failed-within-its-grace"),
        pytest.param(True, 5, True, id="failed-past-its-grace"),
        pytest.param(False, 29, False, id="stopped-within-its-grace"),
        pytest.param(False, 30, True, id="stopped-past-its-grace"),
    ],
)
def test_kill_after_the_grace(failed: bool, seconds: float, killed: bool) -> None:
    """SIGKILL follows SIGTERM after 30 s, and after 5 s for a replica that has failed."""
    kill = Stop(replica="chat-0", container="c1", reason="grace_over", step="kill")
    actions = decided(RUNNING, terminated(NOW - seconds, failed=failed)).actions
    assert actions == ((kill,) if killed else ())


def test_a_kill_without_effect_is_repeated_slowly() -> None:
    """A container that survives SIGKILL is sent it again after a minute, not in a hot loop."""
    past = make.history(
        make.served(),
        make.failed(at=NOW - 100),
        *(
            make.event(kind, reason="x", at=at, attempt=step, action=step, container="c1")
            for step, at in (("terminate", NOW - 90), ("kill", NOW - 30))
            for kind in ("attempt", "done")
        ),
    )
    later = make.snapshot(make.container(), boot_seconds=NOW + 31)
    assert decided(RUNNING, past).actions == ()
    assert [type(a) for a in decided(later, past).actions] == [Stop]


@pytest.mark.parametrize(
    ("failures", "seconds", "wait"),
    [
        pytest.param(1, 0, None, id="first-at-once"),
        pytest.param(2, 9, "backoff", id="second-waits-10-s"),
        pytest.param(2, 10, None, id="second-after-10-s"),
        pytest.param(5, 79, "backoff", id="fifth-waits-80-s"),
        pytest.param(5, 80, None, id="fifth-after-80-s"),
        pytest.param(6, 899, "crash_loop", id="sixth-is-a-crash-loop"),
        pytest.param(6, 900, None, id="crash-loop-tries-every-900-s"),
        pytest.param(60, 900, None, id="and-for-ever"),
    ],
)
def test_back_off(failures: int, seconds: float, wait: str | None) -> None:
    """Restarts wait 0, 10, 20, 40, 80 s; from the sixth failure in a row on, 900 s."""
    past = make.history(make.served(), make.failed(at=NOW - seconds, failures=failures))
    decision = decided(EXITED, past)
    found = decision.waits.get("chat-0")
    assert (found.reason if found else None) == wait
    assert bool(decision.actions) == (wait is None)


def test_back_off_tells_when_it_tries_next() -> None:
    """What waits for its back-off knows until when, in boot seconds."""
    past = make.history(make.served(), make.failed(at=NOW - 1, failures=3))
    assert decided(EXITED, past).waits == {
        "chat-0": Wait(
            reason="backoff", until=NOW + 19, evidence={"failures": 3, "after": "exit_1"}
        )
    }


@pytest.mark.parametrize("verb", ["run", "up", "renew"])
def test_an_operator_does_not_wait_for_the_back_off(verb: str) -> None:
    """Asking for a replica again wipes the slate, and is no restart after a failure."""
    past = make.history(
        make.served(),
        make.failed(at=NOW - 2, failures=9),
        make.event("intent", reason=verb, at=NOW - 1),
    )
    assert decided(EXITED, past).actions == (Start(replica="chat-0", reason=verb),)


def test_an_avoided_gpu_takes_no_start() -> None:
    """A replica whose GPU is off the bus is not started there."""
    lost = make.condition("gpu_missing", "GPU-0", reason="gpu_lost", remedy="avoid")
    decision = decided(NOTHING, make.history(), None, lost)
    assert decision.actions == ()
    assert decision.waits["chat-0"].reason == "gpu_avoided"


def eight(**settings: Any) -> Plan:
    replicas = [make.replica(f"chat-{i}", gpus=(i,)) for i in range(8)]
    return make.plan(*replicas, watchdog=replace(make.SETTINGS, **settings))


def test_at_most_two_cold_loads_at_once() -> None:
    """Of eight replicas two are started; the others wait for a slot."""
    decision = decided(NOTHING, make.history(), eight(loads_at_once=2))
    assert [a.replica for a in decision.actions] == ["chat-0", "chat-1"]
    assert {wait.reason for wait in decision.waits.values()} == {"load_slots_taken"}


def test_cold_loads_are_spaced() -> None:
    """One start a tick, and the next not before five seconds have passed."""
    plan = eight(load_spacing_seconds=5.0)
    first = decided(NOTHING, make.history(), plan)
    assert [a.replica for a in first.actions] == ["chat-0"]
    assert first.waits["chat-1"] == Wait(reason="load_spacing", until=NOW + 5)
    past = make.history(make.started("chat-0", at=NOW - 5))
    later = decided(make.snapshot(make.container()), past, plan)
    assert [a.replica for a in later.actions] == ["chat-1"]


def test_a_host_fault_holds_starts_but_for_probes() -> None:
    """In a host fault one start is tried at once, the next after 60 s, then every 300 s."""
    past = make.history(make.event("host_fault", "host", at=NOW))
    plan = eight()

    def starts(at: float, known: History) -> list[str]:
        now = make.snapshot(boot_seconds=at)
        return [a.replica for a in decided(now, known, plan).actions]

    assert starts(NOW, past) == ["chat-0"]
    tried = make.history(
        make.event("host_fault", "host", at=NOW),
        make.event("attempt", "chat-0", at=NOW, attempt="1", action="start"),
        make.event("undone", "chat-0", at=NOW, attempt="1"),
    )
    assert starts(NOW + 59, tried) == []
    assert starts(NOW + 60, tried) == ["chat-0"]
    twice = make.history(
        make.event("host_fault", "host", at=NOW),
        *(
            make.event(kind, "chat-0", at=at, attempt=str(at), action="start")
            for at in (NOW, NOW + 60)
            for kind in ("attempt", "undone")
        ),
    )
    assert starts(NOW + 359, twice) == []
    assert starts(NOW + 360, twice) == ["chat-0"]


HOLDER = make.gpu(
    processes=[GpuProcess(pid=41, used_bytes=5 * make.MIB, container="c1", name="llama-server")]
)


def test_a_start_waits_for_the_old_process_to_let_go_of_its_vram() -> None:
    """While the dead container's process holds VRAM nothing starts there, and it is named."""
    now = make.snapshot(make.container(state="exited", exit_code=137), gpus=[HOLDER])
    past = make.history(make.served(), make.failed(reason="killed", at=NOW - 3))
    decision = decided(now, past)
    assert decision.actions == ()
    assert decision.waits["chat-0"].reason == "vram_held"
    assert decision.waits["chat-0"].evidence == {
        "gpu": "GPU-0",
        "pid": 41,
        "process": "llama-server",
        "vram_bytes": 5 * make.MIB,
    }


def test_unreadable_gpus_do_not_hold_a_start() -> None:
    """Where NVML cannot be read the start goes ahead; the condition says so."""
    dead = make.container(state="exited", exit_code=137)
    now = make.snapshot(dead, gpus=[HOLDER], errors={"gpus": "no answer for 9 s"})
    past = make.history(make.served(), make.failed(reason="killed", at=NOW - 3))
    assert [type(a) for a in decided(now, past).actions] == [Start]


def test_one_voluntary_drain_per_workload_while_a_sibling_is_not_ready() -> None:
    """Three replicas with a changed profile go one at a time."""
    replicas = [make.replica(f"chat-{i}", gpus=(i,)) for i in range(3)]
    containers = [make.container(f"chat-{i}", f"c{i}", digest="v1:old") for i in range(3)]
    past = make.history(*(make.served(f"chat-{i}", f"c{i}") for i in range(3)))
    decision = decided(make.snapshot(*containers), past, make.plan(*replicas))
    assert [a.replica for a in decision.actions] == ["chat-0"]
    assert {n: w.reason for n, w in decision.waits.items()} == {
        "chat-1": "sibling_not_ready",
        "chat-2": "sibling_not_ready",
    }


@pytest.mark.parametrize("past", [(), (make.event("intent", subject="", reason="up"),)])
def test_outdated_alone_is_no_reason_to_go(past: tuple[Any, ...]) -> None:
    """A container started with other defaults stays: an `up` of before did not mean these."""
    plan = make.plan(make.replica(spec_digest="b"))
    assert decided(RUNNING, make.history(make.served(), *past), plan).actions == ()


def test_a_gateway_in_front_knows_when_a_replica_is_drained() -> None:
    """With a gateway, its count decides; a replica it does not know has nothing in flight."""
    past = make.history(
        make.served(),
        make.event("intent", reason="stop"),
        make.event("attempt", reason="stop", action="drain", container="c1", deadline_seconds=30.0),
    )
    for in_flight, actions in ((1, ()), (0, (terminate("stop"),))):
        through = {"chat-0": GatewayReplica(in_flight=in_flight)}
        gateway = GatewayReading(instance=INSTANCE, replicas=through)
        now = make.snapshot(make.container(), probes=[make.probe(in_flight=3)], gateway=gateway)
        assert decided(now, past).actions == actions


def test_a_container_of_no_replica_in_the_plan_is_stopped_and_removed() -> None:
    """What an earlier profile left is terminated, killed after the grace, and removed."""
    stranger = make.container("old-0", "c9")
    past = make.history(make.served())
    ours = make.container()
    assert decided(make.snapshot(ours, stranger), past).actions == (
        terminate("not_in_profile", "old-0", "c9"),
    )
    ended = replace(stranger, state="exited")
    assert decided(make.snapshot(ours, ended), past).actions == (
        Stop(replica="old-0", container="c9", reason="not_in_profile", step="remove"),
    )


def test_caution_keeps_what_runs_and_starts_nothing_else() -> None:
    """After the events were lost nothing that was down is started before the next `up`."""
    cautious = make.history(make.event("adopted", container="c1"), cautious=True)
    assert decided(RUNNING, cautious).actions == ()
    assert [type(a) for a in decided(EXITED, cautious).actions] == [Start]
    assert decided(EXITED, make.history(cautious=True)).actions == ()
    asked = make.history(make.event("intent", subject="", reason="up"), cautious=True)
    assert [type(a) for a in decided(EXITED, asked).actions] == [Start]


def test_an_action_that_failed_is_not_repeated_in_a_hot_loop() -> None:
    """What the runtime would not do waits for the next interval."""
    past = make.history(
        make.started(at=NOW - 1)[0], make.event("undone", at=NOW - 1, attempt="s-c1")
    )
    wait = Wait(reason="action_failed", until=NOW + 4)
    assert decided(NOTHING, past).waits == {"chat-0": wait}
    later = make.snapshot(boot_seconds=NOW + 4)
    assert [type(a) for a in decided(later, past).actions] == [Start]


def test_an_aside_that_will_not_die_holds_the_start() -> None:
    """While the old container survives SIGKILL no second one of the replica is started."""
    aside = make.container(id_="c0", name="gpuctl-chat-0.old-c0")
    past = make.history(
        make.served(),
        make.failed(at=NOW - 10),
        make.event("attempt", at=NOW - 10, attempt="k", action="kill", container="c0"),
        make.event("done", at=NOW - 10, attempt="k", container="c0"),
    )
    decision = decided(make.snapshot(make.container(state="exited"), aside), past)
    assert decision.actions == ()
    assert decision.waits["chat-0"].reason == "old_container_runs"


DRAINING = (
    make.served(),
    make.event("intent", reason="stop"),
    make.event(
        "attempt", reason="stop", instance=INSTANCE, action="drain", container="c1",
        deadline_seconds=30.0, seq=7,
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("gateway", "gone"),
    [
        pytest.param(GatewayReading(instance="dead", seq=99), False, id="of-another-daemon"),
        pytest.param(GatewayReading(instance=INSTANCE, seq=6), False, id="an-older-status"),
        pytest.param(GatewayReading(instance=INSTANCE, seq=7), True, id="the-draining-status"),
    ],
)
def test_a_gateway_that_has_not_seen_the_drain_is_waited_for(
    gateway: GatewayReading, gone: bool
) -> None:
    """Until it has read the Status that drains a replica it may still send it requests."""
    now = make.snapshot(make.container(), gateway=gateway)
    actions = decided(now, make.history(*DRAINING)).actions
    assert actions == ((terminate("stop"),) if gone else ())


def test_without_a_gateway_or_an_answer_there_is_nothing_to_wait_for() -> None:
    """A draining replica that was never asked, or does not answer, is stopped at once."""
    past = make.history(*DRAINING)
    refused = make.probe(outcome="refused", in_flight=3)
    for probes in ([], [refused], [make.probe(in_flight=None)]):
        now = make.snapshot(make.container(), probes=probes)
        assert decided(now, past).actions == (terminate("stop"),)
