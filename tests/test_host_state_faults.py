"""The faults of simulated replicas, as a host-state file writes them."""

from __future__ import annotations

import pytest

from gpuctl import host_state
from gpuctl.host_state import Fault, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("exit:137", Fault(kind="exit", number=137.0), id="exit"),
        pytest.param("slow_load:0.5", Fault(kind="slow_load", number=0.5), id="slow-load"),
        *[
            pytest.param(name, Fault(kind=name), id=name)
            for name in host_state.FAULTS
            if ":" not in name
        ],
    ],
)
def test_a_fault_is_taken_apart(text: str, fault: Fault) -> None:
    """Every fault of the list is understood, with its number where it has one."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["", "exit", "exit:", "exit:-1", "exit:1.5", "exit:x", "oom:1", "slow_load:1e9"]
)
def test_no_other_fault_is_understood(text: str) -> None:
    """A fault that would do nothing is refused instead."""
    with pytest.raises(ValueError, match="is no fault"):
        parse_fault(text)
