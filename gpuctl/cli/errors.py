"""The one handler of errors: what was expected to go wrong is words and an exit code."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from gpuctl.errors import GpuctlError, ProfileError


def tell(error: GpuctlError) -> int:
    """Print every message with its hint on stderr; return the exit code."""
    found = error.mistakes if isinstance(error, ProfileError) else ((error.message, error.hint),)
    for message, hint in found:
        print(f"error: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
    return error.exit_code


def bug(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
    """Print one line for what nobody expected; an excepthook."""
    print(f"error: gpuctl has a bug: {kind.__name__}: {value}", file=sys.stderr)
    print("hint: run the same with `gpuctl --debug …` to see where, and report it", file=sys.stderr)


def hang_up() -> int:
    """Make the rest of the output go nowhere, once its reader has left; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141  # 128 + SIGPIPE, as a shell reports it
