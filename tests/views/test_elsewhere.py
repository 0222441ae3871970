"""How long replicas were on the CPU and GPUs cordoned."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.model import Event
from gpuctl.views import elsewhere, report

NOW = 1_800_000_000.0


def test_a_replica_on_the_cpu_has_a_span(happened: Callable[..., Event]) -> None:
    """From the move there to the next one; another move to the CPU is the same span."""
    events = [
        happened("moved", "chat-0", -500, "gpu_lost", gpus=()),
        happened("moved", "chat-0", -400, "failover_cpu", gpus=()),
        happened("moved", "chat-1", -300, "gpu_lost", gpus=["GPU-5"]),
        happened("moved", "chat-2", -250, "scaled", gpus=()),
        happened("moved", "chat-0", -200, "moved_back"),
        happened("moved", "chat-0", -100, "xid_79", gpus=()),
    ]

    spans = elsewhere.on_cpu(events, NOW - 1000)

    assert spans == [
        {"subject": "chat-0", "reason": "gpu_lost", "since": NOW - 500, "until": NOW - 200},
        {"subject": "chat-0", "reason": "xid_79", "since": NOW - 100, "until": None},
    ]
    assert [elsewhere.lasted(span, NOW - 450, NOW) for span in spans] == [250, 100]


def test_a_cordon_lasts_until_an_operator_ends_it(happened: Callable[..., Event]) -> None:
    """Whoever began it; what was over before the report begins is not in it."""
    events = [
        happened("intent", "GPU-1", -900, "cordon"),
        happened("intent", "GPU-1", -800, "uncordon"),
        happened("cordoned", "GPU-2", -300, "gpu_lost"),
        happened("intent", "GPU-1", -200, "cordon"),
        happened("intent", "chat", -150, "stop"),
        happened("intent", "GPU-1", -100, "uncordon"),
        happened("intent", "GPU-9", -50, "uncordon"),
    ]

    assert elsewhere.cordoned(events, NOW - 500) == [
        {"subject": "GPU-2", "reason": "gpu_lost", "since": NOW - 300, "until": None},
        {"subject": "GPU-1", "reason": "operator", "since": NOW - 200, "until": NOW - 100},
    ]


@pytest.mark.parametrize("form", [report.text, report.markdown])
def test_the_report_says_both(form: Any, status: Any, happened: Callable[..., Event]) -> None:
    """A line for each, with how long it lasted."""
    events = [
        happened("moved", "chat-0", -7200, "gpu_lost", gpus=()),
        happened("cordoned", status["gpus"][1]["uuid"], -7200, "gpu_lost"),
        happened("intent", status["gpus"][1]["uuid"], -3600, "uncordon"),
    ]
    made = report.report(status, events, since=NOW - 86400, now=NOW, alive=True)
    text = form(made)
    assert "chat-0 has been on the CPU for 2 h (gpu_lost)" in text
    assert "gpu 1 was cordoned for 1 h (gpu_lost)" in text
