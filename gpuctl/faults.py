"""A named step at which a test has this process die, to show that any death there is mended."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Mapping

Fault = Callable[[str], None]


def fault_from(environment: Mapping[str, str]) -> Fault:
    """
    Return a fault point that kills this process at the step GPUCTL_FAULT names, for tests.

    `start.created:3` kills it the third time it gets there.
    """
    name, _, nth = environment.get("GPUCTL_FAULT", "").partition(":")
    if not name:
        return lambda _: None
    seen = itertools.count(1)

    def fault(step: str) -> None:
        if step == name and next(seen) >= int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    return fault
