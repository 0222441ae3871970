"""
Which gateway the end-to-end tests start: that of the sources, or the compiled one.

GPUCTL_GATEWAY_BUILD says so. tests/e2e/conftest.py gives `environment` to whatever its tests start,
and who has started a gateway asks `check` whether that is the one.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gateway import installed

VARIABLE = "GPUCTL_GATEWAY_BUILD"


def compiled(environment: Mapping[str, str]) -> bool:
    """Return whether it is the compiled one. Raises ValueError for what is no build."""
    value = environment.get(VARIABLE, "interpreted")
    if value not in ("compiled", "interpreted"):
        raise ValueError(f"{VARIABLE}={value}: it is compiled or interpreted")
    return value == "compiled"


def environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables it is started with; the compiled one is built first, in a minute."""
    return installed.environment() if compiled(environment) else {}


def check(pid: int, environment: Mapping[str, str]) -> None:
    """Raise AssertionError for a process that should be the compiled gateway and is not."""
    if compiled(environment):
        assert installed.is_compiled(pid), f"{pid} is not the compiled gateway"
