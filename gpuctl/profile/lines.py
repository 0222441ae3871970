"""
Which line of a TOML text each key and list item stands on, for messages.

The parser gives positions for syntax errors only. This reads text that has parsed already, so it
only has to find keys and step over values; it never fails, whatever it is given.
"""

from __future__ import annotations

import bisect
import re
import tomllib

#: The way to a value: keys, and the positions in lists.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_HEADER_END = re.compile(r"[ \t]*\]{0,2}")
_SPACES = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[^\s\"'=.\[\]{},#]*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
# A multi-line string may end in up to two quotes of its own: """a""" and """a""""" are both whole.
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"""(?:""(?!")|"(?!"))?', re.DOTALL),
    re.compile(r"'''.*?'''(?:''(?!')|'(?!'))?", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


def locate(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each path is first written; tables by their header."""
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest table around it that was written; 1 if none."""
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path, 1)


def with_lines(text: str, source: str, message: str) -> str:
    """
    Return a message with the line after the file in each of its lines that names a key.

    *text* is what stands in *source*; `source: a.b: what` becomes `source:12: a.b: what`.
    """
    lines = locate(text)
    return "\n".join(_with_line(lines, f"{source}: ", told) for told in message.splitlines())


def _with_line(lines: dict[Path, int], prefix: str, told: str) -> str:
    key = told.removeprefix(prefix).partition(": ")[0]
    path = tuple(key.split("."))
    if not told.startswith(prefix) or path[:1] not in lines:
        return told
    return f"{prefix[:-2]}:{line_of(lines, path)}: {told.removeprefix(prefix)}"


class _Scanner:
    """A position in the text, and the lines found so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._tables: dict[Path, int] = {}  # arrays of tables, and how many tables each has so far

    def scan(self) -> None:
        prefix: Path = ()
        while self._next():
            if self._peek() == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        line, path = self._line(), self._resolve(self._keys())
        if array:
            path = path[:-1] if isinstance(path[-1], int) else path
            count = self._tables.get(path, 0)
            self._tables[path] = count + 1
            self.lines.setdefault(path, line)
            path = (*path, count)
        self._mark(path, line)
        self._match(_HEADER_END)
        return path

    def _resolve(self, keys: Path) -> Path:
        """Return the path of a header: inside an array of tables it means the latest table."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, prefix: Path) -> None:
        start, line = self.at, self._line()
        path = prefix + self._keys()
        self._mark(path, line)
        self._match(_SPACES)
        if self._peek() == "=":
            self.at += 1
            self._value(path)
        self.at = max(self.at, start + 1)

    def _keys(self) -> Path:
        keys: list[str] = []
        while True:
            self._match(_SPACES)
            quoted = self._string()
            keys.append(_unquoted(quoted) if quoted else self._match(_BARE_KEY))
            self._match(_SPACES)
            if self._peek() != ".":
                return tuple(keys)
            self.at += 1

    def _value(self, path: Path) -> None:
        self._match(_SPACES)
        opening = self._peek()
        if opening == "{":
            self._inside(path, "}")
        elif opening == "[":
            self._inside(path, "]")
        elif not self._string():
            self._match(_SCALAR)

    def _inside(self, path: Path, closing: str) -> None:
        """Step through an inline table or a list, up to the bracket that closes it."""
        self.at += 1
        index = 0
        while self._next() and self._peek() != closing:
            start = self.at
            if self._peek() == ",":
                self.at += 1
            elif closing == "}":
                self._pair(path)
            else:
                self._mark((*path, index), self._line())
                self._value((*path, index))
                index += 1
            self.at = max(self.at, start + 1)
        self.at += 1

    def _string(self) -> str:
        for pattern in _STRINGS:
            if found := self._match(pattern):
                return found
        return ""

    def _mark(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _next(self) -> bool:
        self._match(_BLANK)
        return self.at < len(self.text)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found[0] if found else ""

    def _line(self) -> int:
        return bisect.bisect_left(self._breaks, self.at) + 1


def _unquoted(key: str) -> str:
    try:
        return str(tomllib.loads(f"key = {key}")["key"])
    except tomllib.TOMLDecodeError:
        return key
