"""
The small notations of a profile: "8x P106-100", "models:/models:ro", `gpus = [[2, 3]]`.

Each function takes one TOML value and returns its domain value, or raises a `ValueError` of the
form "what is wrong; what to write instead". Beside them the JSON Schema of each, as near as a
schema comes. Called by `tables`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpuctl.model import DockerHealth, ExpectedGpus, GpuName, Mount, Ulimit
from gpuctl.quantities import parse_bytes, show

Json = dict[str, Any]

_EXPECTED = re.compile(r"([0-9]{1,3}) ?x(?: +(\S.*))?")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z-]+")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_REPLICA = re.compile(r".*-[0-9]+|[0-9]+")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LISTEN = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_ROUTE = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_CAPABILITY = re.compile(r"(?:CAP_)?[A-Z][A-Z_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ULIMIT = re.compile(r"[a-z]+")
_TEST_FORMS = ("CMD", "CMD-SHELL")
#: Where the gateway itself answers; `/ui` is kept for what is to come.
RESERVED_PATHS = (
    *("/v1", "/health", "/ready", "/readyz", "/metrics", "/admin", "/debug"),
    *("/openapi.json", "/ui"),
)
_LONGEST_NAME = 40  # `gpuctl-<name>-<index>` stays below the 63 characters of a DNS label


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """`{ file = "/path" }`: a value that is read where it is needed and never kept here."""

    file: str


def name(value: object) -> str:
    """Return the name of a host: lower case, digits and hyphens."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > _LONGEST_NAME:
        raise ValueError(
            f"{show(value)} is not a name; use lower-case letters, digits and hyphens between them,"
            f" at most {_LONGEST_NAME}"
        )
    return value


def workload_name(value: object) -> str:
    """Return the name of a workload, which must not read as that of a replica."""
    text = name(value)
    if _REPLICA.fullmatch(text):
        raise ValueError(
            f"{show(text)} ends as the name of a replica does; end it in a letter, since replicas"
            " are named chat-0, chat-1 …"
        )
    return text


def expected_gpus(value: object) -> tuple[ExpectedGpus, ...]:
    """Return `"8x P106-100"`, or a list of such, as what must be there; "" is no GPU."""
    texts = value if isinstance(value, list) else [value] if value != "" else []
    found: list[ExpectedGpus] = []
    for text in texts:
        match = _EXPECTED.fullmatch(text) if isinstance(text, str) else None
        if not match or int(match[1]) == 0:
            raise ValueError(
                f'{show(text)} is not a number of GPUs; write "8x P106-100", "2x" for any two,'
                " or a list of such"
            )
        found.append(ExpectedGpus(count=int(match[1]), name=(match[2] or "").strip()))
    return tuple(found)


def gpu(value: object) -> GpuName:
    """Return one GPU: its index on this host or its UUID."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value
    raise ValueError(f'{show(value)} is not a GPU; write its index (0, 1 …) or its UUID "GPU-…"')


def group(value: object) -> tuple[GpuName, ...]:
    """Return one replica's GPUs: a GPU alone, or a list of them."""
    if isinstance(value, list) and not value:
        raise ValueError("a group of no GPU; name the GPUs of one replica, as in [[0, 1]]")
    return tuple(gpu(item) for item in value) if isinstance(value, list) else (gpu(value),)


def mount(value: object) -> Mount:
    """Return `source:/target` or `source:/target:ro`, as Docker writes them."""
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ValueError(f'{show(value)} is not a mount; write "source:/target" or "…:ro"')
    source, target = parts[0], parts[1]
    if not source.startswith("/") and not _VOLUME.fullmatch(source):
        raise ValueError(
            f"{show(source)} is neither an absolute path nor a volume; write the whole path, from /"
        )
    if not target.startswith("/") or ".." in target.split("/"):
        raise ValueError(f"{show(target)} is not a path inside the container; begin it with /")
    return Mount(source=source, target=target, read_only=len(parts) == 3 and parts[2] == "ro")


def ulimits(value: object) -> tuple[Ulimit, ...]:
    """Return `{ memlock = -1, stack = [67108864, 67108864] }`, by name."""
    if not isinstance(value, dict):
        raise ValueError(f"{show(value)} is not a table; write {{ memlock = -1 }}")
    return tuple(_ulimit(key, value[key]) for key in sorted(value))


def _ulimit(key: str, value: object) -> Ulimit:
    form = "write a number, [soft, hard], or -1 for unlimited"
    if not _ULIMIT.fullmatch(key):
        raise ValueError(f"{show(key)} is not a limit; use the names of `docker run --ulimit`")
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2:
        raise ValueError(f"{key}: {show(value)} is not a limit; {form}")
    soft, hard = (_limit(key, item, form) for item in pair)
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"{key}: the soft limit {soft} is above the hard limit {hard}; {form}")
    return Ulimit(name=key, soft=soft, hard=hard)


