"""Chat completions as a stream."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import ANSWER, Target, case
from tests.e2e.conformance.chat import ONLY_UNICODE, UNICODE


def text(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@case
def adds_up(target: Target) -> None:
    """The pieces are the answer that comes in one piece."""
    assert text(list(target.stream())) == ANSWER


@case
def one_id(target: Target) -> None:
    """Every chunk of a stream has the same id, model and kind."""
    chunks = list(target.stream(max_tokens=3))
    assert len(chunks) > 3
    assert {(c.id, c.model, c.object) for c in chunks} == {
        (chunks[0].id, target.model, "chat.completion.chunk")
    }


@case
def role_first(target: Target) -> None:
    """The first chunk says who speaks, and no other does."""
    roles = [chunk.choices[0].delta.role for chunk in target.stream(max_tokens=3)]
    assert (roles[0], set(roles[1:])) == ("assistant", {None})


@case
def reason_last(target: Target) -> None:
    """The last chunk, and no other, says why it ended."""
    reasons = [chunk.choices[0].finish_reason for chunk in target.stream()]
    assert (reasons[-1], set(reasons[:-1])) == ("stop", {None})


@case
def length_reason(target: Target) -> None:
    """A stream that was cut by its limit says so."""
    *_, last = target.stream(max_tokens=2)
    assert last.choices[0].finish_reason == "length"


@case
def no_usage_unasked(target: Target) -> None:
    """Who has not asked for the usage sees no chunk of it: each has a choice."""
    chunks = list(target.stream(max_tokens=2))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@case
def no_usage_refused(target: Target) -> None:
    """Nor does who has said no to it."""
    chunks = list(target.stream(max_tokens=2, stream_options={"include_usage": False}))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@case
def usage_asked(target: Target) -> None:
    """Who asked for the usage gets it last, in a chunk without a choice."""
    *chunks, last = target.stream(max_tokens=2, stream_options={"include_usage": True})
    assert (last.choices, last.usage.completion_tokens) == ([], 2)
    assert last.usage.total_tokens == last.usage.prompt_tokens + 2
    assert {chunk.id for chunk in chunks} == {last.id}


@case
def unicode_pieces(target: Target) -> None:
    """A character is never cut in two."""
    chunks = list(target.stream(extra_body=ONLY_UNICODE))
    assert text(chunks) == UNICODE
    assert "\ufffd" not in text(chunks)


@case
def logprobs(target: Target) -> None:
    """Each chunk has the probabilities of its own tokens."""
    chunks = list(target.stream(max_tokens=2, logprobs=True, top_logprobs=1))
    told = [chunk.choices[0].logprobs for chunk in chunks]
    assert [token.token for found in told if found for token in found.content or []] == [
        "The",
        " capital",
    ]


@case
def several_choices(target: Target) -> None:
    """Two choices are told apart by their index, and each ends once."""
    chunks = list(target.stream(n=2, max_tokens=2, temperature=1))
    ends = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert sorted(ends) == [0, 1]


@case
def unknown_fields_out(target: Target) -> None:
    """What the engine adds to a chunk is left in it."""
    *_, last = target.stream(max_tokens=1)
    assert last.model_extra["timings"]["predicted_n"] == 1


@case
def closed_early(target: Target) -> None:
    """A stream that is closed in its midst leaves the client and the server ready for more."""
    stream = target.stream(max_tokens=300, messages=[{"role": "user", "content": "Count."}])
    next(stream)
    stream.close()
    assert text(list(target.stream())) == ANSWER


@case
def left_by_break(target: Target) -> None:
    """So does one that is left with `break`."""
    with target.stream(max_tokens=300) as stream:
        for _ in stream:
            break
    assert text(list(target.stream())) == ANSWER


@case
def many_left(target: Target) -> None:
    """Leaving more streams than there are slots takes none of them away for good."""
    for _ in range(6):
        with target.stream(max_tokens=300) as stream:
            next(stream)
    assert text(list(target.stream())) == ANSWER


@case
def helper(target: Target) -> None:
    """The client's own helper follows the stream, and puts the answer together."""
    with target.client.chat.completions.stream(**target.asked()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert (kinds[0], kinds[-1]) == ("chunk", "content.done")
    assert final.choices[0].message.content == ANSWER


@case
def events(target: Target) -> None:
    """On the wire each event is a line of JSON and an empty one; the last one is [DONE]."""
    with target.client.chat.completions.with_streaming_response.create(
        **target.asked(stream=True, max_tokens=2)
    ) as answer:
        kind = answer.headers["content-type"]
        blocks = answer.read().decode().split("\n\n")
    assert kind.partition(";")[0] == "text/event-stream"
    *chunks, done, rest = [block for block in blocks if not block.startswith(":")]
    assert (done, rest) == ("data: [DONE]", "")
    assert all(json.loads(chunk.removeprefix("data: "))["choices"] for chunk in chunks)


@case
def refused_at_once(target: Target) -> None:
    """What is wrong with a request is told by its status, though a stream was asked for."""
    with pytest.raises(openai.BadRequestError):
        target.stream(messages="no list")
