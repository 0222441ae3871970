"""Engines that compute nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig.stub_engine import StubEngine


@pytest.fixture
def first() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture
def second() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine
