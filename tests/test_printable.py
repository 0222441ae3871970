"""What others wrote is made safe for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param("plain ä\ttab", "plain ä\ttab", id="text"),
        pytest.param("\x1b]0;title\x07", "\\x1b]0;title\\x07", id="terminal-title"),
        pytest.param("\x9b2J\x7f", "\\x9b2J\\x7f", id="c1-and-delete"),
        pytest.param("a\nb\u2028c\u202ed", "a\\x0ab\\u2028c\\u202ed", id="forged-line"),
    ],
)
def test_a_line_is_one_and_moves_nothing(raw: str, shown: str) -> None:
    """Every character that a terminal obeys is written out."""
    assert printable.line(raw) == shown


def test_a_text_keeps_its_lines() -> None:
    """What is several lines on purpose stays so; a carriage return does not."""
    assert printable.text("a\nb\r\n") == "a\nb\\x0d\n"


@given(st.text())
def test_what_is_shown_once_is_shown_so_again(raw: str) -> None:
    """Text that is safe stays as it is, however often it passes through."""
    assert printable.text(printable.line(raw)) == printable.line(raw)
