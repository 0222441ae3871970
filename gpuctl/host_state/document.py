"""The JSON of a host-state file: each field checked, whatever is wrong told with its place."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, get_args, get_type_hints

from gpuctl.errors import UsageError
from gpuctl.host_state.shape import (
    RECOVERY_ACTIONS,
    THROTTLE_REASONS,
    Call,
    GpuState,
    HostState,
    LinkState,
    ProcessState,
    ProcessType,
    XidState,
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
from gpuctl.model import GpuFacts, GpuHealth, GpuPeer, Xid

SCHEMA = 1

#: (value, place) → the value, or WrongError.
Read = Callable[[object, str], Any]

_PCI_BUS_ID = re.compile(r"[0-9a-f]{8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_VERSION = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})")
#: Fields written like "6.1".
_VERSIONS = frozenset({"compute_capability", "cuda_version"})
_PATHS: tuple[str, ...] = get_args(get_type_hints(GpuPeer)["path"])
_TYPES: tuple[str, ...] = get_args(ProcessType)
_SOURCES: tuple[str, ...] = get_args(get_type_hints(Xid)["source"])
#: Of a card's facts and health, what the file says elsewhere, or the clock does.
_HOSTS = frozenset(
    {"driver_version", "cuda_version", "peers", "pcie_utilization_ratio", "boot_seconds"}
)


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
    """Return a state as JSON has it: None left out, a version as "6.1"."""
    if not dataclasses.is_dataclass(value):
        return [_written(item) for item in value] if isinstance(value, tuple) else value
    fields = ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
    return {
        name: "{}.{}".format(*item) if name in _VERSIONS else _plain(item)
        for name, item in fields
        if item is not None and name != "boot_seconds"
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
    present = {gpu.index for gpu in host.gpus}
    for named, indexes in (
        *((f"links[{at}].gpus", link.gpus) for at, link in enumerate(host.links)),
        *((f"xids[{at}].gpu", (xid.gpu,)) for at, xid in enumerate(host.xids)),
    ):
        absent = next((index for index in indexes if index not in present), None)
        if absent is not None:
            raise WrongError(named, f"there is no GPU {absent}")
    return dataclasses.replace(host, gpus=tuple(sorted(host.gpus, key=lambda gpu: gpu.index)))


def _gpu(value: object, place: str) -> GpuState:
    given = _given(table(value, place, _names(GpuState)), f"{place}.")
    required(given, place, ("index", "uuid", "name"))
    return GpuState(**given)


def _process(value: object, place: str) -> ProcessState:
    given = _given(table(value, place, _names(ProcessState)), f"{place}.")
    required(given, place, ("pid",))
    return ProcessState(**given)


def _link(value: object, place: str) -> LinkState:
    given = _given(table(value, place, _names(LinkState)), f"{place}.", _LINK)
    required(given, place, ("gpus", "path"))
    return LinkState(**given)


def _xid(value: object, place: str) -> XidState:
    given = _given(table(value, place, _names(XidState)), f"{place}.", _XID)
    required(given, place, ("gpu", "number"))
    return XidState(**given)


def _facts(value: object, place: str) -> GpuFacts:
    return GpuFacts(**_given(table(value, place, _names(GpuFacts) - _HOSTS), f"{place}."))


def _health(value: object, place: str) -> GpuHealth:
    return GpuHealth(**_given(table(value, place, _names(GpuHealth) - _HOSTS), f"{place}."))


def _names(shape: type) -> set[str]:
    return {each.name for each in dataclasses.fields(shape)}


def _given(
    fields: Mapping[str, object], prefix: str, own: Mapping[str, Read] | None = None
) -> dict[str, Any]:
    """Return the fields that say something, read by *own* first; null is the same as absent."""
    reads = _FIELDS if own is None else {**_FIELDS, **own}
    return {
        name: reads[name](value, f"{prefix}{name}")
        for name, value in fields.items()
        if value is not None
    }


def _version(value: object, place: str) -> tuple[int, int]:
    match = _VERSION.fullmatch(value) if isinstance(value, str) else None
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


def _one_of(names: tuple[str, ...]) -> Read:
    """Return what reads one of these words."""

    def parse(value: object, place: str) -> str:
        if value not in names:
            raise WrongError(place, f"{shown(value)} is none of {', '.join(names)}")
        return str(value)

    return parse


def _call(value: object, place: str) -> float | Call:
    if value == "hang" or value == "missing":
        return value
    return number(value, place)


def _fault(value: object, place: str) -> str:
    try:
        parse_fault(text(value, place))
    except ValueError as error:
        raise WrongError(place, str(error)) from None
    return str(value)


_FIELDS: Mapping[str, Read] = {
    "name": text,
    "driver_version": text,
    "cuda_version": _version,
    "cpus": whole,
    "memory_total_bytes": whole,
    "load_seconds": number,
    "gpus": list_of(_gpu),
    "links": list_of(_link),
    "xids": list_of(_xid),
    "calls": map_of(_call),
    "init_error": whole,
    "replicas": map_of(_fault),
    "index": whole,
    "uuid": text,
    "memory_reserved_bytes": whole,
    "compute_capability": _version,
    "pci_bus_id": _bus,
    "temperature_celsius": number,
    "power_watts": number,
    "power_limit_watts": number,
    "sm_clock_hertz": number,
    "memory_clock_hertz": number,
    "utilization_ratio": ratio,
    "memory_utilization_ratio": ratio,
    "memory_temperature_celsius": number,
    "fan_ratio": ratio,
    "performance_state": whole,
    "throttle_reasons": list_of(_reason),
    "processes": list_of(_process),
    "facts": _facts,
    "health": _health,
    "lost": truth,
    "pid": whole,
    "used_bytes": whole,
    "container": text,
    "type": _one_of(_TYPES),
    # Of its facts.
    "serial": text,
    "architecture": text,
    "minor_number": whole,
    "numa_node": whole,
    "mig_enabled": truth,
    "ecc_enabled": truth,
    "sm_clock_max_hertz": number,
    "memory_clock_max_hertz": number,
    "pcie_generation_max": whole,
    "pcie_width_max": whole,
    "power_limit_default_watts": number,
    "power_limit_min_watts": number,
    "power_limit_max_watts": number,
    "temperature_max_celsius": number,
    "temperature_slowdown_celsius": number,
    "temperature_shutdown_celsius": number,
    "memory_temperature_max_celsius": number,
    # Of its health.
    "ecc_corrected_volatile": whole,
    "ecc_uncorrected_volatile": whole,
    "ecc_corrected_aggregate": whole,
    "ecc_uncorrected_aggregate": whole,
    "remapped_rows_correctable": whole,
    "remapped_rows_uncorrectable": whole,
    "remapped_rows_pending": truth,
    "remapped_rows_failure": truth,
    "retired_pages_pending": truth,
    "pcie_generation": whole,
    "pcie_width": whole,
    "pcie_replays": whole,
    "recovery_action": _one_of(RECOVERY_ACTIONS),
    "energy_joules": number,
}
_LINK: Mapping[str, Read] = {"gpus": list_of(whole), "path": _one_of(_PATHS), "p2p": truth}
_XID: Mapping[str, Read] = {
    "gpu": whole,
    "number": whole,
    "source": _one_of(_SOURCES),
    "message": text,
}
