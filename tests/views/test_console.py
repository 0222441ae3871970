"""What stands in a view cannot drive the terminal it is drawn on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Group, RenderableType
from rich.text import Text

from gpuctl.views import tables, terminal, top
from gpuctl.views.console import SafeConsole

NOW = 1_800_000_000.0
#: Clears the screen, renames the window, as C1 too, and rings.
HOSTILE = "a\x1b[2J\x1b]0;x\x07\x9b2Jb"
SHOWN = "a\\x1b[2J\\x1b]0;x"


def drawn(renderable: RenderableType) -> str:
    """Return what a terminal of 160 columns without colour is sent."""
    out = io.StringIO()
    SafeConsole(file=out, width=160, color_system=None, highlight=False, markup=False).print(
        renderable
    )
    return out.getvalue()


def _cell() -> tables.Columns:
    made = tables.Columns("subject", "why")
    made.add_row(HOSTILE, "it is so")
    return made


@pytest.mark.parametrize(
    "renderable",
    [
        pytest.param(HOSTILE, id="a word"),
        pytest.param(Text(HOSTILE), id="a text"),
        pytest.param(Group(Text("warning"), Text(HOSTILE)), id="a group"),
        pytest.param(_cell(), id="a cell"),
    ],
)
def test_no_text_moves_the_cursor(renderable: RenderableType) -> None:
    """ESC, bell and C1 are written out wherever a text may stand."""
    seen = drawn(renderable)

    assert not {"\x1b", "\x07", "\x9b"} & set(seen)
    assert SHOWN in seen


def test_a_cell_is_as_wide_as_it_is_shown() -> None:
    """What is written out has room: the next column is not pushed out of its line."""
    rows = drawn(_cell()).splitlines()

    assert [row.rstrip() for row in rows][1].endswith("it is so")
    assert rows[0].index("why") == rows[1].index("it is so")


@pytest.mark.parametrize("view", ["status", "top"])
def test_a_hostile_status_is_only_text(view: str, status: Any) -> None:
    """A GPU, a reason and a warning that hold escape sequences are shown as such."""
    status["gpus"][0]["name"] = HOSTILE
    status["replicas"][2]["reason"] = HOSTILE
    status["warnings"] = [HOSTILE]
    status["conditions"][0]["reason"] = HOSTILE

    if view == "status":
        seen = drawn(terminal.whole(status, alive=True, now=NOW))
    else:
        seen = drawn(top.screen(status, [], alive=True, now=NOW))

    assert not {"\x1b", "\x07", "\x9b"} & set(seen)
    assert "\\x1b[2J" in seen


def test_colours_stay() -> None:
    """rich's own sequences are not text."""
    out = io.StringIO()
    SafeConsole(file=out, force_terminal=True, color_system="standard").print(
        Text("red", style="red")
    )

    assert out.getvalue() == "\x1b[31mred\x1b[0m\n"
