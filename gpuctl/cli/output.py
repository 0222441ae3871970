"""`logs`: what a replica's engine writes, and what the one before it wrote last."""

from __future__ import annotations

from contextlib import closing, suppress

from gpuctl.cli import choose, compose, intents
from gpuctl.cli.session import Session, show
from gpuctl.errors import ContainerMissing, DaemonDown, NotFound


def current(session: Session, replica: str, lines: int, *, follow: bool) -> None:
    """Print the last *lines* of a replica's log, and with *follow* what comes."""
    _check(session, replica)
    with closing(compose.runtime(session, choose.applied(session))) as runtime:
        container = f"gpuctl-{replica}"
        try:
            found = runtime.follow(container, lines) if follow else runtime.logs(container, lines)
            for line in found:
                show(line, flush=follow)
        except ContainerMissing:
            raise NotFound(
                f"{replica} has no container now",
                f"its last words: `gpuctl logs {replica} --previous`",
            ) from None


def previous(session: Session, replica: str, lines: int) -> None:
    """Print the last lines of the container before, from the journal."""
    from gpuctl.views import journal

    _check(session, replica)
    found = [journal.log_lines(e.evidence) for e in compose.events(session, subject=replica)]
    kept = next((log for log in reversed(found) if log), None)
    if kept is None:
        raise NotFound(
            f"no log of an earlier container of {replica} is kept",
            "it has not been replaced since the journal began",
        )
    for line in kept[-lines:]:
        show(line)


def _check(session: Session, replica: str) -> None:
    with suppress(DaemonDown):
        names = intents.subjects(session.status(), replica)
        if names != frozenset({replica}):
            raise NotFound(f"{replica!r} is a workload", f"name one of {', '.join(sorted(names))}")
