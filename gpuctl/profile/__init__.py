"""
TOML in, a resolved Profile out, or every mistake in it at once.

`up`, `check`, `plan` and `reload` call `load`; the daemon never does: it reads what was applied.
A tree of tables is read one by one (`tables`), then held against each other (`rules`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from gpuctl.errors import ProfileError
from gpuctl.model import (
    GatewaySettings,
    HostSettings,
    Profile,
    Variant,
    WatchdogSettings,
    Workload,
)
from gpuctl.overrides import apply
from gpuctl.profile import files, rules, tables, written
from gpuctl.profile.files import find, shipped, warnings
from gpuctl.profile.lines import Path, locate, with_lines
from gpuctl.profile.mistakes import Mistake, error_of, unknown_key
from gpuctl.profile.tables import schema
from gpuctl.quantities import show

if TYPE_CHECKING:
    from gpuctl.plugin import Engine

__all__ = ["find", "load", "loads", "schema", "shipped", "warnings", "with_lines"]

SCHEMA = 1

_KEYS = ("schema", "host", "watchdog", "workloads", "gateway")
#: What does not decide what a container is: a change of it replaces none. Where a replica goes
#: (GPUs, port) is added to its digest by planning.
_HOT = frozenset(
    {
        *("gpus", "replicas", "replicas_per_gpu", "port", "vram"),
        *("aliases", "health", "stop_grace", "startup"),
        # What differs elsewhere is in the digest of the replicas that are there.
        *("max_gpus", "fallback", "on_cpu", "scaled"),
    }
)
_VARIANTS = ("on_cpu", "scaled")
#: As other tools call what gpuctl takes from the group of GPUs.
_TENSOR_PARALLEL = frozenset({"tensor_parallel", "tensor_parallel_size", "tp", "tp_size"})


def load(
    path: str | FilePath,
    *,
    environment: Mapping[str, str] | None = None,
    engines: Mapping[str, Engine],
) -> Profile:
    """
    Return the profile in a file, with the overrides of *environment* (none by default) in it.

    Raises:
        ProfileError: with every mistake, as `file:line: path.to.key: what is wrong` and a hint.
    """
    text = files.read(FilePath(path))
    return loads(text, str(path), environment=environment, engines=engines)


def loads(
    text: str,
    source: str,
    *,
    environment: Mapping[str, str] | None = None,
    engines: Mapping[str, Engine],
) -> Profile:
    """Return the profile in a text; *source* names it in messages. Raises as `load` does."""
    raw = _parse(text, source)
    profile, mistakes = _resolve(raw, source, engines)
    if mistakes:
        raise error_of(source, locate(text), mistakes)
    return apply(profile, environment or {}).profile


def _parse(text: str, source: str) -> dict[str, Any]:
    """Return the TOML as plain values."""
    try:
        return dict(tomlkit.parse(text).unwrap())
    except (TOMLKitError, ValueError, RecursionError) as error:
        # A plain ValueError is a number of more digits than Python converts.
        line = getattr(error, "line", None) or _refusing_line(text)
        what = str(error).partition(" at line ")[0].rstrip(".")
        hint = "see https://toml.io for how TOML is written"
        raise ProfileError(((f"{source}:{line}: not TOML: {what}", hint),)) from error


def _refusing_line(text: str) -> int:
    """Return the line of a syntax error that tomlkit gives none for, as tomllib sees it."""
    try:
        tomllib.loads(text)
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        return int(found[1]) if found else 1
    return 1


def _resolve(
    raw: dict[str, Any], source: str, engines: Mapping[str, Engine]
) -> tuple[Profile, list[Mistake]]:
    """Return the profile as far as it is valid, and every mistake."""
    mistakes = [*_version(raw), *_sections(raw)]
    host = tables.read(HostSettings, raw.get("host", {}), ("host",))
    watchdog = tables.read(WatchdogSettings, raw.get("watchdog", {}), ("watchdog",))
    gateway = tables.read(GatewaySettings, raw.get("gateway", {}), ("gateway",))
    written_workloads = raw.get("workloads")
    drafts: list[rules.Draft] = []
    for name, table in written_workloads.items() if isinstance(written_workloads, dict) else ():
        draft, found = _workload(name, table, engines)
        drafts.append(draft)
        mistakes += found
    whole = rules.Drafts(
        host=tables.build(HostSettings, host.values),
        host_fields=frozenset(host.values),
        watchdog=tables.build(WatchdogSettings, watchdog.values),
        workloads=tuple(drafts),
        gateway=tables.build(GatewaySettings, gateway.values) if "gateway" in raw else None,
        engines=engines,
    )
    if "host" in raw:
        mistakes += host.mistakes
    mistakes += [*watchdog.mistakes, *gateway.mistakes, *rules.check(whole)]
    profile = Profile(
        host=whole.host,
        watchdog=whole.watchdog,
        workloads=tuple(draft.workload for draft in drafts),
        gateway=whole.gateway,
        source=source,
    )
    return profile, mistakes


def _version(raw: dict[str, Any]) -> list[Mistake]:
    if "schema" not in raw:
        return [Mistake(path=(), what="schema is missing", hint="begin the file with schema = 1")]
    version = raw["schema"]
    if version == SCHEMA and isinstance(version, int) and not isinstance(version, bool):
        return []
    what = f"{show(version)} is not a format this gpuctl knows"
    return [Mistake(path=("schema",), what=what, hint="write schema = 1")]


def _sections(raw: dict[str, Any]) -> list[Mistake]:
    """Return what is wrong with the top of the file."""
    mistakes = [unknown_key((key,), _KEYS) for key in raw if key not in _KEYS]
    if "host" not in raw:
        hint = 'add [host] with name = "…"'
        mistakes.append(Mistake(path=(), what="host is missing", hint=hint))
    workloads = raw.get("workloads", {})
    if not isinstance(workloads, dict):
        what = f"{show(workloads)} is not a table"
        mistakes.append(
            Mistake(path=("workloads",), what=what, hint="write [workloads.<name>] for each")
        )
    elif not workloads:
        what = "there is no workload"
        hint = "add [workloads.<name>] with an engine, a model and a port"
        mistakes.append(Mistake(path=(), what=what, hint=hint))
    return mistakes


def _workload(
    name: str, raw: object, engines: Mapping[str, Engine]
) -> tuple[rules.Draft, list[Mistake]]:
    path: Path = ("workloads", name)
    table = tables.read(Workload, raw, path)
    mistakes = list(table.mistakes)
    try:
        written.workload_name(name)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        mistakes.append(Mistake(path=path, what=what, hint=hint))
    if isinstance(raw, dict):
        mistakes += rules.secrets(raw.get("environment"), (*path, "environment"))
        for key in _VARIANTS:
            inner = raw.get(key)
            if isinstance(inner, dict):
                mistakes += rules.secrets(inner.get("environment"), (*path, key, "environment"))
    values = dict(table.values)
    intent = dict(table.intent)
    engine = engines.get(values.get("engine", ""))
    if engine is not None and "options" in values:
        options, found = _options(engine, values["options"], (*path, "options"))
        mistakes += found
        values["options"], intent["options"] = options.values, options.intent
    for key in _VARIANTS:
        if key in values:
            values[key], found = _variant(
                engines, values.get("engine", ""), values[key], (*path, key)
            )
            mistakes += found
    environment: Mapping[str, str | written.SecretFile] = values.pop("environment", {})
    values["environment"] = {k: v for k, v in environment.items() if isinstance(v, str)}
    values["secrets"] = {
        k: v.file for k, v in environment.items() if isinstance(v, written.SecretFile)
    }
    workload = replace(
        tables.build(Workload, values | {"name": name}),
        intent=_canonical({key: value for key, value in intent.items() if key not in _HOT}),
    )
    keys = frozenset(raw if isinstance(raw, dict) else tables.keys_of(Workload))
    return rules.Draft(workload=workload, fields=frozenset(table.values), keys=keys), mistakes


def _variant(
    engines: Mapping[str, Engine], usual: str, variant: Variant, path: Path
) -> tuple[Variant, list[Mistake]]:
    """Return a variant with its options as its engine takes them."""
    engine = engines.get(variant.engine or usual)
    if engine is None or variant.options is None:
        return variant, []
    options, mistakes = _options(engine, variant.options, (*path, "options"))
    return replace(variant, options=options.values), mistakes


def _options(
    engine: Engine, raw: Mapping[str, Any], path: Path
) -> tuple[tables.Read, list[Mistake]]:
    """Return the engine's own options as it takes them."""
    options = tables.read(engine.options, dict(raw), path)
    mistakes = [_explained(mistake, engine) for mistake in options.mistakes]
    try:
        engine.options(**options.values)
    except ValueError as error:
        # An engine begins with the key: "batch: 0 is not 1 or more".
        key, colon, what = str(error).partition(": ")
        place = (*path, key) if colon and key in raw else path
        what, _, hint = (what if place != path else str(error)).partition("; ")
        hint = hint or f"see the options of engine {engine.name}"
        mistakes.append(Mistake(path=place, what=what, hint=hint))
    return options, mistakes


def _explained(mistake: Mistake, engine: Engine) -> Mistake:
    if mistake.what == "unknown key" and mistake.path[-1] in _TENSOR_PARALLEL and engine.groups:
        hint = "it follows from the group: gpus = [[0, 1]] is one replica on two GPUs"
        return replace(mistake, hint=hint)
    return mistake


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
