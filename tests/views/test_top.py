"""The live view."""

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.model import Event
from gpuctl.views import top

NOW = 1_800_000_000.0


def test_screen(
    status: Any, text: Callable[..., list[str]], happened: Callable[..., Event]
) -> None:
    """GPUs with bars, replicas, conditions and the last eight events, on one screen."""
    events = [happened("ready", f"chat-{number}", number) for number in range(12)]

    lines = text(top.screen(status, events, alive=True, now=NOW))

    bars = [line for line in lines if "━" in line]
    shown = [line for line in lines if "  ready" in line and line.startswith("2027-")]
    assert lines[0].startswith("p106x8 · 4 replicas")
    assert len(bars) == 2  # a GPU that is lost has none
    assert len(shown) == 8
    assert "chat-11" in shown[-1]
    assert lines[-1] == "q quits"


def test_the_gateway_has_a_line_of_the_screen(
    status: Any, text: Callable[..., list[str]], happened: Callable[..., Event]
) -> None:
    """It is below the header, and takes its line from the events."""
    events = [happened("ready", "chat-0", 0)] * 9
    line = "gateway 127.0.0.1:4000 · 3 in flight, 0 queued"

    without = text(top.screen(status, events, alive=True, now=NOW, lines=24))
    lines = text(top.screen(status, events, alive=True, now=NOW, lines=24, gateway=line))

    assert lines[1] == line
    assert len(lines) == len(without) <= 24
    assert [each for each in lines if each != line] == [*without[:-3], *without[-2:]]


def test_a_host_without_gpus(status: Any, text: Callable[..., list[str]]) -> None:
    """On the CPU there is no table of GPUs."""
    lines = text(top.screen(status | {"gpus": [], "conditions": []}, [], alive=True, now=NOW))

    assert not any("━" in line for line in lines)


def test_a_small_screen_keeps_what_is_wrong(
    status: Any, text: Callable[..., list[str]], happened: Callable[..., Event]
) -> None:
    """Without room for all, those that are not well are shown, and the others counted."""
    sick = status["replicas"][2]
    well = [status["replicas"][1] | {"name": f"chat-{number}"} for number in range(10, 30)]
    events = [happened("ready", "chat-0", 0)] * 9
    many = status | {"gpus": [], "conditions": [], "replicas": [*well, sick]}

    lines = text(top.screen(many, events, alive=True, now=NOW, lines=15))

    assert len(lines) <= 15
    assert any(line.startswith("chat-2 ") for line in lines)
    assert "and 12 replicas: 12 ready" in lines


def test_events_take_the_room_that_is_left(
    status: Any, text: Callable[..., list[str]], happened: Callable[..., Event]
) -> None:
    """A screen that holds the replicas shows as many events as fit below them."""
    events = [happened("ready", f"chat-{number}", number) for number in range(12)]
    few = status | {"gpus": [], "conditions": []}

    lines = text(top.screen(few, events, alive=True, now=NOW, lines=16))

    assert len(lines) <= 16
    assert sum(line.startswith("2027-") for line in lines) == 5


def ailing(status: Any, count: int) -> list[Any]:
    """So many conditions, the last of them a failure."""
    one = status["conditions"][0]
    noticed = [one | {"subject": f"chat-{n}", "state": "degraded"} for n in range(count - 1)]
    return [*noticed, one | {"subject": "chat-99", "state": "failed"}]


@pytest.mark.parametrize(
    ("height", "conditions", "shown", "more"),
    [
        pytest.param(40, 9, 9, "", id="room for all"),
        pytest.param(24, 9, 3, "and 6 more: gpuctl status", id="some are left out"),
        pytest.param(24, 4, 4, "", id="the last line is a condition where it is the last"),
        pytest.param(10, 9, 1, "and 8 more: gpuctl status", id="hardly any room"),
    ],
)
def test_conditions_that_have_no_room_are_counted(
    status: Any, text: Callable[..., list[str]], height: int, conditions: int, shown: int, more: str
) -> None:
    """What is cut off is said, with where it can be read; a failure is never cut off."""
    sick = status | {"conditions": ailing(status, conditions), "gpus": status["gpus"] * 2}

    lines = text(top.screen(sick, [], alive=True, now=NOW, lines=height))

    assert sum(line.startswith("gpu_missing ") for line in lines) == shown
    assert any("chat-99" in line for line in lines)
    assert [line for line in lines if "more: gpuctl status" in line] == ([more] if more else [])
    assert len(lines) <= height or height == 10
