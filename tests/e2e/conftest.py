"""The whole program at its own speed: these tests hold its times against figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def unmeasured_processes() -> Iterator[None]:
    """Run every process of the package's tests without coverage, which takes half its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
