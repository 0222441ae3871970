"""
Mistakes in a profile: where, what, and what to do, in the words of the file.

Every other module of this package reports through here; `__init__` raises them all at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuctl.errors import ProfileError
from gpuctl.profile.lines import Path, line_of
from gpuctl.quantities import show

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    path: Path  # of the value that is wrong; () is the file as a whole
    what: str
    hint: str = ""


def error_of(source: str, lines: dict[Path, int], mistakes: Iterable[Mistake]) -> ProfileError:
    """Return every mistake as `file:line: path.to.key: what is wrong`, in the file's order."""
    placed = sorted(
        {(line_of(lines, m.path), write_path(m.path), m.what, m.hint) for m in mistakes}
    )
    return ProfileError(
        tuple(
            (f"{source}:{line}: {f'{path}: ' if path else ''}{what}", hint)
            for line, path, what, hint in placed
        )
    )


def write_path(path: Path) -> str:
    """Return a path as TOML writes it: `workloads.chat.gpus[1]`, `environment."a.b"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE.fullmatch(part) else show(part)
            text += f".{name}" if text else name
    return text


def nearest(word: str, known: Iterable[str], *, of: str) -> str:
    """Return a hint with the known name nearest to *word*, or with all of them if none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"{of}: {', '.join(names)}" if names else f"{of}: none"


def unknown_key(path: Path, known: Iterable[str]) -> Mistake:
    hint = nearest(str(path[-1]), known, of="the keys here are")
    return Mistake(path=path, what="unknown key", hint=hint)


def from_validation(error: Mapping[str, Any], path: Path, known: Iterable[str]) -> Mistake:
    """
    Return one entry of pydantic's `errors()` in our words.

    *path* is where the value stands, *known* are the keys of the table it stands in.
    """
    kind, value = str(error["type"]), error["input"]
    limits: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(path, known)
    if kind == "missing":
        return Mistake(path=path[:-1], what=f"{path[-1]} is missing", hint=f"add {path[-1]} = …")
    if kind == "value_error":
        what, _, hint = str(limits["error"]).partition("; ")
        return Mistake(path=path, what=what, hint=hint)
    if kind == "literal_error":
        words = [word.strip("'\" ") for word in re.split(r", | or ", limits["expected"])]
        hint = nearest(str(value), words, of="write one of")
        return Mistake(path=path, what=f"{show(value)} is not one of {', '.join(words)}", hint=hint)
    if kind in _TYPES:
        what, hint = _TYPES[kind]
        if what == "a table" and _tables(value):
            hint = f"write [{write_path(path)}], in single brackets"
        return Mistake(path=path, what=f"{show(value)} is not {what}", hint=hint)
    if kind in _LIMITS:
        relation, key, side = _LIMITS[kind]
        what = f"{show(value)} is {relation} than {limits[key]}"
        return Mistake(path=path, what=what, hint=f"write {limits[key]} or {side}")
    return Mistake(path=path, what=f"{show(value)}: {error['msg']}")


def _tables(value: object) -> bool:
    """Return True for what `[[…]]` makes: a list of tables."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


_TYPES = {
    "int_type": ("a whole number", "write digits, without quotes or a point"),
    "float_type": ("a number", "write digits, without quotes"),
    "finite_number": ("a number that can be used", "write digits"),
    "string_type": ("a text", "put it in quotes"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "list_type": ("a list", "put it in brackets: [ … ]"),
    "tuple_type": ("a list", "put it in brackets: [ … ]"),
    "dict_type": ("a table", "write it as { key = value }"),
    "model_type": ("a table", "write it as { key = value }"),
    "model_attributes_type": ("a table", "write it as { key = value }"),
    "string_too_short": ("a name", "write what is meant, or leave the key out"),
    "too_short": ("enough", "name at least one, or leave the key out"),
}
_LIMITS = {
    "greater_than_equal": ("less", "ge", "more"),
    "less_than_equal": ("more", "le", "less"),
}
