"""What a start waits for: its back-off, its GPU, a slot to load in, the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import GpuProcess, Plan, Start
from tests import make
from tests.decide_bench import EXITED, NOTHING, decided
from tests.make import NOW


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
