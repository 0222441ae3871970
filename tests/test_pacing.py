"""A thread that reads at its pace: when it begins, is hurried, and ends."""

from __future__ import annotations

import itertools
import queue
import threading

from gpuctl.pacing import Sampler

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0


def test_a_sampler_samples_until_it_is_ended() -> None:
    """It begins at once, again when hurried, survives a mistake, and ends."""
    passes = queue.SimpleQueue[int]()
    count = itertools.count()

    def sample() -> None:
        number = next(count)
        passes.put(number)
        if number == 0:
            raise ZeroDivisionError

    sampler = Sampler("a sampler", sample, seconds=3600.0)
    sampler.begin()
    (thread,) = (each for each in threading.enumerate() if each.name == "a sampler")
    assert passes.get(timeout=PATIENCE_SECONDS) == 0
    sampler.hurry()
    assert passes.get(timeout=PATIENCE_SECONDS) == 1
    sampler.end()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_sampler_takes_up_another_pace_at_once() -> None:
    """A wait of the old length ends with it; the same pace again changes nothing."""
    passes = queue.SimpleQueue[int]()
    count = itertools.count()
    sampler = Sampler("a paced sampler", lambda: passes.put(next(count)), seconds=3600.0)
    sampler.begin()
    assert passes.get(timeout=PATIENCE_SECONDS) == 0
    sampler.pace(3600.0)
    assert not sampler._hurry.is_set()
    sampler.pace(0.001)
    assert [passes.get(timeout=PATIENCE_SECONDS) for _ in range(5)] == [1, 2, 3, 4, 5]
    sampler.end()
