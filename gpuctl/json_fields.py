"""
Fields of a JSON document, each checked by one function: (value, place) → the value, or WrongError.

`place` is the path in the document, `gpus[2].uuid`. Files that people write by hand and that no
profile schema covers are read with these.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class WrongError(Exception):
    """What is wrong with a document, and where in it ("" for the whole)."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place, self.message = place, message


def table(value: object, place: str, known: Iterable[str]) -> dict[str, Any]:
    """Return an object that has no other fields than *known*."""
    if not isinstance(value, dict):
        raise WrongError(place, f"it must be an object, not {shown(value)}")
    names = sorted(known)
    for name in value:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise WrongError(place, f"it has no field {name!r}{meant}")
    return value


def required(given: Mapping[str, object], place: str, names: Iterable[str]) -> None:
    """Refuse a table that lacks one of *names*."""
    for name in names:
        if name not in given:
            raise WrongError(place, f"it lacks {name!r}")


def text(value: object, place: str) -> str:
    """Return one printable line, not empty."""
    # NVML's longest string is a name of 96 bytes with its end. Source: nvml.h,
    # NVML_DEVICE_NAME_V2_BUFFER_SIZE.
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.encode()) < 96:
        raise WrongError(place, f"it must be a line of text, not {shown(value)}")
    return value


def whole(value: object, place: str) -> int:
    """Return a whole number from 0 that a signed 64-bit number holds."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise WrongError(place, f"it must be a whole number from 0, not {shown(value)}")
    return value


def number(value: object, place: str) -> float:
    """Return a finite number from 0."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < 2**63
        or not math.isfinite(value)
    ):
        raise WrongError(place, f"it must be a number from 0, not {shown(value)}")
    return value


def ratio(value: object, place: str) -> float:
    """Return a number from 0 to 1."""
    if number(value, place) > 1:
        raise WrongError(place, f"it must be from 0 to 1, not {shown(value)}")
    return number(value, place)


def truth(value: object, place: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise WrongError(place, f"it must be true or false, not {shown(value)}")
    return value


def list_of(item: Callable[[object, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    """Return what reads a list of *item*."""

    def parse(value: object, place: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise WrongError(place, f"it must be a list, not {shown(value)}")
        return tuple(item(each, f"{place}[{at}]") for at, each in enumerate(value))

    return parse


def map_of(item: Callable[[object, str], T]) -> Callable[[object, str], dict[str, T]]:
    """Return what reads an object of any names whose values are *item*."""

    def parse(value: object, place: str) -> dict[str, T]:
        if not isinstance(value, dict):
            raise WrongError(place, f"it must be an object, not {shown(value)}")
        return {text(name, place): item(each, f"{place}.{name}") for name, each in value.items()}

    return parse


def shown(value: object) -> str:
    """Return a value as JSON has it, cut where it is long."""
    if isinstance(value, int) and abs(value) > 10**40:
        return "that number"  # Python refuses to print one of thousands of digits
    written = json.dumps(value, ensure_ascii=True)
    return written if len(written) <= 40 else f"{written[:37]}..."
