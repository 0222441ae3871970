"""Clients that ask through `openai`, each in a thread of its own, and never ask again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import openai

#: Longer than a gateway lets any answer take.
SECONDS = 330.0

#: Returns the fields of the next request.
Asks = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one request."""

    streamed: bool
    seconds: float
    pieces: int = 0  # of the answer that came; 1 where it came whole and has a text
    prompt_tokens: int = 0  # as the engine counted them; 0 of a stream
    error: str = ""  # what the client raised


def ask(client: openai.OpenAI, body: dict[str, Any]) -> Outcome:
    """Ask, and tell how it went."""
    began, pieces, tokens, error = time.monotonic(), 0, 0, ""
    streamed = bool(body.get("stream"))
    try:
        answer = client.chat.completions.create(**body)
        if streamed:
            with answer as stream:
                finished = ""
                for chunk in stream:
                    pieces += 1
                    finished = (chunk.choices and chunk.choices[0].finish_reason) or finished
            error = "" if finished else "a stream that just ends"
        else:
            pieces, tokens = bool(answer.choices[0].message.content), answer.usage.prompt_tokens
    except (openai.OpenAIError, httpx.HTTPError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    return Outcome(
        streamed=streamed,
        seconds=time.monotonic() - began,
        pieces=int(pieces),
        prompt_tokens=tokens,
        error=error,
    )


class Clients:
    """A context manager; each client of *asks* goes on until it is left."""

    def __init__(self, base_url: str, asks: list[Asks], *, every_seconds: float = 0.0) -> None:
        self.outcomes: list[Outcome] = []
        self._base_url = base_url
        self._every_seconds = every_seconds
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(one, index * every_seconds / len(asks)))
            for index, one in enumerate(asks)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def of(self, *, streamed: bool) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.streamed == streamed]

    def _run(self, asks: Asks, first_seconds: float) -> None:
        due = time.monotonic() + first_seconds
        with openai.OpenAI(
            base_url=self._base_url, api_key="none", max_retries=0, timeout=SECONDS
        ) as client:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                self.outcomes.append(ask(client, asks()))
                due += self._every_seconds
