"""What a Status says in one line, and whether all is well."""

from typing import Any

import pytest

from gpuctl.views import summary

NOW = 1_800_000_000.0

#: Of a replica that `down` has ended.
DOWN = {"phase": "stopped", "reason": "down"}


@pytest.mark.parametrize(
    ("changes", "alive", "later", "expected"),
    [
        pytest.param({}, True, 0, "daemon 4242 (0.1.0) · 2 s old", id="alive"),
        pytest.param({}, False, 40, "DAEMON DEAD, last seen 42 s ago", id="dead"),
        pytest.param({}, True, 40, "DAEMON SILENT, status 42 s old", id="silent"),
        pytest.param({"stopping": True}, False, 40, "DAEMON STOPPED 42 s ago", id="stopped"),
    ],
)
def test_daemon(status: Any, changes: Any, alive: bool, later: float, expected: str) -> None:
    """An old Status says how old, and what became of the daemon."""
    assert summary.daemon(status | changes, alive=alive, now=NOW + later) == expected


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("ready", True), ("busy", True), ("stopped", True), ("pending", False), ("loading", False),
        ("degraded", False), ("draining", False), ("backoff", False), ("failed", False),
    ],
)  # fmt: skip
def test_all_well(status: Any, phase: str, expected: bool) -> None:
    """A replica that serves or was stopped on purpose is as its operator wants it."""
    status["replicas"] = [status["replicas"][0] | {"phase": phase}]

    assert summary.all_well(status) is expected


def test_header_of_a_rehearsal(status: Any) -> None:
    """Simulated and observe-only are said first and loudly."""
    line = summary.header(status | {"simulated": True, "mode": "observe"}, alive=True, now=NOW)

    assert line.startswith("SIMULATED · p106x8 · 4 replicas")
    assert "OBSERVE ONLY" in line


@pytest.mark.parametrize(
    ("told", "simulated", "expected"),
    [
        pytest.param(
            {"at": NOW - 5, "listen": "0.0.0.0:80", "in_flight": 3, "queued": 1},
            False,
            "gateway 0.0.0.0:80 · 3 in flight, 1 queued",
            id="there",
        ),
        pytest.param(
            {"at": NOW, "listen": "", "in_flight": 1, "queued": 0},
            False,
            "gateway that ends · 1 in flight, 0 queued",
            id="draining",
        ),
        pytest.param({"at": NOW - 5.1}, False, "gateway 127.0.0.1:4000 · NOT RUNNING", id="old"),
        pytest.param({"at": "now"}, False, "gateway 127.0.0.1:4000 · NOT RUNNING", id="no time"),
        pytest.param({}, False, "gateway 127.0.0.1:4000 · NOT RUNNING", id="none"),
        pytest.param({}, True, "", id="none, simulated"),
    ],
)
def test_gateway(status: Any, told: Any, simulated: bool, expected: str) -> None:
    """Where it listens and what it has to do; loud when it should run and does not."""
    wanted = status | {"gateway": {"listen": "127.0.0.1:4000"}, "simulated": simulated}
    assert summary.gateway(wanted, told, NOW) == expected


@pytest.mark.parametrize(
    ("changes", "told", "expected"),
    [
        pytest.param({}, {"at": NOW - 5, "listen": "0.0.0.0:80"}, True, id="there"),
        pytest.param({}, {"at": NOW, "listen": ""}, False, id="ends"),
        pytest.param({}, {"at": NOW - 5.1, "listen": "0.0.0.0:80"}, False, id="old"),
        pytest.param({}, {}, False, id="none"),
        pytest.param({"gateway": None}, {}, True, id="none is wanted"),
        pytest.param({"simulated": True}, {}, True, id="simulated"),
        pytest.param({"replicas": [DOWN]}, {}, True, id="taken down"),
        pytest.param({"replicas": [DOWN | {"reason": "stop"}]}, {}, False, id="stopped"),
        pytest.param({"replicas": [DOWN | {"phase": "draining"}]}, {}, False, id="not down yet"),
    ],
)
def test_gateway_well(status: Any, changes: Any, told: Any, expected: bool) -> None:
    """One that should listen does, or nobody wants it to."""
    wanted = status | {"gateway": {"listen": "127.0.0.1:4000"}, "simulated": False} | changes
    assert summary.gateway_well(wanted, told, NOW) is expected


def test_an_earlier_version_s_status_wants_no_gateway(status: Any) -> None:
    """It lacks the key."""
    del status["gateway"]
    assert summary.gateway_well(status, {}, NOW)


def test_phases_of_nothing() -> None:
    """A profile without replicas says so."""
    assert summary.phases([]) == "0 replicas"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "", id="well"),
        pytest.param({"reason": "oom_killed"}, "oom_killed", id="reason"),
        pytest.param({"next_attempt_at": NOW + 35}, "next in 35 s", id="waits"),
        pytest.param({"next_attempt_at": NOW - 3}, "next now", id="due"),
        pytest.param({"moved": "gpu_lost"}, "moved: gpu_lost", id="moved"),
        pytest.param({"moved": "scaled"}, "", id="added"),
    ],
)
def test_why(status: Any, changes: Any, expected: str) -> None:
    """The reason for a phase, and when it is tried again."""
    assert summary.why(status["replicas"][1] | changes, NOW) == expected
