"""What reaches the thread that decides comes all at once, in order, or not at all."""

from __future__ import annotations

import queue
from concurrent.futures import Future

import pytest

from gpuctl.act import Outcome
from gpuctl.inbox import Finished, Message, Request, received

ENDED = Finished(attempt="a1", outcome=Outcome(done=True))
ASKED = Request(body={"verb": "up"}, answer=Future())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([], id="nothing"),
        pytest.param(["event"], id="a-word"),
        pytest.param(["event", ENDED, ASKED, "event"], id="several"),
    ],
)
def test_everything_that_waits_is_received_in_order(sent: list[Message]) -> None:
    """After the first message no more is waited for, and what was received is there no more."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    for message in sent:
        inbox.put(message)
    assert (received(inbox, 0.0), inbox.qsize()) == (sent, 0)
