"""The JSON of a host-state file: each field checked, whatever is wrong told with its place."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn

from gpuctl.errors import UsageError
from gpuctl.host_state.shape import (
    THROTTLE_REASONS,
    GpuState,
    HostState,
    ProcessState,
    parse_fault,
)
from gpuctl.json_fields import (
    WrongError,
    list_of,
    map_of,
    number,
    ratio,
    required,
    shown,
    table,
    text,
    truth,
    whole,
)

SCHEMA = 1

_PCI_BUS_ID = re.compile(r"[0-9a-f]{8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_COMPUTE_CAPABILITY = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})")


def load(text: str, *, source: str = "host state") -> HostState:
    """
    Return the host written in *text*; *source* names it in errors.

    Raises:
        UsageError: it is not JSON, or says something that a host cannot be, with file and place.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        refuse(f"{source}:{error.lineno}:{error.colno}", f"it is not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:  # NaN, a number too long, nested too deeply
        refuse(source, f"it is not JSON: {error}")
    try:
        return _host(document)
    except WrongError as error:
        refuse(f"{source}: {error.place}" if error.place else source, error.message)


def dump(host: HostState) -> str:
    """Return the text that `load` reads back as the same host; what is None is left out."""
    document = {"schema": SCHEMA, **_written(host)}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def refuse(place: str, message: str) -> NoReturn:
    """Raise the `UsageError` of a file that is no host state."""
    raise UsageError(
        f"{place}: {message}",
        "name a shipped host, or a file like gpuctl/data/hosts/p106x8.json",
    ) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of it")


def _written(value: Any) -> Any:
    """Return a state as JSON has it: None left out, a compute capability as "6.1"."""
    if not dataclasses.is_dataclass(value):
        return [_written(item) for item in value] if isinstance(value, tuple) else value
    fields = ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
    return {
        name: "{}.{}".format(*item) if name == "compute_capability" else _plain(item)
        for name, item in fields
        if item is not None
    }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else _written(value)


def _host(document: object) -> HostState:
    fields = table(document, "", {"schema", *_names(HostState)})
    if fields.get("schema") != SCHEMA:
        raise WrongError("schema", f"it must be {SCHEMA}, not {shown(fields.get('schema'))}")
    given = _given({name: value for name, value in fields.items() if name != "schema"}, "")
    required(given, "", ("name", "memory_total_bytes"))
    host = HostState(**given)
    for name in ("index", "uuid"):
        seen = [getattr(gpu, name) for gpu in host.gpus]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice is not None:
            raise WrongError("gpus", f"two have the {name} {twice!r}")
    return dataclasses.replace(host, gpus=tuple(sorted(host.gpus, key=lambda gpu: gpu.index)))


def _gpu(value: object, place: str) -> GpuState:
    given = _given(table(value, place, _names(GpuState)), f"{place}.")
    required(given, place, ("index", "uuid", "name"))
    return GpuState(**given)


def _process(value: object, place: str) -> ProcessState:
    given = _given(table(value, place, _names(ProcessState)), f"{place}.")
    required(given, place, ("pid",))
    return ProcessState(**given)


def _names(shape: type) -> set[str]:
    return {each.name for each in dataclasses.fields(shape)}


def _given(fields: Mapping[str, object], prefix: str) -> dict[str, Any]:
    """Return the fields that say something, read; null is the same as absent."""
    return {
        name: _FIELDS[name](value, f"{prefix}{name}")
        for name, value in fields.items()
        if value is not None
    }


def _capability(value: object, place: str) -> tuple[int, int]:
    match = _COMPUTE_CAPABILITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongError(place, f'it must be like "6.1", not {shown(value)}')
    return int(match[1]), int(match[2])


def _bus(value: object, place: str) -> str:
    if not isinstance(value, str) or not _PCI_BUS_ID.fullmatch(value):
        raise WrongError(place, f'it must be like "00000000:01:00.0", not {shown(value)}')
    return value


def _reason(value: object, place: str) -> str:
    if value not in THROTTLE_REASONS:
        raise WrongError(place, f"{shown(value)} is none of {', '.join(THROTTLE_REASONS)}")
    return str(value)


def _call(value: object, place: str) -> float | Literal["hang"]:
    return "hang" if value == "hang" else number(value, place)


def _fault(value: object, place: str) -> str:
    try:
        parse_fault(text(value, place))
    except ValueError as error:
        raise WrongError(place, str(error)) from None
    return str(value)


_FIELDS: Mapping[str, Callable[[object, str], Any]] = {
    "name": text,
    "driver_version": text,
    "cpus": whole,
    "memory_total_bytes": whole,
    "load_seconds": number,
    "gpus": list_of(_gpu),
    "calls": map_of(_call),
    "init_error": whole,
    "replicas": map_of(_fault),
    "index": whole,
    "uuid": text,
    "memory_reserved_bytes": whole,
    "compute_capability": _capability,
    "pci_bus_id": _bus,
    "temperature_celsius": number,
    "power_watts": number,
    "power_limit_watts": number,
    "sm_clock_hertz": number,
    "utilization_ratio": ratio,
    "throttle_reasons": list_of(_reason),
    "processes": list_of(_process),
    "lost": truth,
    "pid": whole,
    "used_bytes": whole,
    "container": text,
}
