"""Tables on terminals of any width."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gpuctl.views import tables, top

NOW = 1_800_000_000.0


def shown(renderable: RenderableType, width: int) -> list[str]:
    console = Console(width=width, no_color=True, highlight=False, markup=False, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        pytest.param(120, "replica phase gpu port since 1h/24h in flight ram vram why", id="wide"),
        pytest.param(80, "replica phase gpu port since 1h/24h vram why", id="a terminal's own"),
        pytest.param(60, "replica phase gpu since 1h/24h why", id="narrow"),
        pytest.param(40, "replica phase gpu why", id="a telephone"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(status: Any, width: int, headings: str) -> None:
    """What matters least is left out; names and phases are never cut."""
    status["replicas"][3]["outdated"] = False

    lines = shown(tables.replicas(status, NOW), width)

    assert " ".join(lines[0].split()) == headings
    assert [line.split()[:2] for line in lines[1:3]] == [["chat-0", "busy"], ["chat-1", "ready"]]
    assert max(map(len, lines)) <= width


def test_a_live_table_has_one_line_a_replica(status: Any) -> None:
    """A screen counts its lines, so a long reason is cut there; elsewhere it goes on below."""
    long = status | {"replicas": [status["replicas"][3] | {"reason": "load_spacing"}]}

    assert len(shown(tables.replicas(long, NOW, wrap=False), 70)) == 2
    assert len(shown(tables.replicas(long, NOW), 70)) > 2


@pytest.mark.parametrize(
    ("view", "width", "headings"),
    [
        pytest.param(
            lambda gpus: tables.gpus(gpus, NOW), 120,
            "gpu name state vram of used busy temp power throttled read", id="status, wide",
        ),
        pytest.param(
            lambda gpus: tables.gpus(gpus, NOW), 80,
            "gpu name state vram used busy temp throttled", id="status",
        ),
        pytest.param(
            lambda gpus: tables.gpus(gpus, NOW), 60,
            "gpu state vram used busy temp throttled", id="status, narrow",
        ),
        pytest.param(top.gpus, 120, "gpu name state vram busy temp power", id="top, wide"),
        pytest.param(top.gpus, 60, "gpu name state vram busy temp power", id="top, narrow"),
        pytest.param(top.gpus, 45, "gpu state vram busy temp power", id="top, a telephone"),
    ],
)  # fmt: skip
def test_gpus_on_a_narrow_terminal(
    status: Any, view: Callable[..., RenderableType], width: int, headings: str
) -> None:
    """Readings are whole or not there: no half of a number is shown."""
    lines = shown(view(status["gpus"]), width)

    assert " ".join(lines[0].split()) == headings
    assert "61 °C" in lines[1]
    assert not any("…" in line for line in lines)
