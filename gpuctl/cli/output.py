"""`logs`: what a replica's engine writes, and what the one before it wrote last."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import NoReturn

from gpuctl.cli import choose, compose, intents
from gpuctl.cli.session import Session, show
from gpuctl.errors import ContainerMissing, DaemonDown, NotFound, StatusDamaged

#: The last container that left a log is among so many; of older ones it is not kept.
_LATEST = 5


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
            # Where no Status names the replicas, those that are left do.
            left = [each.replica for each in runtime.list()]
            if mine := [name for name in left if name.rpartition("-")[0] == replica]:
                _refuse_workload(replica, mine)
            raise NotFound(
                f"{replica} has no container now",
                f"its last words: `gpuctl logs {replica} --previous`",
            ) from None


def previous(session: Session, replica: str, lines: int) -> None:
    """Print the last lines of the container before, from the journal."""
    from gpuctl.views import journal

    _check(session, replica)
    left = compose.events(session, limit=_LATEST, kinds=["evidence"], subject=replica)
    found = [journal.log_lines(event.evidence) for event in left]
    kept = next((log for log in reversed(found) if log), None)
    if kept is None:
        raise NotFound(
            f"no log of an earlier container of {replica} is kept",
            "it has not been replaced since the journal began",
        )
    for line in kept[-lines:]:
        show(line)


def _check(session: Session, replica: str) -> None:
    """Refuse a name that is none, or a workload's. Raises `NotFound`."""
    with suppress(DaemonDown, StatusDamaged):
        status = session.status()
        names = intents.subjects(status, replica)
        if replica not in names:
            _refuse_workload(replica, [r["name"] for r in status["replicas"] if r["name"] in names])


def _refuse_workload(workload: str, replicas: list[str]) -> NoReturn:
    several = "several replicas" if len(replicas) > 1 else "one replica"
    raise NotFound(
        f"{workload} is a workload of {several}: {', '.join(replicas)}",
        f"each has a log of its own: `gpuctl logs {replicas[0]}`",
    )
