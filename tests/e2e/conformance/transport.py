"""What surrounds the answers: headers, connections, time, and clients that leave."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import ANSWER, QUESTION, Target, case, gateway_case
from tests.e2e.conformance.chat import content

NO_IDS = "the engine knows no request ids"
COUNT: Any = [{"role": "user", "content": "Count to a hundred."}]


@case
def raw_response(target: Target) -> None:
    """The answer's head can be looked at, and the answer parsed after."""
    answer = target.client.chat.completions.with_raw_response.create(**target.asked())
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "application/json"
    assert content(answer.parse()) == ANSWER


@case
def streamed_response(target: Target) -> None:
    """An answer may be read by lines before it is whole."""
    with target.client.chat.completions.with_streaming_response.create(**target.asked()) as answer:
        body = "".join(answer.iter_lines())
    assert ANSWER in body


@gateway_case(NO_IDS)
def request_id(target: Target) -> None:
    """Each answer has an id of its own in its head, which the client tells."""
    ids = {target.ask(max_tokens=1)._request_id for _ in range(2)}
    assert len(ids) == 2
    assert all(ids)


@gateway_case(NO_IDS)
def own_request_id(target: Target) -> None:
    """The client's own id is taken over, in errors too."""
    headers = {"x-request-id": "mine-1"}
    assert target.ask(max_tokens=1, extra_headers=headers)._request_id == "mine-1"
    with pytest.raises(openai.BadRequestError) as caught:
        target.ask(messages="x", extra_headers=headers)
    assert caught.value.request_id == "mine-1"


@gateway_case("the engine's head is its own")
def head(target: Target) -> None:
    """The head tells which replica answered and how long that took, and no engine's name."""
    answer = target.client.chat.completions.with_raw_response.create(**target.asked(max_tokens=1))
    assert answer.headers["x-gpuctl-replica"].startswith("chat-")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert "llama" not in answer.headers.get("server", "")


@case
def extra_headers(target: Target) -> None:
    """Headers that nobody knows do no harm, nor do those of OpenAI's own service."""
    headers = {"x-nobody-knows": "this", "OpenAI-Beta": "assistants=v2"}
    assert content(target.ask(extra_headers=headers)) == ANSWER


@case
def organization(target: Target) -> None:
    """A client of an organization and a project is served."""
    other = target.client.with_options(default_headers={"OpenAI-Organization": "o"})
    assert content(other.chat.completions.create(**target.asked())) == ANSWER


@case
def extra_query(target: Target) -> None:
    """A query string does no harm: Azure's clients send one."""
    assert content(target.ask(extra_query={"api-version": "2024-10-21"})) == ANSWER


@case
def fresh_connections(target: Target) -> None:
    """A client that keeps no connection is served."""
    for _ in range(3):
        assert content(target.ask(extra_headers={"Connection": "close"})) == ANSWER


@case
def kept_connection(target: Target) -> None:
    """Twenty short requests follow one another without one failing."""
    for _ in range(20):
        assert target.client.models.list().data


@case
def after_an_error(target: Target) -> None:
    """After an error the same client is served."""
    with pytest.raises(openai.BadRequestError):
        target.ask(messages="x")
    assert content(target.ask()) == ANSWER


@case
def many_at_once(target: Target) -> None:
    """More requests than there are slots are all answered."""
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: content(target.ask(max_tokens=8)), range(9)))
    assert all(answer.startswith("The capital of France") for answer in answers)


@case
def streams_at_once(target: Target) -> None:
    """So are streams, each its own."""
    with ThreadPoolExecutor(6) as pool:
        streams = list(pool.map(lambda _: list(target.stream(max_tokens=8)), range(6)))
    assert len({chunks[0].id for chunks in streams}) == 6
    assert all(len({chunk.id for chunk in chunks}) == 1 for chunks in streams)


@case
def timeout(target: Target) -> None:
    """A client that waits too short a time gives up, and is served when it waits longer."""
    with pytest.raises(openai.APITimeoutError):
        target.ask(messages=COUNT, max_tokens=400, timeout=0.2)
    assert content(target.ask()) == ANSWER


@case
def many_timeouts(target: Target) -> None:
    """More that give up than there are slots take none of them away for good."""
    for _ in range(5):
        with pytest.raises(openai.APITimeoutError):
            target.ask(messages=COUNT, max_tokens=400, timeout=0.1)
    assert content(target.ask()) == ANSWER


@case
def asynchronous(target: Target) -> None:
    """The asynchronous client is answered, and streamed to."""

    async def asked() -> tuple[str, str]:
        async with target.asynchronous() as client:
            answer = await client.chat.completions.create(**target.asked())
            stream = await client.chat.completions.create(**target.asked(stream=True))
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return content(answer), "".join(pieces)

    assert asyncio.run(asked()) == (ANSWER, ANSWER)


@case
def asynchronous_at_once(target: Target) -> None:
    """Six of its requests at once are all answered."""

    async def asked() -> list[str]:
        async with target.asynchronous() as client:
            made = (client.chat.completions.create(**target.asked()) for _ in range(6))
            return [content(answer) for answer in await asyncio.gather(*made)]

    assert all(answer.startswith("The capital") for answer in asyncio.run(asked()))


@case
def asynchronous_cancelled(target: Target) -> None:
    """A task that is cancelled leaves the client and the server ready for more."""

    async def asked() -> str:
        async with target.asynchronous() as client:
            long = {"messages": COUNT, "max_tokens": 400}
            task = asyncio.create_task(client.chat.completions.create(**target.asked(**long)))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return content(await client.chat.completions.create(**target.asked()))

    assert asyncio.run(asked()) == ANSWER


@gateway_case("the engine keeps no answers")
def idempotency(target: Target) -> None:
    """The same key gets the answer that was made, without another being made."""
    headers = {"Idempotency-Key": "conformance-1"}
    one, other = (
        target.ask(temperature=1, messages=QUESTION, extra_headers=headers) for _ in range(2)
    )
    assert (one.id, content(one)) == (other.id, content(other))
