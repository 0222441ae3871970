"""Which GPUs nothing may be started on, and why: Conditions and History in. PURE."""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl.history import Cordon, History
from gpuctl.model import Condition

Conditions = Mapping[tuple[str, str], Condition]

#: A driver that has just been loaded may list its cards one by one: what is missing has to be so
#: in two readings and for two seconds before anything moves away from it: what is suspected is
#: read four times a second.
_MISSING_READINGS = 2
_MISSING_SECONDS = 2.0


def avoided(conditions: Conditions, boot_seconds: float) -> Mapping[str, str]:
    """Return by UUID the reason for which a GPU is to be avoided now."""
    return {c.verdict.subject: c.verdict.reason for c in _due(conditions, boot_seconds)}


def left(conditions: Conditions, boot_seconds: float) -> Mapping[str, str]:
    """Return the same of those that replicas are moved away from: heat alone moves nothing."""
    found = _leaving(conditions, boot_seconds)
    return {c.verdict.subject: c.verdict.reason for c in found} | urgent(conditions, boot_seconds)


def urgent(conditions: Conditions, boot_seconds: float) -> dict[str, str]:
    """Return the same of those that are left at once: what runs there is not let finish."""
    found = _leaving(conditions, boot_seconds)
    return {c.verdict.subject: c.verdict.reason for c in found if not c.verdict.drain}


def unusable(conditions: Conditions) -> Condition | None:
    """Return why the driver lets nothing new use any GPU, `None` where it does."""
    driver = conditions.get(("gpu_driver", "host"))
    return driver if driver is not None and driver.verdict.state == "failed" else None


def cordons(history: History) -> Mapping[str, Cordon]:
    """Return the cordons in force, by UUID."""
    return {uuid: gpu.cordon for uuid, gpu in history.gpus.items() if gpu.cordon is not None}


def _leaving(conditions: Conditions, boot_seconds: float) -> tuple[Condition, ...]:
    return tuple(
        condition
        for condition in _due(conditions, boot_seconds)
        if condition.verdict.check != "thermal"
        and (condition.verdict.reason != "gpu_missing" or _gone(condition, boot_seconds))
    )


def _gone(condition: Condition, boot_seconds: float) -> bool:
    lasted = boot_seconds - condition.since_boot_seconds
    return condition.readings >= _MISSING_READINGS and lasted >= _MISSING_SECONDS


def _due(conditions: Conditions, boot_seconds: float) -> tuple[Condition, ...]:
    return tuple(
        condition
        for condition in conditions.values()
        if condition.verdict.remedy == "avoid" and condition.due(boot_seconds)
    )
