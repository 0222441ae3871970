"""
The tables of a profile as pydantic models, made from the domain's dataclasses, and their schema.

A key is its field's name without the unit (`memory_bytes` is `memory`), its type follows from the
unit, and its default stays where it is: in `gpuctl.model`. What the operator wrote goes in, what
was valid comes out with a Mistake for all the rest. Nowhere else is pydantic imported but in the
reader of the state database.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pydantic
import pydantic.json_schema
from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, WrapValidator

from gpuctl.applied import encode, hints_of
from gpuctl.model import (
    DockerHealth,
    GatewaySettings,
    HostSettings,
    LogRotation,
    Variant,
    WatchdogSettings,
    Workload,
)
from gpuctl.model.profile import PRIORITIES
from gpuctl.profile import written
from gpuctl.profile.lines import Path
from gpuctl.profile.mistakes import Mistake, from_validation
from gpuctl.profile.written import Json
from gpuctl.quantities import parse_bytes, parse_ratio, parse_seconds, show

T = TypeVar("T")

_UNITS = ("_bytes", "_seconds")
#: Keys that are not their field's name without the unit: Docker's own words.
_NAMES = {(LogRotation, "max_bytes"): "max_size", (LogRotation, "files"): "max_files"}
#: Set by the loader, never by the operator.
_HIDDEN = {
    *((Workload, name) for name in ("name", "intent", "secrets", "set_by")),
    (Variant, "set_by"),
    (GatewaySettings, "keys_from"),
}
#: Fields for which 0 makes no sense; any other number may be 0, and none may be negative.
_POSITIVE = frozenset(
    {
        *("memory_bytes", "memory_swap_bytes", "shm_bytes", "vram_bytes", "max_bytes"),
        *("interval_seconds", "timeout_seconds", "health_timeout_seconds", "tick_gap_seconds"),
        *("startup_seconds", "startup_limit_seconds", "action_seconds"),
        *("context", "parallel", "replicas", "replicas_per_gpu", "retries", "files"),
        *("gpus", "max_gpus"),
        *("readiness_failures", "hard_failures", "soft_failures", "vram_readings"),
        *("pids_limit", "max_in_flight", "host_fault_replicas"),
        *("throttle_minutes", "trend_seconds", "pcie_width"),
        *("allowed_fails", "cooldown_seconds", "keep_alive_interval_seconds"),
        *("connect_seconds", "streaming_seconds", "batch_seconds", "attempt_seconds"),
        *("idle_seconds", "head_seconds", "body_seconds", "keep_alive_seconds"),
        *("headers", "body_bytes", "connections", "connections_per_ip"),
        "requests_per_minute_per_ip",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One table as far as it is valid."""

    values: Mapping[str, Any]  # by field name, only what was written
    #: The same as plain JSON, by key: what the operator meant, whatever way it was written.
    intent: Json
    mistakes: tuple[Mistake, ...] = ()


def read(kind: type[Any], raw: object, path: Path) -> Read:
    """Return what is valid of the table at *path*, as fields of the dataclass *kind*."""
    table = _table(kind)  # type: ignore[arg-type]  # every class is hashable
    try:
        return _read(kind, table.model_validate(raw))
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
    mistakes = tuple(_mistake(kind, entry, path) for entry in found)
    if not isinstance(raw, dict):
        return Read(values={}, intent={}, mistakes=mistakes)
    wrong = {entry["loc"][0] for entry in found if entry["loc"]}
    valid = {key: value for key, value in raw.items() if key not in wrong}
    # What is required and wrong is stood in for, so that the rest of the table can be read.
    required = (item for item in fields(kind) if _required(item) and item.name in _STAND_INS)
    absent = {key_of(kind, item) for item in required if (kind, item.name) not in _HIDDEN}
    filled = table.model_validate({key: _STAND_INS[key] for key in absent} | valid)
    values = _read(kind, filled).values
    known = {name: value for name, value in values.items() if _key(kind, name) in valid}
    return Read(values=known, intent={}, mistakes=mistakes)


_STAND_INS: Json = {"name": "unnamed", "engine": "unknown", "port": 1, "test": ["CMD", "true"]}


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass with these values; what is required and absent is stood in for."""
    absent = {
        item.name: _STAND_INS[item.name]
        for item in fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
        if _required(item) and item.name not in values
    }
    return kind(**(absent | dict(values)))


def keys_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the keys of a table in the order of its fields."""
    return tuple(key_of(kind, item) for item in fields(kind) if (kind, item.name) not in _HIDDEN)


def key_of(kind: type[Any], item: Field[Any]) -> str:
    return _key(kind, item.name)


