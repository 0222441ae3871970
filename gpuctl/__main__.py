"""
The program `gpuctl`: `status` goes the fast path, every other command through typer.

`python -m gpuctl` and the installed script both call `main`.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    from gpuctl import fast_status

    options = fast_status.options(sys.argv[1:])
    # A stream that is closed, or lacks characters, is mended on the other path.
    usual = sys.stdout and sys.stderr and sys.stdout.encoding == "utf-8"
    if options is None or not usual:
        from gpuctl.cli.app import run

        return run(sys.argv[1:], os.environ)
    as_json, simulate = options
    if simulate is None:
        simulate = os.environ.get("GPUCTL_SIMULATE", "")
    try:
        code = fast_status.main(as_json, simulate, os.environ)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, `grep -q`) has what it wanted; keep the exit's own flush quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        from gpuctl.cli import errors

        refused = errors.tell_refusal(error)
        if refused is None:
            raise
        errors.discard_output()
        return refused
    return code


if __name__ == "__main__":
    sys.exit(main())
