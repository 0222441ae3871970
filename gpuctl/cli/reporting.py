"""`report`: the health of a stretch of time, for a mail, a ticket or cron."""

from __future__ import annotations

import json

from gpuctl import fast_status
from gpuctl.cli import journal
from gpuctl.cli.outcome import events
from gpuctl.cli.session import Session, show


def command(session: Session, *, since: str, form: str, quiet: bool) -> int:
    """Print the report; return 0 when healthy, else 3."""
    from gpuctl.model import EventKind
    from gpuctl.views import report as view

    status = session.status()
    made = view.report(
        status,
        events(session, kinds=[kind for kind in EventKind if kind is not EventKind.EVIDENCE]),
        since=journal.since(session, since),
        now=session.now(),
        alive=fast_status.alive(status),
    )
    if not (quiet and made["healthy"]):
        match form:
            case "json":
                print(json.dumps(made, indent=2))
            case "markdown":
                show(view.markdown(made))
            case _:
                show(view.text(made))
    return 0 if made["healthy"] else 3