def _key(kind: type[Any], name: str) -> str:
    if (kind, name) in _NAMES:
        return _NAMES[kind, name]
    return next((name.removesuffix(unit) for unit in _UNITS if name.endswith(unit)), name)


def schema() -> Json:
    """Return the JSON Schema of a profile, for editors."""
    parts = {"host": HostSettings, "watchdog": WatchdogSettings, "gateway": GatewaySettings}
    models = [(_table(kind), "validation") for kind in (*parts.values(), Workload)]
    _, document = pydantic.json_schema.models_json_schema(models)  # type: ignore[arg-type]
    definitions = _without_null(document["$defs"])
    properties: Json = {"schema": {"const": 1, "description": "The version of this format."}}
    properties |= {key: {"$ref": f"#/$defs/{kind.__name__}"} for key, kind in parts.items()}
    properties["workloads"] = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 40},
        "additionalProperties": {"$ref": "#/$defs/Workload"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gpuctl profile",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "host", "workloads"],
        "properties": properties,
        "$defs": definitions,
    }


def _without_null(value: Any) -> Any:
    """Drop `"default": null`: TOML has no null, and a key without a default is left out."""
    if isinstance(value, dict):
        return {
            key: _without_null(item)
            for key, item in value.items()
            if not (key == "default" and item is None)
        }
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def _read(kind: type[Any], model: pydantic.BaseModel) -> Read:
    """Return what was written, by field name and as plain JSON."""
    values: dict[str, Any] = {}
    intent: Json = {}
    for item in fields(kind):
        key = key_of(kind, item)
        if key not in model.model_fields_set:
            continue
        value = getattr(model, key)
        inner = _without_none(hints_of(kind)[item.name])
        if isinstance(value, _Table):
            part = _read(inner, value)
            values[item.name], intent[key] = build(inner, part.values), part.intent
        else:
            values[item.name] = _frozen(value)
            intent[key] = encode(value)
    return Read(values=values, intent=intent)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _mistake(kind: type[Any], error: Mapping[str, Any], path: Path) -> Mistake:
    """Return a mistake at the place that pydantic names, less what it adds to it."""
    inside = tuple(part for part in error["loc"] if part != "[key]")
    for part in inside[:-1]:
        names = {key_of(kind, item): item.name for item in fields(kind)}
        hint = _without_none(hints_of(kind)[names[part]]) if part in names else None
        if not is_dataclass(hint):
            break
        kind = hint  # type: ignore[assignment]  # a dataclass by the line above
    return from_validation(error, path + inside, keys_of(kind))


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, protected_namespaces=()
    )


@functools.cache
def _table(kind: Any) -> type[_Table]:
    """Return the pydantic model of a dataclass's table."""
    hints = hints_of(kind)
    definitions = {
        key_of(kind, item): _definition(kind, item, hints[item.name])
        for item in fields(kind)
        if (kind, item.name) not in _HIDDEN
    }
    model: type[_Table] = pydantic.create_model(  # type: ignore[call-overload]
        kind.__name__, __base__=_Table, **definitions
    )
    return model


def _definition(kind: type[Any], item: Field[Any], hint: Any) -> tuple[Any, Any]:
    annotation = _SPECIAL.get((kind, item.name)) or _by_unit(item.name, _without_none(hint))
    if _required(item):
        return annotation, ...
    default = item.default if item.default is not MISSING else None
    plain = default if isinstance(default, bool | int | float | str) else None
    return annotation, list(default) if isinstance(default, tuple) else plain


def _by_unit(name: str, hint: Any) -> Any:
    """Return the type of a field's TOML value: by the unit of its name, else its own."""
    if name.endswith("_seconds"):
        quantity = _positive(Seconds) if name in _POSITIVE else Seconds
        return Annotated[list[Seconds], _AT_LEAST_ONE] if get_origin(hint) is tuple else quantity
    if name.endswith("_bytes"):
        return _positive(Bytes) if name in _POSITIVE else Bytes
    if name.endswith("_ratio"):
        return Ratio
    if name.endswith("_celsius"):
        return Celsius
    if hint is int:
        return Positive if name in _POSITIVE else Count
    if hint is str:
        return Text
    if get_origin(hint) is tuple:
        return list[_by_unit(name, get_args(hint)[0])]  # type: ignore[misc]
    return _table(hint) if is_dataclass(hint) else hint  # type: ignore[arg-type]  # as in `read`


