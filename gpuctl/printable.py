"""
Text from anywhere → text that moves no cursor and forges no line. PURE; for every output.

Names of processes, words of engines and what stands in a file are written by others: shown as
they are, they could drive the terminal of whoever looks. The fast path of `status` imports this.
"""

from __future__ import annotations

import re

#: C0 (but tab), DEL, C1, line separators and direction overrides: what can forge a terminal's text.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def line(text: str) -> str:
    """Return one line: every control character but the tab as its escape, such as `\\x1b`."""
    return _CONTROL.sub(_escape, text)


def text(words: str) -> str:
    """Return the same of several lines: where they end stays."""
    return "\n".join(map(line, words.split("\n")))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
