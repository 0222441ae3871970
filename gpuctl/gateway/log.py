"""
The gateway's log: one JSON line for each finished request, and one for each event of its own.

The event loop appends lines to a bounded buffer, which costs it 1 µs and never waits; a thread
writes them to the descriptor that it is given. A reader that does not keep up costs lines, which
are counted, and no request. No prompt, no answer and no key is ever in it: `Record` has none.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

import msgspec

from gpuctl.gateway.record import Record
from gpuctl.gateway.record_line import RequestLines, escaped

#: A tail of the log is never further behind than this.
FLUSH_SECONDS: Final = 0.1
#: So much is written at once, and before that time is up: what a pipe of Linux holds. Source:
#: pipe(7), "Pipe capacity".
FLUSH_BYTES: Final = 64 * 1024
#: Some 8,000 requests: seconds of a reader that hangs, at a load that no GPU of ours answers.
MOST_BYTES: Final = 4 * 1024 * 1024
#: A shutdown that nobody reads of must end too.
CLOSE_SECONDS: Final = 2.0


class Lines:
    """The lines that are not written yet. One thread may add, that of the event loop."""

    def __init__(
        self,
        fd: int,
        *,
        clock: Callable[[], float] = time.time,
        flush_seconds: float = FLUSH_SECONDS,
        flush_bytes: int = FLUSH_BYTES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """
        Begin to write to *fd*, which stays open when this is closed.

        Args:
            fd: A file, a pipe or a terminal, blocking or not.
            clock: Tells Unix seconds, for events; a request has its own.
        """
        self._fd = fd
        self._clock = clock
        self._flush_seconds, self._flush_bytes = flush_seconds, flush_bytes
        self._most_bytes = most_bytes
        # A value that JSON does not have is told in words: a log must not fail where it is written.
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._requests = RequestLines()
        self._lines: list[bytes] = []  # the thread takes from its beginning alone
        # Each is written by one thread alone, so that adding takes no lock.
        self._added_bytes, self._refused = 0, 0
        self._taken_bytes, self._lost = 0, 0
        self._some, self._enough = Event(), Event()
        self._signalled = False  # as `_some` is, which takes a call to ask
        self._closing = False
        self._deadline: float | None = None
        self._writer = Thread(target=self._run, name="gpuctl-log", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written, as the buffer was full or the descriptor broken."""
        return self._refused + self._lost

    @property
    def pending_bytes(self) -> int:
        """What waits to be written."""
        return self._added_bytes - self._taken_bytes

    def finished(self, record: Record) -> None:
        """Log one request that is over, with its timeline."""
        self._add(self._requests.of(record))

    def event(self, name: str, **fields: object) -> None:
        """
        Log something that happened, with when.

        Args:
            name: A stable code, such as `gate_opened`.
            fields: What JSON has; never the text of a key or of a request.
        """
        self._add(self._encoded({"event": name, "at": self._clock(), **fields}) + b"\n")

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Write what is left, for so long; return whether that is over. Nothing is added then."""
        if self._deadline is None:
            self._deadline = time.monotonic() + seconds
        self._closing = True
        self._some.set()
        self._enough.set()
        self._writer.join(seconds)
        return not self._writer.is_alive()

    def _encoded(self, document: object) -> bytes:
        """Return a document in ASCII without a control character: nothing forges a line of it."""
        try:
            line = self._encode(document)
        except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 does not have
            return escaped(msgspec.to_builtins(document, enc_hook=str))
        if line.isascii() and 0x7F not in line:
            return line
        return escaped(json.loads(line))

    def _add(self, line: bytes) -> None:
        waiting = self._added_bytes + len(line) - self._taken_bytes
        if self._closing or waiting > self._most_bytes:
            self._refused += 1
            return
        self._added_bytes += len(line)
        self._lines.append(line)
        # After the line is there: the thread forgets the sign first, and looks for lines then.
        if not self._signalled:
            self._signalled = True
            self._some.set()
        if waiting >= self._flush_bytes and not self._enough.is_set():
            self._enough.set()

    def _run(self) -> None:
        while not self._closing or self._lines:
            self._some.wait()
            self._some.clear()
            self._signalled = False
            if not self._closing:
                self._enough.wait(self._flush_seconds)
            self._enough.clear()
            count = len(self._lines)  # more may come
            batch = b"".join(self._lines[:count])
            del self._lines[:count]
            self._lost += batch[self._written(batch) :].count(b"\n")
            # Only now: what is being written takes memory as well.
            self._taken_bytes += len(batch)

    def _written(self, batch: bytes) -> int:
        """Write a batch; return how many bytes of it were taken."""
        done = 0
        while done < len(batch):
            try:
                done += os.write(self._fd, memoryview(batch)[done:])
            except BlockingIOError:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    break
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(self._flush_seconds * 1000)
            except (
                OSError
            ):  # nobody reads it any more, or its disk is full: the next may fare better
                break
        return done
