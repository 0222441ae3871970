"""`down`: end what the profile owns, its gateway, and a daemon that `up` put in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gpuctl.cli import background, compose, elsewhere, follow, foreground
from gpuctl.cli.session import Session
from gpuctl.errors import DaemonDown

if TYPE_CHECKING:
    from gpuctl.model.status import Status


def command(session: Session, *, timeout: float) -> int:
    """Take everything down and wait until it is gone; return the exit code."""
    try:
        event = compose.ask(session, "down")
    except DaemonDown:
        return _without_daemon(session, timeout)
    status = _until_gone(session, timeout, event)
    background.end_gateway(session)
    pid = status["daemon"]["pid"]
    ended = background.end(session, pid)
    session.say("all down" + ("" if ended else f"; the daemon ({pid}) stays, and starts nothing"))
    return 0


def gone(status: Status) -> bool:
    """Return True when nothing is left of any replica, nor of what is no replica any more."""
    stopped = all(replica["phase"] == "stopped" for replica in status["replicas"])
    return stopped and status.get("leftovers", []) == []


def _until_gone(session: Session, timeout: float, event: int = 0) -> Status:
    """Wait for a Status that knows of *event* and has nothing left; name what would not go."""
    follower = follow.Follower(session=session, timeout_seconds=timeout)
    try:
        with follow.progress(session) as show:
            return follower.until(lambda now: now["last_event"] >= event and gone(now), show)
    except follow.TimedOut as late:
        left = late.status.get("leftovers") if late.status else None
        if left:
            session.say(f"still there: {', '.join(left)}")
        raise


def _without_daemon(session: Session, timeout: float) -> int:
    """Take the lock and run the daemon's own fold, in this process, until nothing is left."""
    session = elsewhere.refuse_system(session)
    with foreground.supervisor(session, intent="down") as daemon:
        session.say("no daemon runs: taking everything down from here")
        loop = threading.Thread(target=daemon.run, name="supervisor")
        loop.start()
        try:
            _until_gone(session, timeout)
        finally:
            daemon.stop()
            loop.join()
            daemon.end()
    background.end_gateway(session)
    session.say("all down; it holds until the next `gpuctl up`")
    return 0
