"""Every source at once, none waited for longer than was said: one that hangs is left behind."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpuctl.diagnosis.facts import Unread

#: For a program that only prints what it is or knows.
PROGRAM_SECONDS = 5.0


class _Reading(threading.Thread):
    """One source being read; a daemon thread, so that one in the kernel does not hold the exit."""

    def __init__(self, read: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._read = read
        self.found: Any = self  # until it is read: a bug ends the thread without an answer

    def run(self) -> None:
        try:
            self.found = self._read()
        except PermissionError as error:
            self.found = Unread(reason="no_permission", message=str(error), hint="use sudo")
        except OSError as error:
            self.found = Unread(reason="no_answer", message=str(error))


def gather(
    sources: Mapping[str, Callable[[], Any]],
    seconds: float,
    progress: Callable[[str, float | None], None] = lambda _name, _ratio: None,
) -> dict[str, Any]:
    """
    Return what each source tells, or why it could not be read, all within *seconds*.

    *progress* is told which source is waited for, and the share (0-1) of those that are read.
    """
    until = time.monotonic() + seconds
    readings = {name: _Reading(read) for name, read in sources.items()}
    for reading in readings.values():
        reading.start()
    found: dict[str, Any] = {}
    for name, reading in readings.items():
        progress(name, len(found) / len(readings))
        reading.join(max(0.0, until - time.monotonic()))
        if reading.is_alive():
            message = f"{name}: no answer within {seconds:g} s"
            found[name] = Unread(reason="no_answer", message=message)
        elif reading.found is reading:
            raise RuntimeError(f"{name}: it ended without an answer")
        else:
            found[name] = reading.found
    return found


def said(command: Sequence[str], seconds: float = PROGRAM_SECONDS) -> str:
    """Return what a program prints, "" where it is not there, fails or takes too long."""
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""
