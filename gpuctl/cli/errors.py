"""The one handler of errors: what was expected to go wrong is words and an exit code."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from gpuctl.errors import GpuctlError, PlanRefused, ProfileError


def tell(error: GpuctlError) -> int:
    """Print every message with its hint on stderr; return the exit code."""
    for message, hint in _found(error):
        print(f"error: {message}", file=sys.stderr)
        for line in hint.splitlines():
            print(f"hint: {line}", file=sys.stderr)
    return error.exit_code


def _found(error: GpuctlError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, ProfileError):
        return error.mistakes
    if isinstance(error, PlanRefused):  # one line a mistake, the hints once for all
        *lines, last = error.message.splitlines()
        return (*((line, "") for line in lines), (last, error.hint))
    return ((error.message, error.hint),)


def bug(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
    """Print one line for what nobody expected; an excepthook."""
    print(f"error: gpuctl has a bug: {kind.__name__}: {value}", file=sys.stderr)
    print("hint: run the same with `gpuctl --debug …` to see where, and report it", file=sys.stderr)


def hang_up() -> int:
    """Make the rest of the output go nowhere, once its reader has left; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141  # 128 + SIGPIPE, as a shell reports it