def _without_none(hint: Any) -> Any:
    members = [member for member in get_args(hint) if member is not type(None)]
    return Union[tuple(members)] if type(None) in get_args(hint) else hint  # noqa: UP007


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _gpus(value: object, inner: Callable[[object], Any]) -> Any:
    """Read `"each"`, `"none"`, a UUID, or a list in which every item is one replica's GPUs."""
    if value in ("each", "none"):
        return value
    if isinstance(value, str) and value.startswith(("GPU-", "MIG-")):
        return tuple(inner([value]))
    if not isinstance(value, list) or not value:
        form = 'write "each", "none", [0, 1] or [[0, 1]]'
        raise ValueError(f"{show(value)} does not say which GPUs; {form}")
    return tuple(inner(value))


def _positive(quantity: Any) -> Any:
    def check(value: float) -> float:
        if value <= 0:
            raise ValueError("0 is not enough; write more than 0, or leave the key out")
        return value

    return Annotated[quantity, pydantic.AfterValidator(check)]


_AT_LEAST_ONE = pydantic.Field(min_length=1)


def _text(check: Callable[[object], Any], **schema: Any) -> Any:
    return Annotated[Any, PlainValidator(check), WithJsonSchema({"type": "string"} | schema)]


Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(written.BYTES_SCHEMA)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), WithJsonSchema(written.SECONDS_SCHEMA)]
Ratio = Annotated[float, BeforeValidator(parse_ratio), WithJsonSchema(written.RATIO_SCHEMA)]
Celsius = Annotated[float, pydantic.Field(ge=0, le=200)]
Count = Annotated[int, pydantic.Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, pydantic.Field(ge=1, le=2**31 - 1)]
Port = Annotated[int, pydantic.Field(ge=1, le=65535)]
Kind = hints_of(Workload)["kind"]
Priority = Annotated[int, pydantic.Field(ge=0, le=100)]
Retries = Annotated[int, pydantic.Field(ge=0, le=10)]
Text = Annotated[str, pydantic.Field(min_length=1)]
Gpu = Annotated[Any, PlainValidator(written.gpu), WithJsonSchema(written.GPU_SCHEMA)]
Group = Annotated[Any, PlainValidator(written.group), WithJsonSchema(written.GROUP_SCHEMA)]
Variable = Annotated[
    Any, PlainValidator(written.variable_value), WithJsonSchema(written.VALUE_SCHEMA)
]

PlainVariable = Annotated[
    str, PlainValidator(written.plain_variable), WithJsonSchema(written.PLAIN_VALUE_SCHEMA)
]

VariableName = Annotated[str, BeforeValidator(written.variable_name)]
RoutePath = Annotated[str, BeforeValidator(written.route_path)]
Mounted = Annotated[Any, PlainValidator(written.mount), WithJsonSchema(written.MOUNT_SCHEMA)]
Capability = Annotated[str, BeforeValidator(written.capability)]

#: The keys whose notation does not follow from the field's name and type.
_SPECIAL: dict[tuple[type[Any], str], Any] = {
    (HostSettings, "name"): _text(written.name, pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"),
    (HostSettings, "gpus"): Annotated[
        Any, PlainValidator(written.expected_gpus), WithJsonSchema(written.EXPECTED_SCHEMA)
    ],
    (HostSettings, "reserve"): list[Gpu],
    (GatewaySettings, "listen"): _text(written.listen, pattern=":[0-9]+$"),
    (GatewaySettings, "retries"): Retries,
    (GatewaySettings, "key_files"): list[_text(written.absolute, pattern="^/")],  # type: ignore[misc]
    (GatewaySettings, "priorities"): Annotated[
        dict[Kind, Priority],  # type: ignore[valid-type]
        pydantic.AfterValidator(lambda found: PRIORITIES | found),
    ],
    (GatewaySettings, "pass_through"): dict[RoutePath, Text],
    (DockerHealth, "test"): Annotated[
        Any,
        PlainValidator(written.docker_test),
        WithJsonSchema({"type": "array", "minItems": 2, "items": {"type": "string"}}),
    ],
    (Workload, "gpus"): Annotated[
        list[Group], WrapValidator(_gpus), WithJsonSchema(written.GPUS_SCHEMA)
    ],
    (Workload, "port"): Port,
    (Workload, "container_port"): Port,
    (Workload, "mounts"): list[Mounted],
    (Workload, "cap_add"): list[Capability],
    (Workload, "environment"): dict[VariableName, Variable],
    (Workload, "ulimits"): Annotated[
        Any,
        PlainValidator(written.ulimits),
        WithJsonSchema({"type": "object", "additionalProperties": written.ULIMIT_SCHEMA}),
    ],
    (Workload, "options"): dict[str, Any],
    (Variant, "port"): Port,
    (Variant, "environment"): dict[VariableName, PlainVariable],
    (Variant, "options"): dict[str, Any],
}
