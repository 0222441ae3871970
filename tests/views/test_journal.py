"""Events as text."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest

from gpuctl.model import Event
from gpuctl.views import journal
from tests import make


def test_line(happened: Callable[..., Event]) -> None:
    """One event is one line, its units written out, its machinery left out."""
    event = happened(
        "failed", "chat-3", 0, "oom_killed",
        attempt="a-1", exit_code=137, oom_killed=True, vram_bytes=5 * 2**30, ready_seconds=90.0,
        container="0123456789abcdef", log=("a", "b"), error="",
    )  # fmt: skip

    assert journal.line(event, UTC) == (
        "2027-01-15 08:00:00  chat-3        failed      oom_killed  "
        "(exit code 137, oom killed yes, vram 5 GiB, ready 1 m 30 s, container 0123456789ab)"
    )


def test_nested_evidence(happened: Callable[..., Event]) -> None:
    """Lists and tables in evidence read as words."""
    event = happened(
        "host_fault", "host", 0, "", replicas=["a", "b"], seen_at=1_800_000_000, x={"y": 1}
    )

    assert dict(journal.details(event.evidence, UTC)) == {
        "replicas": "a, b",
        "seen at": "2027-01-15 08:00:00",
        "x": "y 1",
    }


def test_units_within_evidence(happened: Callable[..., Event]) -> None:
    """A process in a list holds GiB, too, and not `vram_bytes 2147483648`."""
    told = [{"pid": 9, "vram_bytes": 2 * 2**30}]

    assert dict(journal.details({"processes": told}, UTC)) == {"processes": "pid 9, vram 2 GiB"}


def test_gpus_stand_in_their_column(happened: Callable[..., Event]) -> None:
    """The name of a GPU is shorter than its UUID, and what follows stands where it always does."""
    events = [happened("xid", "GPU-8c665110", 0, "79"), happened("ready", "chat-3", 0)]

    lines = [journal.line(event, UTC, {"GPU-8c665110": "gpu 3"}) for event in events]

    assert lines == [
        "2027-01-15 08:00:00  gpu 3         xid         79",
        "2027-01-15 08:00:00  chat-3        ready",
    ]


def test_document(happened: Callable[..., Event]) -> None:
    """The JSON of an event has the keys that scripts rely on."""
    made: dict[str, Any] = journal.document(happened("ready", "chat-3", 0, seconds=1.5))

    assert made == {
        "schema": 1,
        "id": 0,
        "at": 1_800_000_000.0,
        "kind": "ready",
        "subject": "chat-3",
        "reason": "",
        "evidence": {"seconds": 1.5},
    }


def test_log_lines() -> None:
    """A log is lines, however it was stored."""
    assert (
        journal.log_lines({"log": "a\nb"}) == journal.log_lines({"log": ["a", "b"]}) == ("a", "b")
    )
    assert journal.log_lines({}) == ()


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        pytest.param({"gpus": ("GPU-5",)}, "(gpus gpu 5)", id="to-a-gpu"),
        pytest.param({"gpus": ()}, "(moved to the CPU)", id="to-the-cpu"),
        pytest.param({"home": ("GPU-5",)}, "(moved back, home gpu 5)", id="home"),
        pytest.param({}, "(taken away)", id="what-scale-takes-away"),
    ],
)
def test_a_move_says_where_to(evidence: dict[str, Any], told: str) -> None:
    """No list of GPUs means the CPU, or home, or nowhere any more: the line says which."""
    event = make.event("moved", "chat-0", "gpu_lost", **evidence)
    assert journal.line(event, UTC, {"GPU-5": "gpu 5"}).endswith(f"gpu_lost  {told}")
