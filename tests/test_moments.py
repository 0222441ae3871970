"""An Event carries the moment of the Snapshot that it was seen in."""

from __future__ import annotations

from gpuctl.model import Event, EventKind
from gpuctl.moments import event
from tests import make


def test_it_is_of_the_moment_of_the_snapshot() -> None:
    """Both clocks and the boot are the Snapshot's; it has no id before it is stored."""
    now = make.snapshot(boot_seconds=make.NOW + 7)
    assert event(now, EventKind.MOVED, "chat-0", "gpu_lost", {"gpus": ()}) == Event(
        kind=EventKind.MOVED,
        subject="chat-0",
        reason="gpu_lost",
        evidence={"gpus": ()},
        at=make.AT + 7,
        boot_id=make.BOOT,
        boot_seconds=make.NOW + 7,
    )