def _limit(key: str, value: object, form: str) -> int:
    if value == -1 and not isinstance(value, bool):
        return -1
    try:
        return parse_bytes(value)
    except ValueError:
        raise ValueError(f"{key}: {show(value)} is not a limit; {form}") from None


def listen(value: object) -> str:
    """Return `host:port`, as a server binds it."""
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if not match or not 1 <= int(match[1]) <= 65535:
        raise ValueError(f'{show(value)} is not an address; write "127.0.0.1:4000"')
    return str(value)


def route_path(value: object) -> str:
    """Return the path that a pass-through route begins with: whole segments, none of our own."""
    if not isinstance(value, str) or not _ROUTE.fullmatch(value):
        raise ValueError(
            f'{show(value)} is not the path of a route; write one as "/ocr", with no / at its end'
        )
    if {".", ".."} & set(value.split("/")):
        raise ValueError(f"{show(value)} goes up or nowhere; write it without dots between slashes")
    taken = next((own for own in RESERVED_PATHS if f"{value}/".startswith(f"{own}/")), None)
    if taken is not None:
        raise ValueError(f"{taken} is answered by the gateway itself; choose another path")
    return value


def absolute(value: object) -> str:
    """Return the path of a file on this host."""
    if not isinstance(value, str) or not value.startswith("/") or "\x00" in value:
        raise ValueError(f"{show(value)} is not an absolute path; begin it with /")
    return value


def capability(value: object) -> str:
    """Return a capability to add, as Docker names it."""
    if not isinstance(value, str) or not _CAPABILITY.fullmatch(value):
        raise ValueError(f'{show(value)} is not a capability; write one as "IPC_LOCK"')
    return value


def variable_name(value: object) -> str:
    """Return the name of an environment variable."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError(f"{show(value)} cannot name a variable; use letters, digits and _")
    return value


def variable_value(value: object) -> str | SecretFile:
    """
    Return a variable's text, or the file that holds it. A message never shows what was written:
    it may be a secret.
    """
    if isinstance(value, str) and "\x00" not in value:
        return value
    if isinstance(value, dict) and value.keys() == {"file"}:
        path = value["file"]
        if isinstance(path, str) and path.startswith("/") and "\x00" not in path:
            return SecretFile(file=path)
        raise ValueError('the file is not an absolute path; write { file = "/etc/gpuctl/token" }')
    raise ValueError('the value is not a text; put it in quotes, or write { file = "/path" }')


def plain_variable(value: object) -> str:
    """Return a variable's text; a secret belongs to the workload, which has it everywhere."""
    found = variable_value(value)
    if isinstance(found, SecretFile):
        raise ValueError("a secret has no place here; write it in the workload's environment")
    return found


def docker_test(value: object) -> tuple[str, ...]:
    """Return the command of Docker's own health check: `["CMD", …]` or `["CMD-SHELL", "…"]`."""
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not texts or not isinstance(value, list) or len(value) < 2 or value[0] not in _TEST_FORMS:
        raise ValueError(
            f'{show(value)} is not a test; write ["CMD", "curl", …] or ["CMD-SHELL", …]'
        )
    return DockerHealth(test=tuple(value)).test


BYTES_SCHEMA: Json = {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)? ?[kKmMgGtT]?([iI]?[bB])?$",
    "minimum": 0,
}
SECONDS_SCHEMA: Json = {
    "type": ["string", "number"],
    "pattern": "^([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9]+ms)?$",
    "minLength": 2,
    "minimum": 0,
}
RATIO_SCHEMA: Json = {
    "type": ["string", "number"],
    "pattern": "^[0-9]+(\\.[0-9]+)? ?%$",
    "minimum": 0,
    "maximum": 1,
}
GPU_SCHEMA: Json = {"type": ["integer", "string"], "minimum": 0, "pattern": "^(GPU|MIG)-"}
GROUP_SCHEMA: Json = {"anyOf": [GPU_SCHEMA, {"type": "array", "items": GPU_SCHEMA}]}
GPUS_SCHEMA: Json = {
    "anyOf": [
        {"enum": ["each", "none"]},
        {"type": "string", "pattern": "^(GPU|MIG)-"},
        {"type": "array", "minItems": 1, "items": GROUP_SCHEMA},
    ]
}
ULIMIT_SCHEMA: Json = {
    "anyOf": [
        {"type": ["integer", "string"]},
        {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": ["integer", "string"]}},
    ]
}
PLAIN_VALUE_SCHEMA: Json = {"type": "string"}
VALUE_SCHEMA: Json = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {"file": {"type": "string", "pattern": "^/"}},
        },
    ]
}
EXPECTED_SCHEMA: Json = {
    "type": ["string", "array"],
    "pattern": "^([0-9]+ ?x( .*)?)?$",
    "items": {"type": "string", "pattern": "^[0-9]+ ?x( .*)?$"},
}
MOUNT_SCHEMA: Json = {"type": "string", "pattern": "^[^:]+:/[^:]*(:r[ow])?$"}
