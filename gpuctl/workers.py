"""
A few threads that carry out what takes long; the deciding thread never waits for one.

A job that outlives its deadline is given up: its thread is left to itself (a call hung in the
kernel cannot be ended) and a new one takes its place. A given-up job's late answer is dropped.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(slots=True, kw_only=True, eq=False)
class _Job(Generic[Answer]):
    key: str
    work: Callable[[], Answer]
    seconds: float
    began_at: float | None = None
    given_up: bool = False


class Workers(Generic[Answer]):
    """
    A lane of *count* threads.

    *done* is called on the worker's thread with a job's key and its answer; *clock* is any
    monotonic clock in seconds.
    """

    def __init__(
        self,
        name: str,
        count: int,
        done: Callable[[str, Answer], None],
        clock: Callable[[], float],
    ) -> None:
        self._name, self._done, self._clock = name, done, clock
        self._jobs: queue.SimpleQueue[_Job[Answer] | None] = queue.SimpleQueue()
        self._open: set[_Job[Answer]] = set()
        self._count = count
        self._lock = threading.Lock()
        for _ in range(count):
            self._hire()

    def submit(self, key: str, work: Callable[[], Answer], seconds: float) -> None:
        """Queue a job; *seconds* is how long it may run once begun."""
        job = _Job(key=key, work=work, seconds=seconds)
        with self._lock:
            self._open.add(job)
        self._jobs.put(job)

    def overdue(self) -> tuple[str, ...]:
        """Give up the jobs past their deadline, replace their threads, and return their keys."""
        now = self._clock()
        with self._lock:
            late = [
                job
                for job in self._open
                if job.began_at is not None and now - job.began_at > job.seconds
            ]
            for job in late:
                job.given_up = True
                self._open.remove(job)
        for _ in late:
            self._hire()
        return tuple(job.key for job in late)

    def close(self) -> None:
        """Let every idle thread end; running jobs finish on their own."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _hire(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                job.began_at = self._clock()
            answer = job.work()
            with self._lock:
                if job.given_up:
                    return  # another thread has taken this one's place
                self._open.discard(job)
            self._done(job.key, answer)
