"""A transfer from a real server on loopback that does what servers do, without its pauses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpuctl.adapters.models.transfer import Fetched, Transfer, Wanted
from tests.rig import hub as rig
from tests.rig.hub import FakeHub

CONTENT = bytes(range(256)) * 10_000  # several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 1_500_000


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with rig.running() as served:
        served.repositories["o/n"] = {"m.gguf": CONTENT, "small.json": b"{}", "empty": b""}
        yield served


class Bench:
    """A transfer whose pauses take no time, and what it said."""

    def __init__(self, hub: FakeHub, place: Path, free_bytes: int = 1 << 40) -> None:
        self.hub, self.place = hub, place
        self.said: list[str] = []
        self.slept: list[float] = []
        self.reports: list[tuple[int, int | None]] = []
        self.free_bytes = free_bytes

    def wanted(self, path: str = "m.gguf", **fields: Any) -> Wanted:
        address = f"{self.hub.store}/o/n/{path}"
        return replace(Wanted(name=path, address=address, target=self.place / path), **fields)

    def fetch(self, wanted: Wanted) -> Fetched:
        with httpx.Client() as client:
            transfer = Transfer(
                client=client,
                say=self.said.append,
                sleep=self.slept.append,
                free=lambda _: self.free_bytes,
            )
            return transfer.fetch(wanted, lambda *report: self.reports.append(report))

    def fetch_from(
        self, answer: Callable[[httpx.Request], httpx.Response], wanted: Wanted
    ) -> Fetched:
        """Fetch from a server that is not of this machine."""
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            transfer = Transfer(client=client, say=self.said.append, sleep=self.slept.append)
            return transfer.fetch(wanted, lambda *_: None)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir())


@pytest.fixture
def bench(hub: FakeHub, tmp_path: Path) -> Bench:
    return Bench(hub, tmp_path / "models")
