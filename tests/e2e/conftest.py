"""
The whole program at its own speed: these tests hold its times against figures.

With GPUCTL_GATEWAY_BUILD=compiled every gateway that they start on this host is the compiled one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rig import gateway_build


@pytest.fixture(scope="package", autouse=True)
def unmeasured_processes() -> Iterator[None]:
    """Run every process of the package's tests without coverage, which takes half its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="package", autouse=True)
def tested_gateway(unmeasured_processes: None) -> Iterator[None]:
    """Let every process import the gateway that is to be tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in gateway_build.environment(os.environ).items():
            patch.setenv(name, value)
        yield
