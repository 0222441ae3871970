"""What a daemon would do next for a plan: its own decision, on what can be read at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session
from gpuctl.errors import RuntimeUnavailable, StoreError

if TYPE_CHECKING:
    from gpuctl.history import History
    from gpuctl.model import Action, Event, Plan, Profile


def actions(session: Session, profile: Profile, plan: Plan) -> tuple[Action, ...] | None:
    """Return the next actions in the plan's order, `None` when the runtime cannot be read."""
    from gpuctl.decide import decide
    from gpuctl.observe import Latest, observe

    clock = compose.clock()
    try:
        with closing(compose.runtime(session, profile)) as runtime:
            containers = {reading.id: reading for reading in runtime.list()}
    except RuntimeUnavailable:
        return None
    board = Latest(containers=containers, runtime_boot_seconds=clock.boot_seconds())
    now = observe(board, clock)
    return decide(plan, now, {}, history(session), instance="").actions


def history(session: Session) -> History:
    """Return what is remembered here: nothing, where nothing was ever supervised."""
    from gpuctl.history import remember

    clock = compose.clock()
    return remember(
        _remembered(session),
        boot_id=clock.boot_id,
        boot_seconds=clock.boot_seconds(),
        now=clock.now(),
        cautious=False,
    )


def _remembered(session: Session) -> Iterator[Event]:
    from gpuctl.history import REMEMBERED

    with suppress(StoreError):
        yield from compose.stream(session, kinds=sorted(REMEMBERED))
