"""
What the engine answers → ContainerReading and RuntimeEvent. Pure; called by `DockerRuntime`.

Source of every field: Docker Engine API v1.41, ContainerInspect and SystemEvents.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

from gpuctl.model import ContainerReading, RuntimeEvent

#: A container is ours when it has this label.
REPLICA = "gpuctl.replica"
PROFILE = "gpuctl.profile"

#: The actions of the event stream that say something about a container's life.
ACTIONS = ("start", "die", "oom", "kill", "stop", "destroy", "rename", "pause", "unpause")

_State = Literal["created", "running", "paused", "exited", "dead", "removing", "removed"]


def reading(inspected: Mapping[str, Any], *, boot_seconds: float) -> ContainerReading:
    """Return what `GET /containers/{id}/json` answered; its labels say whose it is."""
    state = inspected["State"]
    labels = labels_of(inspected)
    status = _status(state["Status"])
    return ContainerReading(
        id=inspected["Id"],
        name=inspected["Name"].removeprefix("/"),
        replica=labels.get(REPLICA, ""),
        profile=labels.get(PROFILE, ""),
        state=status,
        pid=state.get("Pid") or None,
        started_at=unix_seconds(state.get("StartedAt", "")),
        finished_at=unix_seconds(state.get("FinishedAt", "")),
        exit_code=_exit_code(status, state),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error", ""),
        gpus=tuple(uuid for uuid in labels.get("gpuctl.gpus", "").split(",") if uuid),
        attempt=labels.get("gpuctl.attempt", ""),
        digest=labels.get("gpuctl.digest", ""),
        boot_seconds=boot_seconds,
    )


def labels_of(inspected: Mapping[str, Any]) -> Mapping[str, str]:
    """Return `Config.Labels`, empty where the engine answers null."""
    return inspected["Config"].get("Labels") or {}


def event(told: Mapping[str, Any]) -> RuntimeEvent:
    """Return one message of `GET /events`."""
    actor = told["Actor"]
    attributes = actor.get("Attributes") or {}
    exit_code = attributes.get("exitCode")
    return RuntimeEvent(
        at=told["timeNano"] / 1e9,
        action=told["Action"],
        container=actor["ID"],
        replica=attributes.get(REPLICA, ""),
        exit_code=int(exit_code) if exit_code is not None else None,
        signal=attributes.get("signal"),
    )


def unix_seconds(timestamp: str) -> float | None:
    """
    Return an RFC 3339 time with nanoseconds as Unix seconds; `None` for one that never came.

    The engine writes Go's zero time, year 1, for "not yet".
    """
    if not timestamp or timestamp.startswith("0001-"):
        return None
    at = datetime.fromisoformat(timestamp)
    return at.timestamp() if at.tzinfo else at.replace(tzinfo=UTC).timestamp()


def _status(status: str) -> _State:
    # "restarting" needs a restart policy, which only another client can have set: it has ended.
    return "exited" if status == "restarting" else cast(_State, status)


def _exit_code(status: _State, state: Mapping[str, Any]) -> int | None:
    code = int(state.get("ExitCode", 0))
    # A start that failed leaves it "created" with a code; 0 there is only the initial value.
    unfinished = status in ("running", "paused") or (status == "created" and code == 0)
    return None if unfinished else code
