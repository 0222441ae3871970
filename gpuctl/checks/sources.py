"""Can everything be read that decisions depend on?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge the host once per source that fails, and once where the events were lost."""
    for source, error in scene.now.errors.items():
        yield Verdict(
            check=f"{source}_readable",
            subject="host",
            state="degraded",
            reason=f"{source}_unread",
            evidence={
                "error": error.message,
                "for_seconds": round(scene.now.boot_seconds - error.since_boot_seconds, 1),
            },
        )
    if scene.history.cautious:
        yield Verdict(
            check="state_intact",
            subject="host",
            state="degraded",
            reason="events_lost",
            evidence={"hint": "nothing that was down is started before the next `gpuctl up`"},
        )


CHECK = Check(name="sources", order=5, run=run)
