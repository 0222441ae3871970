"""A process that answers a line with a line, and is never waited for longer than was said."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

#: 64 cards with 100 processes each are 300 KB; one that writes more than this is out of its mind.
_MOST_BYTES = 4 * 1024**2


class ChildProcess:
    """One process, from its start to its end, with both ends of the conversation."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # an operator's ^C is not meant for it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        self._received = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self) -> None:
        """Send a question. Raises `OSError` when nobody is there to take it."""
        self._questions.write(b"read\n")

    def answer(self, seconds: float) -> str | None:
        """
        Return the line answered, `None` when none came in time.

        Raises:
            EOFError: the process has ended, or answers without end.
        """
        until = time.monotonic() + seconds
        ready = select.poll()
        ready.register(self._answers, select.POLLIN)
        while b"\n" not in self._received:
            left = until - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                return None
            content = os.read(self._answers.fileno(), 65536)
            self._received += content
            if not content or len(self._received) > _MOST_BYTES:
                raise EOFError("no whole line came")
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("utf-8", "replace")

    def unasked(self, beginning: str) -> tuple[str, ...]:
        """Return the lines with that beginning that came before any other; never waits."""
        ready = select.poll()
        ready.register(self._answers, select.POLLIN)
        while ready.poll(0) and len(self._received) <= _MOST_BYTES:
            content = os.read(self._answers.fileno(), 65536)
            if not content:
                break  # it has ended, which is for whoever asks next to find
            self._received += content
        lines = []
        while self._received.startswith(beginning.encode()) and b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            lines.append(line.decode("utf-8", "replace"))
        return tuple(lines)

    def kill(self) -> None:
        """Close the pipes and ask the kernel to end it; never waits."""
        with suppress(OSError):
            self._questions.close()
        self._answers.close()
        self._process.kill()

    def ended(self, seconds: float = 0.0) -> bool:
        """Return whether it has ended, after so many seconds at most; reaps it if it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
