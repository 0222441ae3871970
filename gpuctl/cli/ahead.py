"""What a daemon would do next for a plan: its own decision, on what can be read at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session
from gpuctl.errors import RuntimeUnavailable, StoreError

if TYPE_CHECKING:
    from gpuctl.model import Action, Event, Plan, Profile


def actions(session: Session, profile: Profile, plan: Plan) -> tuple[Action, ...] | None:
    """Return the next actions in the plan's order, `None` when the runtime cannot be read."""
    from gpuctl.decide import decide
    from gpuctl.history import remember
    from gpuctl.observe import Latest, observe

    clock = compose.clock()
    try:
        with closing(compose.runtime(session, profile)) as runtime:
            containers = {reading.id: reading for reading in runtime.list()}
    except RuntimeUnavailable:
        return None
    board = Latest(containers=containers, runtime_boot_seconds=clock.boot_seconds())
    now = observe(board, clock)
    history = remember(
        _remembered(session),
        boot_id=now.boot_id,
        boot_seconds=now.boot_seconds,
        now=now.at,
        cautious=False,
    )
    return decide(plan, now, {}, history, instance="").actions


def _remembered(session: Session) -> Iterator[Event]:
    from gpuctl.history import REMEMBERED

    with suppress(StoreError):
        yield from compose.stream(session, kinds=sorted(REMEMBERED))
