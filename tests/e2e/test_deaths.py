"""Every way a container can die: one restart, the right reason, the evidence in `why`."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.engine_record import EngineRecord, overlap
from tests.e2e.host import P106_TENTH, Host, workload
from tests.rig.dockerd import PrivateEngine
from tests.rig.http import order
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.nvml]

PORT = 18081
LAST_WORDS = "gpusim: an illegal memory access was encountered"
KEPT_LINES = 200
#: A busy Docker tells of a death later than two probes are refused half a second apart.
WATCHDOG = P106_TENTH.replace('hard = "500ms"', 'hard = "2s"')


@pytest.fixture(scope="module")
def record(engine: PrivateEngine) -> Iterator[EngineRecord]:
    with EngineRecord(engine) as followed:
        yield followed


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, record: EngineRecord) -> Iterator[Host]:
    with Host(engine) as started:
        tables = workload("chat", port=PORT, gpus=[0, 1, 2], memory="256m", memory_swap="256m")
        started.up(started.profile(tables, watchdog=WATCHDOG))
        yield started


@pytest.fixture(autouse=True)
def _vram_comes_back(host: Host) -> Iterator[None]:
    yield
    host.vram_lost.clear()


@dataclass(frozen=True, kw_only=True)
class Restart:
    """What is told of one death of chat-0, after all came to rest."""

    old: str  # the container
    failure: dict[str, Any]  # the one `failed` event
    why: str


def one_restart(
    host: Host, record: EngineRecord, fault: Callable[[Host], None], *, seconds: float = 20.0
) -> Restart:
    """
    Do *fault* to chat-0, and wait until it serves again and nothing is under way.

    By the engine's own record its container died, then one other started, and nothing else
    happened to any replica.
    """
    host.run("restart", "chat-0")  # forgives what the tests before did to it
    host.wait_phase("chat-0")
    host.wait_calm("chat-0")
    order(PORT, print=LAST_WORDS)
    before, told, since = host.containers(), len(host.events("failed")), time.time()
    old = before["chat-0"][0]
    fault(host)
    new = host.wait_replaced("chat-0", old, seconds=seconds)
    host.wait_calm("chat-0")
    lives = [("chat-0", "die", old), ("chat-0", "start", new)]
    wait_for(lambda: lives[-1] in record.lives(since), "the engine to tell of the start")
    assert record.lives(since) == lives
    after = host.containers()
    assert after.pop("chat-0")[0] == new
    del before["chat-0"]
    assert after == before
    (failure,) = host.events("failed")[told:]
    assert failure["subject"] == "chat-0"
    return Restart(old=old, failure=failure, why=host.run("why", "chat-0").out)


def killed(host: Host) -> None:
    host.client.kill("gpuctl-chat-0")


def removed(host: Host) -> None:
    host.client.remove_container("gpuctl-chat-0", force=True)


def frozen(host: Host) -> None:
    os.kill(host.pid_of("chat-0"), signal.SIGSTOP)


def vram_gone(host: Host) -> None:
    """Take the model out of VRAM once it is known what it holds there."""
    container = host.containers()["chat-0"][0]

    def settled() -> bool:
        known = host.events("baseline", subject="chat-0")
        return any(event["evidence"]["container"] == container for event in known)

    wait_for(settled, "a baseline")
    host.vram_lost.add("chat-0")


#: Lines of `why`, as expressions: what a container says when it has ended by itself.
def ended(code: int) -> tuple[str, ...]:
    return ("check: stopped", "state: exited", f"exit code: {code}", "oom killed: no")


REFUSED = r"answer: (connection refused|closed without an answer)"
KEPT = re.escape(f"| {LAST_WORDS}")


@pytest.mark.parametrize(
    ("fault", "reason", "readings", "evidence"),
    [
        pytest.param(killed, "killed", 1, (*ended(137), KEPT), id="docker-kill"),
        pytest.param(lambda _: order(PORT, exit=0), "exit_0", 1, (*ended(0), KEPT), id="exit-0"),
        pytest.param(lambda _: order(PORT, exit=1), "exit_1", 1, (*ended(1), KEPT), id="exit-1"),
        pytest.param(
            # Its log is gone with it.
            removed,
            "removed",
            1,
            ("check: stopped", "removed by: another client", "exit code: 137"),
            id="docker-rm-f",
        ),
        pytest.param(
            lambda _: order(PORT, refuse=True),
            "health_refused",
            2,
            ("check: health", REFUSED, KEPT),
            id="refused",
        ),
        pytest.param(
            lambda _: order(PORT, health_status=500),
            "health_dead",
            2,
            ("check: health", "status: 500", r"answer: HTTP 500 .*error.*", KEPT),
            id="dead",
        ),
        pytest.param(
            frozen,
            "health_timeout",
            6,
            ("check: health", r"answer: no answer within 0\.3 s", "kill, because grace_over", KEPT),
            id="sigstop",
        ),
        pytest.param(
            vram_gone,
            "vram_lost",
            2,
            ("check: vram", "vram: 0 B", "baseline: 4 GiB", KEPT),
            id="vram-gone",
        ),
    ],
)
def test_a_death_is_one_restart(
    host: Host,
    record: EngineRecord,
    fault: Callable[[Host], None],
    reason: str,
    readings: int,
    evidence: tuple[str, ...],
) -> None:
    """It serves again after exactly one restart; the others are untouched; `why` has it all."""
    seen = one_restart(host, record, fault, seconds=40)
    assert seen.failure["reason"] == reason
    counted = seen.failure["evidence"]["readings"]
    assert counted >= readings
    headline, lines = told(seen.why)
    assert headline.startswith(f"chat-0: failed: {reason}; ready again after ")
    for expected in (
        rf"container: {seen.old[:12]}",
        rf"readings: {counted}",
        rf"start, because {reason}",
        *evidence,
    ):
        assert any(re.fullmatch(expected, line) for line in lines), f"{expected}\n{seen.why}"


def told(why: str) -> tuple[str, list[str]]:
    """Return the headline and every line after it, without its label and time."""
    headline, *lines = why.splitlines()
    return headline, [line[30:] for line in lines if line]


def test_out_of_memory_is_one_restart(host: Host, record: EngineRecord) -> None:
    """
    A cgroup OOM is told from a kill by the kernel's log, or where Docker tells of it in time.

    A busy Docker 20.10 does so up to half a second after the exit, and not at all of what is
    removed by then. Where the log may not be read, the replica is started again for what is known:
    killed, and by no client of the engine.
    """
    seen = one_restart(host, record, lambda _: order(PORT, allocate=600 << 20))
    left = host.events("evidence", subject="chat-0")[-1]["evidence"]
    acts = [event["Action"] for event in record.events if event["Actor"]["ID"] == seen.old]
    assert left["container"] == seen.old
    _, lines = told(seen.why)
    assert {"exit code: 137", f"| {LAST_WORDS}"} <= set(lines)
    if "oom" in acts[: acts.index("die")] or kernel_log_is_open():
        assert (seen.failure["reason"], left["oom_killed"]) == ("oom_killed", True)
        assert {"oom killed: yes", "start, because oom_killed"} <= set(lines), seen.why
    else:
        assert (seen.failure["reason"], seen.failure["evidence"]["signalled"]) == ("killed", False)
        assert "start, because killed" in lines, seen.why


def kernel_log_is_open() -> bool:
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_the_last_200_lines_are_kept(host: Host, record: EngineRecord) -> None:
    """Of 300 lines before its death: 200 in the journal and in `logs`, the last ones in `why`."""
    written = [f"line {number}" for number in range(300)]
    seen = one_restart(host, record, lambda _: order(PORT, print="\n".join(written), exit=1))
    kept = written[-KEPT_LINES:]
    left = host.events("evidence", subject="chat-0")[-1]["evidence"]
    assert left["container"] == seen.old
    assert list(left["log"]) == kept
    previous = host.run("logs", "chat-0", "--previous", "--tail", "1000")
    assert previous.out.splitlines() == kept
    shown = [line.removeprefix("| ") for line in told(seen.why)[1] if line.startswith("| ")]
    assert len(shown) >= 10
    assert shown == kept[-len(shown) :]


def test_never_two_of_one_replica_ran_at_once(host: Host, record: EngineRecord) -> None:
    """In the engine's own record of all of the above; and every start of chat-0 had a cause."""
    renewed = [e for e in host.events("intent", subject="chat-0") if e["reason"] == "renew"]
    causes = len(renewed) + len(host.events("failed", subject="chat-0"))
    assert causes >= 2
    starts = {name: record.starts(name) for name in ("chat-0", "chat-1", "chat-2")}
    assert starts == {"chat-0": 1 + causes, "chat-1": 1, "chat-2": 1}
    assert overlap(record.events) == 0.0
