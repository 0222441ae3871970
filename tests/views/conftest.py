"""What the tests of views share: a Status, and a console that prints to a text."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gpuctl.model import Event, EventKind

#: The moment at which the Status in status.json is looked at.
NOW = 1_800_000_000.0
ZONE = UTC


@pytest.fixture
def status() -> Any:
    """Four replicas (busy, ready, in back-off, outdated), three GPUs (one hot, one lost)."""
    return json.loads((Path(__file__).parent / "status.json").read_text())


@pytest.fixture
def text() -> Callable[[RenderableType], list[str]]:
    """Render to lines of plain text, as a terminal of 120 columns without colour shows them."""

    def render(renderable: RenderableType) -> list[str]:
        console = Console(
            width=120, no_color=True, highlight=False, markup=False, color_system=None
        )
        with console.capture() as captured:
            console.print(renderable)
        return [line.rstrip() for line in captured.get().splitlines()]

    return render


@pytest.fixture
def happened() -> Callable[..., Event]:
    """Make an Event, so many seconds after 2027-01-15 08:00:00 UTC."""

    def make(kind: str, subject: str, after: float, reason: str = "", **evidence: Any) -> Event:
        return Event(
            kind=EventKind(kind),
            subject=subject,
            reason=reason,
            evidence=evidence,
            at=NOW + after,
            boot_id="b",
            boot_seconds=5000.0 + after,
        )

    return make


assert datetime.fromtimestamp(NOW, UTC).isoformat() == "2027-01-15T08:00:00+00:00"
