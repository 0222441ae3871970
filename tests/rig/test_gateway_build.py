"""Which build of the gateway is tested: nobody gets another one than he asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.rig import gateway_build
from tests.rig.gateway_process import GatewayProcess


@pytest.mark.parametrize(
    ("environment", "compiled"),
    [
        pytest.param({}, False, id="not set"),
        pytest.param({"GPUCTL_GATEWAY_BUILD": "interpreted"}, False, id="interpreted"),
        pytest.param({"GPUCTL_GATEWAY_BUILD": "compiled"}, True, id="compiled"),
    ],
)
def test_the_variable(environment: Mapping[str, str], compiled: bool) -> None:
    """Without it the sources are tested, as they are edited."""
    assert gateway_build.compiled(environment) is compiled


@pytest.mark.parametrize("value", ["", "1", "Compiled"])
def test_no_such_build(value: str) -> None:
    """What is neither is no environment to start a gateway with."""
    with pytest.raises(ValueError, match=f"GPUCTL_GATEWAY_BUILD={value}: "):
        gateway_build.environment({"GPUCTL_GATEWAY_BUILD": value})


@pytest.mark.program
@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("compile", ValueError, id="no build"),
        pytest.param("compiled", AssertionError, id="not compiled"),
    ],
)
def test_another_build_than_asked_for(
    value: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that runs from the sources all the same is not tested."""
    monkeypatch.setenv("GPUCTL_GATEWAY_BUILD", value)
    with pytest.raises(error, match="compiled"), GatewayProcess(()):
        pass
