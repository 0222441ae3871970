"""A thread that has one source read at its pace; `sources` begins, hurries and ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gpuctl.guarded import guarded


class Sampler:
    """
    A thread that calls *sample* every *seconds*, or at once when hurried.

    The first hurry is obeyed at once; after a pass that was hurried *apart_seconds* go by.
    """

    def __init__(
        self, name: str, sample: Callable[[], None], seconds: float, apart_seconds: float = 0.0
    ) -> None:
        self._name, self._sample = name, sample
        self._seconds, self._apart_seconds = seconds, apart_seconds
        self._hurry, self._ended = threading.Event(), threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def hurry(self) -> None:
        self._hurry.set()

    def pace(self, seconds: float) -> None:
        """Sample every so many seconds from now on; a longer wait under way ends at once."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._hurry.set()

    def end(self) -> None:
        self._ended.set()
        self._hurry.set()

    def _run(self) -> None:
        apart_seconds = 0.0
        while not self._ended.is_set():
            guarded(self._name, self._sample)
            self._ended.wait(apart_seconds)
            hurried = self._hurry.wait(max(0.0, self._seconds - apart_seconds))
            self._hurry.clear()
            apart_seconds = self._apart_seconds if hurried else 0.0
