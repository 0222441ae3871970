"""What a case is, and what it is run against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import openai
from openai.types.chat import ChatCompletion

#: Longer than any case takes on two busy cores; no case waits for it.
SECONDS = 60.0

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a case is run; the clients are openai's own, and retry nothing."""

    name: Literal["bare", "gateway"]
    model: str  # that chats
    embedding_model: str
    base_url: str  # of what chats
    client: openai.OpenAI = field(repr=False)
    embedder: openai.OpenAI = field(repr=False)

    def ask(self, **changes: Any) -> ChatCompletion:
        """Ask the question of all cases, or what *changes* makes of it."""
        made: ChatCompletion = self.client.chat.completions.create(**self.asked(**changes))
        return made

    def stream(self, **changes: Any) -> openai.Stream[Any]:
        made: openai.Stream[Any] = self.client.chat.completions.create(
            **self.asked(stream=True, **changes)
        )
        return made

    def asked(self, **changes: Any) -> dict[str, Any]:
        plain = {"messages": QUESTION, "max_tokens": 10, "temperature": 0}
        return {"model": self.model, **plain, **changes}

    def asynchronous(self, **changes: Any) -> openai.AsyncOpenAI:
        """Return a client for `asyncio`, which the case closes."""
        return openai.AsyncOpenAI(**{**_OPTIONS, "base_url": self.base_url, **changes})


_OPTIONS: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": SECONDS}


def client(base_url: str, **headers: str) -> openai.OpenAI:
    """Return a client as anybody makes it; it sends these *headers* each time."""
    return openai.OpenAI(base_url=base_url, default_headers=headers, **_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    group: str
    name: str
    run: Callable[[Target], None]
    #: Why the bare engine does not fulfil it; "" where it does.
    gateway_only: str = ""


CASES: list[Case] = []


def case(run: Callable[[Target], None]) -> Callable[[Target], None]:
    """Take the function in as a case of both targets."""
    CASES.append(_case(run, ""))
    return run


def gateway_case(why: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Take the function in as a case of the gateway; *why* says what the engine does instead."""

    def taken(run: Callable[[Target], None]) -> Callable[[Target], None]:
        CASES.append(_case(run, why))
        return run

    return taken


def _case(run: Callable[[Target], None], why: str) -> Case:
    group = run.__module__.rpartition(".")[2]
    return Case(group=group, name=run.__name__, run=run, gateway_only=why)
