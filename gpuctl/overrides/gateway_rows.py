"""
The variables of the environment that gateways in front of these engines read: one row each, and
`[gateway]` with them in it. Pure; called by `apply`.

A key's text goes nowhere: the settings name the variable, and the gateway looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpuctl.model import GatewaySettings
from gpuctl.overrides import changes

Mistake = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variable; of `read`, `always` and `keys` it has what applies."""

    variable: str
    does: str  # for the docs
    read: Callable[[str], Any] | None = None
    sets: str = ""  # with `read`: a field of GatewaySettings, or of a table in it: "queue.size"
    always: str = ""  # of a switch: what is so, whatever it says
    keys: bool = False  # it holds keys


def _size(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number; write digits, 0 for none")
    return int(text)


def _duration(text: str) -> float:
    found = changes.seconds(text)
    if found == 0:
        raise ValueError(f"{text} is no time at all; write more than 0")
    return found


#: The names that gateways for vLLM are configured by.
TABLE = (
    Row(
        variable="MAX_QUEUE_SIZE",
        does="`gateway.queue.size`",
        sets="queue.size",
        read=_size,
    ),
    Row(
        variable="REQUEST_TIMEOUT_STREAMING",
        does="`gateway.timeouts.streaming`, in seconds",
        sets="timeouts.streaming_seconds",
        read=_duration,
    ),
    Row(
        variable="REQUEST_TIMEOUT_BATCH",
        does="`gateway.timeouts.batch`, in seconds",
        sets="timeouts.batch_seconds",
        read=_duration,
    ),
    Row(
        variable="CIRCUIT_BREAKER_FAILURES",
        does="`gateway.gate.allowed_fails`",
        sets="gate.allowed_fails",
        read=changes.count,
    ),
    Row(
        variable="CIRCUIT_BREAKER_RECOVERY",
        does="`gateway.gate.cooldown`, in seconds",
        sets="gate.cooldown_seconds",
        read=_duration,
    ),
    Row(
        variable="STREAMING_KEEP_ALIVE_INTERVAL",
        does="`gateway.keep_alive_interval`, in seconds",
        sets="keep_alive_interval_seconds",
        read=_duration,
    ),
    *(
        Row(variable=name, does=f"always so: {always}; `false` changes nothing", always=always)
        for name, always in (
            ("ENABLE_FUNCTION_CALLING", "tools go to the engine as they are"),
            ("ENABLE_USAGE_STATS", "every request's tokens are counted"),
            ("ENABLE_TIKTOKEN_COUNTING", "tokens are counted, by the engine that made them"),
            ("ENABLE_PROMETHEUS", "`/metrics` is there"),
            ("ENABLE_REQUEST_TRACING", "every request has an id and a timeline in the log"),
            ("STRUCTURED_LOGGING", "the gateway's log is lines of JSON"),
        )
    ),
    *(
        Row(
            variable=name,
            does="keys, with commas between: recorded is only that the gateway finds them in its"
            " own environment, and it does not run without",
            keys=True,
        )
        for name in ("GATEWAY_API_KEYS", "API_KEYS")
    ),
    *(
        Row(
            variable=name,
            does="a file of keys, added to `gateway.key_files`",
            sets="key_files",
            read=changes.absolute,
        )
        for name in ("GATEWAY_API_KEYS_FILE", "API_KEYS_FILE")
    ),
)

#: Those that name the file of a secret.
FILES = tuple(row.variable for row in TABLE if row.sets == "key_files")


def changed(
    settings: GatewaySettings, environment: Mapping[str, str]
) -> tuple[GatewaySettings, dict[str, str], list[Mistake]]:
    """
    Return the settings with the environment in them, the variables that are in it, and mistakes.

    Variables that hold keys are not among the second, which is told and stored with its texts.
    """
    used: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for row in _set(environment):
        text = environment[row.variable]
        try:
            if row.always:
                changes.switch(text)
            elif row.keys:
                settings = _with(settings, "keys_from", row.variable)
            else:
                assert row.read is not None  # by what a Row is
                settings = _with(settings, row.sets, row.read(text))
                used[row.variable] = text
        except ValueError as error:
            what, _, hint = str(error).rpartition("; ")
            mistakes.append((f"environment: {row.variable}: {what}", hint))
    return settings, used, mistakes


def notes(settings: GatewaySettings | None, environment: Mapping[str, str]) -> Iterator[Mistake]:
    """Yield what to tell of variables that change nothing, or are needed elsewhere."""
    rows = tuple(_set(environment))
    if settings is None and rows:
        names = ", ".join(row.variable for row in rows)
        hint = "add [gateway] to have one"
        yield f"environment: nothing takes {names}: the profile has no gateway", hint
        return
    for row in rows:
        text = environment[row.variable]
        if row.always and not changes.switch(text):
            yield f"environment: {row.variable}={text} changes nothing: {row.always}", ""
        if row.keys:
            yield (
                f"environment: {row.variable}: its keys are stored nowhere: the gateway needs the"
                " variable in its own environment",
                f"set it where the gateway is started, or set {row.variable}_FILE",
            )


def _set(environment: Mapping[str, str]) -> Iterator[Row]:
    return (row for row in TABLE if environment.get(row.variable))


def _with(settings: GatewaySettings, path: str, value: Any) -> GatewaySettings:
    """Return the settings with one value in them; a tuple takes it in beside what it has."""
    table, _, name = path.rpartition(".")
    if table:
        inner = replace(getattr(settings, table), **{name: value})
        return replace(settings, **{table: inner})
    before = getattr(settings, name)
    if isinstance(before, tuple):
        value = tuple(dict.fromkeys((*before, value)))
    return replace(settings, **{name: value})
