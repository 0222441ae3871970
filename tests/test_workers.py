"""Threads that carry out what takes long, and are given up when it takes too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from gpuctl.workers import Workers
from tests.fakes import FakeClock

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0

Ended = queue.SimpleQueue[tuple[str, str]]


class Lane:
    """A lane of one thread, a clock, and what came out of it."""

    def __init__(self, name: str = "lane", count: int = 1) -> None:
        self.clock, self.ended = FakeClock(), Ended()
        self.workers = Workers[str](
            name,
            count,
            lambda key, answer: self.ended.put((key, answer)),
            self.clock.boot_seconds,
        )
        self.release = threading.Event()
        self.began = queue.SimpleQueue[str]()

    def hang(self, key: str, seconds: float = 60.0) -> None:
        """Submit a job that lasts until `release`, and wait until it has begun."""

        def work() -> str:
            self.began.put(key)
            self.release.wait(PATIENCE_SECONDS)
            return "late"

        self.workers.submit(key, work, seconds)
        assert self.began.get(timeout=PATIENCE_SECONDS) == key

    def result(self) -> tuple[str, str]:
        return self.ended.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.release.set()
    made.workers.close()


def test_a_job_is_done_and_told(lane: Lane) -> None:
    """The answer comes with the job's key."""
    lane.workers.submit("a", lambda: "done", 60.0)
    assert lane.result() == ("a", "done")


def test_jobs_of_one_lane_come_in_turn(lane: Lane) -> None:
    """With one thread, a job begins when the one before has ended."""
    lane.hang("a")
    lane.workers.submit("b", lambda: "done", 60.0)
    assert lane.ended.empty()
    lane.release.set()
    assert [lane.result(), lane.result()] == [("a", "late"), ("b", "done")]


def test_a_job_past_its_deadline_is_given_up(lane: Lane) -> None:
    """It is told once, its thread is replaced, and its late answer is dropped."""
    lane.hang("a", seconds=60.0)
    lane.clock.advance(60)
    assert lane.workers.overdue() == ()
    lane.clock.advance(1)
    assert lane.workers.overdue() == ("a",)
    assert lane.workers.overdue() == ()
    lane.workers.submit("b", lambda: "done", 60.0)
    assert lane.result() == ("b", "done")
    lane.release.set()
    lane.workers.submit("c", lambda: "done", 60.0)
    assert lane.result() == ("c", "done")


def test_the_wait_for_a_thread_is_no_delay_of_the_job(lane: Lane) -> None:
    """A deadline counts from when the job began, not from when it was queued."""
    lane.hang("a", seconds=600.0)
    lane.workers.submit("b", lambda: "done", 1.0)
    lane.clock.advance(100)
    assert lane.workers.overdue() == ()


def test_a_given_up_thread_ends(lane: Lane) -> None:
    """A thread that comes back from a call that hung ends: another has its place."""
    before = {t for t in threading.enumerate() if t.name == "lane"}
    lane.hang("a", seconds=1.0)
    lane.clock.advance(2)
    lane.workers.overdue()
    lane.release.set()
    for thread in before:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_a_closed_lane_ends_its_threads() -> None:
    """Idle threads end at once when the lane is closed."""
    made = Lane("closing", count=3)
    threads = [thread for thread in threading.enumerate() if thread.name == "closing"]
    assert len(threads) == 3
    made.workers.close()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
