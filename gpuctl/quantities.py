"""
Quantities as people write them: "1536m" → bytes, "5s" → seconds, "90%" → ratio, and back.

`profile` reads with these, every view writes with them. A value is taken exactly or refused with
a `ValueError` that names the forms accepted: nothing is rounded into shape.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from gpuctl import printable

# Docker's letters, binary and in either case: k is 1,024. Nineteen digits hold every 64-bit number.
# Source: docker/go-units, RAMInBytes.
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?) ?(?:([kmgt]?)(?:i?b)?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_BYTES_FORMS = 'write bytes as a number, or as "512k", "1536m", "2g"'
_MOST_BYTES = 2**63 - 1  # the runtime counts in signed 64-bit numbers

_DURATION = re.compile(
    r"(?:(?P<h>[0-9]{1,9}(?:\.[0-9]{1,9})?)h)?(?:(?P<m>[0-9]{1,9}(?:\.[0-9]{1,9})?)m)?"
    r"(?:(?P<s>[0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:(?P<ms>[0-9]{1,12})ms)?"
)
_UNIT_SECONDS = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}
_SECONDS_FORMS = 'write seconds as a number, or as "500ms", "5s", "10m", "2h", "1m30s"'
_MOST_SECONDS = 10 * 365 * 86400  # ten years: more is a slip of the unit

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
_RATIO_FORMS = 'write a ratio as "90%" or as 0.9'


def parse_bytes(value: object) -> int:
    """
    Return the bytes of `1073741824`, `"1g"`, `"1536m"` or `"1.5 GiB"`.

    Units are binary, whatever their case, and the `b` or `ib` is optional, as in Docker.

    Raises:
        ValueError: it is none of these, negative, or not a whole number of bytes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = Fraction(value)
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = Fraction(match[1]) * 1024 ** _POWERS[match[2].lower()]
    else:
        raise ValueError(f"{show(value)} is not a size; {_BYTES_FORMS}")
    if size < 0:
        raise ValueError(f"{show(value)} is negative; {_BYTES_FORMS}")
    if size.denominator != 1:
        raise ValueError(f"{show(value)} is not a whole number of bytes; {_BYTES_FORMS}")
    if size > _MOST_BYTES:
        raise ValueError(f"{show(value)} is more than a 64-bit number of bytes; {_BYTES_FORMS}")
    return int(size)


def parse_seconds(value: object) -> float:
    """
    Return the seconds of `5`, `0.5`, `"500ms"`, `"5s"`, `"10m"`, `"2h"` or `"1m30s"`.

    A string needs its unit: `"5"` is refused.

    Raises:
        ValueError: it is none of these, negative, not finite, or over ten years.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{show(value)} is not a duration; {_SECONDS_FORMS}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = Fraction(value)
    elif isinstance(value, str) and value and (match := _DURATION.fullmatch(value)):
        parts = ((unit, number) for unit, number in match.groupdict().items() if number)
        seconds = sum(
            (Fraction(number) * _UNIT_SECONDS[unit] for unit, number in parts), Fraction()
        )
    else:
        raise ValueError(f"{show(value)} is not a duration; {_SECONDS_FORMS}")
    if seconds < 0:
        raise ValueError(f"{show(value)} is negative; {_SECONDS_FORMS}")
    if seconds > _MOST_SECONDS:
        raise ValueError(f"{show(value)} is more than ten years; {_SECONDS_FORMS}")
    return float(seconds)


def parse_ratio(value: object) -> float:
    """
    Return the ratio (0-1) of `0.9` or `"90%"`.

    Raises:
        ValueError: it is neither, or outside 0 to 1; 90 is refused rather than read as 90 %.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        ratio = float(value) if abs(value) <= 1 else math.inf
    elif isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        ratio = float(Fraction(match[1]) / 100)
    else:
        raise ValueError(f"{show(value)} is not a ratio; {_RATIO_FORMS}")
    if not 0 <= ratio <= 1:
        raise ValueError(f"{show(value)} is not between 0 and 1; {_RATIO_FORMS}")
    return ratio


def format_bytes(size_bytes: int) -> str:
    """Return bytes for people, binary units, one decimal at most: "1.5 GiB", "512 MiB", "0 B"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        # A size that would read as 1024 of the smaller unit reads as 1 of this one.
        if round(abs(size_bytes) / 1024 ** (power - 1), 1) >= 1024:
            return f"{_decimal(size_bytes / 1024**power)} {unit}"
    return f"{size_bytes} B"


def format_seconds(seconds: float) -> str:
    """Return a duration for people, two units at most: "2 m 5 s", "3 h", "1.5 s", "250 ms"."""
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{_decimal(seconds)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            return _pair(whole // size, unit, whole % size // smaller, small_unit)
    return _pair(whole // 60, "m", whole % 60, "s")


def format_ratio(ratio: float) -> str:
    """Return a ratio (0-1) for people, in percent, one decimal at most: "90 %", "12.5 %"."""
    return f"{_decimal(ratio * 100)} %"


def show(value: object) -> str:
    """Return a value as TOML has it, for messages: nothing raw in it, and cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > 10**40:
        return "that number"  # Python refuses to print one of thousands of digits
    text = f'"{printable.line(value)}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large} {unit} {small} {small_unit}" if small else f"{large} {unit}"


def _decimal(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
