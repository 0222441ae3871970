"""A death is answered at once, whatever else goes on; without the event stream, a tick later."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from tests.e2e import reaction
from tests.e2e.engine_record import overlap
from tests.e2e.reaction import Stage
from tests.rig.dockerd import PrivateEngine

pytestmark = [pytest.mark.docker, pytest.mark.alone]

#: The goal is 25 ms; the machine of a test is shared. `benchmarks/reaction.py` measures it.
WRITE_SECONDS = 0.060
#: Both wait for the engine to clean up and to start again; a container of its own is made besides.
LATER_RATIO = 1.25


@pytest.fixture(scope="module")
def stage(engine: PrivateEngine) -> Iterator[Stage]:
    with reaction.stage(engine, interval="500ms") as made:
        yield made
        assert overlap(made.record.events) == 0.0


def test_a_death_is_answered_at_once(stage: Stage) -> None:
    """With one replica frozen and a stop in progress; about as soon as Docker's own policy."""
    found = reaction.measured(stage, 8)
    assert len(found.write) == 8
    assert statistics.median(found.write) <= WRITE_SECONDS, reaction.told(found.write)
    start, peer = statistics.median(found.start), statistics.median(found.peer)
    assert start <= LATER_RATIO * peer, f"{reaction.told(found.start)}\n{reaction.told(found.peer)}"


def test_without_the_event_stream_the_next_tick_sees_it(stage: Stage) -> None:
    """With the stream cut, the list of the next interval (500 ms) tells of the death."""
    stage.proxy.refuse_streams = True
    stage.proxy.cut_streams()
    found = reaction.measured(stage, 5, peer=False)
    assert len(found.write) == 5
    # An interval, and as much again for a machine that has other work.
    assert max(found.write) <= 1.0, reaction.told(found.write)
