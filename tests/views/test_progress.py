"""What commands show while they wait."""

from collections.abc import Callable
from typing import Any

from gpuctl.views import progress

NOW = 1_800_000_000.0


def test_live(status: Any, text: Callable[..., list[str]]) -> None:
    """Every replica with its phase, and how many are as they should be."""
    lines = text(progress.live(status, NOW, 34.0))

    assert lines[0].split() == ["replica", "gpu", "phase", "for", "why"]
    assert lines[3].split()[:4] == ["chat-2", "2", "backoff", "5"]
    assert lines[-1].endswith("3 of 4 34 s")


def test_changes_are_lines(status: Any) -> None:
    """Without a terminal only what is new is told."""
    before = status | {"replicas": [row | {"phase": "loading"} for row in status["replicas"][:2]]}
    after = status | {
        "replicas": [before["replicas"][0], status["replicas"][1], status["replicas"][2]]
    }

    assert list(progress.changes(before, after, 34.0)) == [
        "    34 s  chat-1: ready",
        "    34 s  chat-2: backoff (oom_killed)",
    ]


def test_a_load_tells_how_far_it_is(status: Any, text: Callable[..., list[str]]) -> None:
    """A new stage is news, and stands where the reasons do."""
    row = status["replicas"][0] | {"phase": "loading", "stage": None}
    before = status | {"replicas": [row]}
    after = status | {"replicas": [row | {"stage": "weights_loaded", "reason": "warmup_failed"}]}

    assert list(progress.changes(before, after, 5.0)) == [
        "     5 s  chat-0: loading (weights loaded, warmup_failed)"
    ]
    assert "weights loaded, warmup_failed" in text(progress.live(after, NOW, 5.0))[1]


def test_the_first_status_is_all_news(status: Any) -> None:
    """Without a Status before, every replica has a line."""
    assert len(list(progress.changes(None, status, 0.0))) == 4


def test_trouble(status: Any) -> None:
    """A failed replica: what, its last ten lines, and where to look."""
    told = list(progress.trouble(status["replicas"][2], "", tuple(map(str, range(20)))))

    assert told[0] == "chat-2: backoff: oom_killed"
    assert told[1:11] == [f"    | {number}" for number in range(10, 20)]
    assert told[11].strip() == "see `gpuctl why chat-2` and `gpuctl logs chat-2 --previous`"
