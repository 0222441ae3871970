"""Work on a thread that must not end: a mistake in it is logged, and the thread goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("gpuctl")


def guarded(name: str, work: Callable[[], None]) -> None:
    """Do *work*; whatever it raises is logged under *name*, or nobody would look any more."""
    try:
        work()
    except Exception:
        log.exception("event=thread_failed source=%s", name)
