"""The one handler of errors: what was expected to go wrong is words and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from types import TracebackType
from typing import TextIO

from gpuctl import printable
from gpuctl.errors import GpuctlError, PlanRefused, ProfileError

#: What a disk says that has no room, and what a file or directory says that is not the caller's.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def tell(error: GpuctlError) -> int:
    """Print every message with its hint on stderr; return the exit code."""
    for message, hint in _found(error):
        print(f"error: {printable.text(message)}", file=sys.stderr)
        for line in hint.splitlines():
            print(f"hint: {printable.line(line)}", file=sys.stderr)
    return error.exit_code


def _found(error: GpuctlError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, ProfileError):
        return error.mistakes
    if isinstance(error, PlanRefused):  # one line a mistake, the hints once for all
        *lines, last = error.message.splitlines()
        return (*((line, "") for line in lines), (last, error.hint))
    return ((error.message, error.hint),)


def tell_refusal(error: OSError) -> int | None:
    """
    Print what the operating system refused; return the exit code.

    `None` for what names no file and is no output that failed: nobody expected that.
    """
    if error.filename is None and error.errno not in (*_FULL, errno.EIO):
        return None
    where = "the output" if error.filename is None else os.fsdecode(error.filename)
    hint = ""
    if error.errno in _FULL:
        hint = "make room on its disk"
    elif error.errno in _FORBIDDEN:
        hint = "use sudo, or name places of your own: GPUCTL_STATE_DIR and GPUCTL_RUNTIME_DIR"
    return tell(GpuctlError(f"{where}: {error.strerror}", hint))


def bug(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
    """Print one line for what nobody expected; an excepthook."""
    what = printable.text(f"{kind.__name__}: {value}")
    print(f"error: gpuctl has a bug: {what}", file=sys.stderr)
    print("hint: run the same with `gpuctl --debug …` to see where, and report it", file=sys.stderr)


def hang_up() -> int:
    """Make the rest of the output go nowhere, once its reader has left; return the exit code."""
    discard_output()
    return 141  # 128 + SIGPIPE, as a shell reports it


def discard_output() -> None:
    """Make the rest of the output go nowhere; the exit's own flush would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def mend_streams() -> None:
    """Give a caller who closed its streams others, and one whose locale lacks a character a `?`."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
