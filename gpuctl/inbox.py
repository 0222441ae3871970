"""What reaches the thread that decides: requests, ends of actions, words that wake it."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import dataclass

from gpuctl.act import Outcome
from gpuctl.intents import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An intent from the control socket, with the place for its answer."""

    body: Body
    answer: Future[Body]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    attempt: str
    outcome: Outcome


Message = str | Request | Finished


def received(inbox: queue.SimpleQueue[Message], wait_seconds: float) -> list[Message]:
    """Return everything in the inbox, after waiting that long for the first message."""
    messages: list[Message] = []
    try:
        messages.append(inbox.get(timeout=wait_seconds))
        while True:
            messages.append(inbox.get_nowait())
    except queue.Empty:
        return messages
