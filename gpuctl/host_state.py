"""
Host-state files: a GPU host written down as JSON, text in, `HostState` out.

The simulated host reads them, and so do the tests that put a fake NVML library under the real
binding. `null` or an absent field of a GPU always means "this card does not report it".

`replicas` gives a simulated replica a fault, by name; `FAULTS` has every one of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from gpuctl.errors import NotFound, UsageError
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
#: Eight GPUs with their processes are 10 KB; more than this is another file.
_MOST_BYTES = 1024**2

#: What a simulated replica can suffer, and what each does to it. A number follows where one is
#: named: `exit:1`, `slow_load:30`.
FAULTS: Mapping[str, str] = {
    "exit:CODE": "its container ends with this exit code, whenever it is started",
    "oom": "it is killed by its memory limit: exit code 137, OOM flag set",
    "start_refused": "the runtime will not start it",
    "refused": "it runs, and its port refuses every connection",
    "reset": "it runs, and resets every connection",
    "timeout": "it accepts every connection and answers none",
    "dead": "it answers its health check with 503, loaded or not",
    "stalled": "its health check is good and it makes no token",
    "vram_lost": "its health check is good and its processes hold no VRAM",
    "slow_load:SECONDS": "its load takes this long instead of `load_seconds`",
}

_PCI_BUS_ID = re.compile(r"[0-9a-f]{8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_COMPUTE_CAPABILITY = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})")

#: NVML's clock event reasons by bit, from the lowest: `nvmlClocksEventReason*` in nvml.h.
THROTTLE_REASONS = (
    "idle",
    "applications_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal",
    "hw_thermal",
    "hw_power_brake",
    "display",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process that holds VRAM; *container* is the replica or container it belongs to."""

    pid: int
    used_bytes: int | None = None
    container: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """One card; what is `None` it does not report."""

    index: int  # its place in NVML's enumeration
    uuid: str
    name: str
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None  # None: a driver before R510, without memory info v2
    compute_capability: tuple[int, int] | None = None
    pci_bus_id: str | None = None  # domain:bus:device.function, lower case: 00000000:01:00.0
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    sm_clock_hertz: float | None = None
    utilization_ratio: float | None = None
    throttle_reasons: tuple[str, ...] | None = None  # of THROTTLE_REASONS
    processes: tuple[ProcessState, ...] | None = None
    lost: bool = False  # off the bus: every call on it answers GPU_IS_LOST

    @property
    def memory_used_bytes(self) -> int:
        """What its processes hold together, without what the driver reserves."""
        return sum(process.used_bytes or 0 for process in self.processes or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """A host with its GPUs, by index, and what is wrong with it."""

    name: str
    driver_version: str | None = None  # None: no driver
    cpus: int = 1
    memory_total_bytes: int
    load_seconds: float = 2.0  # how long a simulated replica loads its model
    gpus: tuple[GpuState, ...] = ()
    #: NVML function → seconds that each call of it takes, or "hang" for one that never returns.
    calls: Mapping[str, float | Literal["hang"]] = field(default_factory=dict)
    init_error: int | None = None  # the NVML return code of nvmlInit; 18: library and driver differ
    replicas: Mapping[str, str] = field(default_factory=dict)  # replica → one of FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a simulated replica, taken apart; *number* is the code or the seconds."""

    kind: str
    number: float | None = None


def shipped() -> dict[str, Path]:
    """Return the shipped host-state files by name, sorted."""
    folder = Path(__file__).parent / "data" / "hosts"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def find(name_or_path: str) -> Path:
    """
    Return the file of a shipped host by its name, or the path given.

    Raises:
        NotFound: it is neither; the hint has the nearest shipped name.
    """
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix == ".json":
        return path
    near = difflib.get_close_matches(name_or_path, names, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"the shipped hosts are {', '.join(names)}."
    raise NotFound(f"there is no host {name_or_path!r}", f"{meant} A path needs a / or .json.")


def read(path: Path) -> HostState:
    """
    Return the host of a file.

    Raises:
        UsageError: it cannot be read, or is no host state.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            _refuse(str(path), "it is over 1 MiB: that is no host state")
        text = content.decode("utf-8")
    except OSError as error:
        _refuse(str(path), error.strerror or str(error))
    except UnicodeDecodeError as error:
        _refuse(str(path), f"byte {error.start} is not UTF-8 text")
    except ValueError as error:  # a NUL in the path
        _refuse(repr(str(path)), str(error))
    return load(text, source=str(path))


def load(text: str, *, source: str = "host state") -> HostState:
    """
    Return the host written in *text*; *source* names it in errors.

    Raises:
        UsageError: it is not JSON, or says something that a host cannot be, with file and place.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _refuse(f"{source}:{error.lineno}:{error.colno}", f"it is not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:  # NaN, a number too long, nested too deeply
        _refuse(source, f"it is not JSON: {error}")
    try:
        return _host(document)
    except WrongError as error:
        _refuse(f"{source}: {error.place}" if error.place else source, error.message)


def dump(host: HostState) -> str:
    """Return the text that `load` reads back as the same host; what is None is left out."""
    document = {"schema": SCHEMA, **_written(host)}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse_fault(text: str) -> Fault:
    """
    Return one of FAULTS with its number.

    Raises:
        ValueError: it is none of them.
    """
    kind, colon, number = text.partition(":")
    for pattern in FAULTS:
        known, takes, _ = pattern.partition(":")
        if kind != known or takes != colon:
            continue
        if not takes:
            return Fault(kind=kind)
        if re.fullmatch(r"[0-9]{1,3}" if known == "exit" else r"[0-9]{1,6}(\.[0-9]{1,3})?", number):
            return Fault(kind=kind, number=float(number))
    raise ValueError(f"{text!r} is no fault; they are {', '.join(FAULTS)}")


def _refuse(place: str, message: str) -> NoReturn:
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
