"""
The applied profile: what `up` and `reload` store in the state directory and the daemon reads back.

A Profile with the environment's overrides resolved goes out as JSON text and comes in again equal.
Imports nothing heavy: the daemon needs no TOML reader and no validator to start.
"""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpuctl.errors import StoreError
from gpuctl.model import GpuIdentity, Known, ModelFacts, Profile

SCHEMA = 1
_NOTHING_KNOWN = Known()


def dump(
    profile: Profile,
    *,
    source: str,
    overrides: Mapping[str, str],
    at: float,
    gpus: tuple[GpuIdentity, ...] = (),
    known: Known = _NOTHING_KNOWN,
    simulated: bool = False,
) -> str:
    """
    Return the applied profile as JSON; the same arguments give the same bytes.

    *source* is the file it was read from, *at* is in Unix seconds. *gpus* are those of the host
    when it was applied: what an index means holds until the next `up`, also when a GPU falls off
    the bus or a reboot numbers them anew. *known* is what was planned with: a daemon reads no model
    files, and plans the same. *simulated* tells whose it is to who looks into the directory.
    """
    document = {
        "schema": SCHEMA,
        "at": at,
        "source": source,
        "simulated": simulated,
        "overrides": dict(overrides),
        "gpus": encode(gpus),
        "facts": encode(known.facts),
        "measured": encode(known.measured),
        "profile": encode(profile),
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def load(text: str) -> Profile:
    """
    Return the profile that `dump` wrote; a field it lacks has its default.

    Raises:
        StoreError: it is damaged, or of another gpuctl's making.
    """
    profile = _read(text, "profile", Profile)
    assert isinstance(profile, Profile)
    return profile


def load_gpus(text: str) -> tuple[GpuIdentity, ...]:
    """Return the GPUs that the profile was applied on, by index. Raises `StoreError`."""
    return tuple(_read(text, "gpus", tuple[GpuIdentity, ...]))


def load_known(text: str) -> Known:
    """Return what was known of the models when the profile was applied. Raises `StoreError`."""
    return Known(
        facts=_read(text, "facts", Mapping[str, ModelFacts], {}),
        measured=_read(text, "measured", Mapping[str, int], {}),
    )


def _read(text: str, key: str, hint: Any, default: Any = None) -> Any:
    try:
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise _Mismatch(f"its schema is not {SCHEMA}")
        return decode(hint, document.get(key, default), key)
    except (ValueError, RecursionError) as error:
        next_step = "run `gpuctl up` with the profile again"
        raise StoreError(f"the applied profile cannot be read: {error}", next_step) from error


class _Mismatch(ValueError):
    """A stored value that does not fit its field."""


def encode(value: object) -> Any:
    """Return a frozen dataclass, tuple, mapping or scalar as what `json` writes."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: encode(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def decode(hint: Any, value: Any, where: str) -> Any:
    """
    Return what `encode` was given, by the type it had; *where* names it in a message.

    Raises:
        ValueError: the value does not fit the type.
    """
    origin = get_origin(hint)
    if hint is Any or hint is object:
        return _frozen(value)
    if is_dataclass(hint):
        return _decode_dataclass(hint, value, where)
    if origin is tuple:
        return _decode_tuple(get_args(hint), value, where)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(hint), value, where)
    if origin is Literal and value in get_args(hint):
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        inner = get_args(hint)[1]
        return {key: decode(inner, item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise _Mismatch(f"{where} is not what it should be")


def hints_of(kind: Any) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields by name."""
    return _hints(kind)


#: `get_type_hints` compiles the text of every annotation: 0.3 ms for a Workload.
_hints = functools.cache(get_type_hints)


def _decode_dataclass(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _Mismatch(f"{where} is not a table")
    hints = hints_of(hint)
    if unknown := sorted(value.keys() - {item.name for item in fields(hint)}):
        raise _Mismatch(f"{where}.{unknown[0]} is not known to this gpuctl")
    missing = [item.name for item in fields(hint) if _required(item) and item.name not in value]
    if missing:
        raise _Mismatch(f"{where}.{missing[0]} is missing")
    return hint(**{key: decode(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _decode_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Mismatch(f"{where} is not a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        raise _Mismatch(f"{where} is not a list of {len(hints)}")
    return tuple(
        decode(hint, item, f"{where}[{index}]")
        for index, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _decode_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return the value as the first member it fits: no two members of a field fit one value."""
    mismatches: list[_Mismatch] = []
    for hint in hints:
        try:
            return decode(hint, value, where)
        except _Mismatch as error:
            mismatches.append(error)
    raise mismatches[-1]


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING
