"""A socket of a daemon that is played by a function of the test."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuctl.adapters.control import ControlServer

Request = Mapping[str, Any]


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path: a socket's name has room for 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-test-") as made:
        yield Path(made) / "control.sock"


@contextmanager
def serving(path: Path, handler: Callable[[Request], Request]) -> Iterator[ControlServer]:
    server = ControlServer(path, handler)
    server.begin()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def asked(path: Path) -> Iterator[list[Request]]:
    """What reached the daemon, which agrees to everything."""
    requests: list[Request] = []

    def handler(request: Request) -> Request:
        requests.append(request)
        return {"ok": True, "event": len(requests)}

    with serving(path, handler):
        yield requests
