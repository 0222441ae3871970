"""Tokens are counted as engines report them; what only the gateway asked for is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import sse, usage
from gpuctl.gateway.counts import Usage

COUNTS = {"completion_tokens": 6, "prompt_tokens": 37, "total_tokens": 43}
CACHED = {**COUNTS, "prompt_tokens_details": {"cached_tokens": 30}}
RESPONSE = {"input_tokens": 31, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 30}}
TIMINGS = {"prompt_n": 37, "prompt_ms": 159.724}


def body(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def event(**fields: Any) -> bytes:
    return b"data: " + body(**fields) + b"\n\n"


WORDS = event(choices=[{"index": 0, "delta": {"content": "Paris"}, "finish_reason": None}])
END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
LAST = event(choices=[], usage=COUNTS)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(body(choices=[], usage=COUNTS), Usage(37, 6, None), id="chat"),
        pytest.param(body(usage=CACHED), Usage(37, 6, 30), id="cached"),
        pytest.param(
            body(usage={**COUNTS, "prompt_tokens_details": None}), Usage(37, 6, None), id="vllm"
        ),
        pytest.param(body(usage={"prompt_tokens": 5}), Usage(5, 0, None), id="embeddings"),
        pytest.param(body(object="response", usage=RESPONSE), Usage(31, 3, 30), id="response"),
        pytest.param(
            body(usage={"type": "tokens", "input_tokens": 9, "output_tokens": 2}),
            Usage(9, 2, None),
            id="transcription",
        ),
        pytest.param(body(usage={"type": "duration", "seconds": 3}), None, id="seconds"),
        pytest.param(body(usage={"prompt_tokens": -1}), None, id="below zero"),
        pytest.param(body(usage={"prompt_tokens": "37"}), None, id="text"),
        pytest.param(body(usage=None), None, id="null"),
        pytest.param(body(text="usage"), None, id="a value"),
        pytest.param(body(choices=[]), None, id="without"),
        pytest.param(b'"usage" of the weir', None, id="not json"),
        pytest.param(b'\xff"usage"', None, id="not text"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_the_usage_of_an_answer(answer: bytes, expected: Usage | None) -> None:
    """OpenAI's names of both generations are read; whatever else is there is none."""
    assert usage.of_body(answer) == expected


FILL = "A" * usage.MOST_PARSED_BYTES


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(body(data=FILL, usage=CACHED), Usage(37, 6, 30), id="at its end"),
        pytest.param(body(usage=CACHED, data=FILL), Usage(37, 6, 30), id="at its beginning"),
        pytest.param(
            json.dumps({"data": FILL, "usage": CACHED}, indent=2).encode(),
            Usage(37, 6, 30),
            id="laid out",
        ),
        pytest.param(body(a=FILL, usage=CACHED, b=FILL), None, id="in its middle"),
        pytest.param(body(data=FILL, usage=None), None, id="null"),
        pytest.param(body(data=FILL, usage={"prompt_tokens": "1"}), None, id="text"),
        pytest.param(body(data=FILL) + b'"usage":{"prompt', None, id="cut off"),
        pytest.param(body(data=FILL) + b'"usage"', None, id="cut off before it"),
        pytest.param(body(usage=COUNTS, data=FILL, type="usage"), Usage(37, 6, None), id="a value"),
    ],
)
def test_a_large_answer_is_searched_at_its_ends(answer: bytes, expected: Usage | None) -> None:
    """Above 1 MiB nothing is parsed but the usage itself, wherever an engine writes it."""
    assert usage.of_body(answer) == expected


@given(st.binary(max_size=200), st.integers(0, 9**9), st.integers(0, 9**9))
def test_it_is_found_behind_any_bytes(junk: bytes, prompt: int, completion: int) -> None:
    """What an embedding or a text holds before it changes nothing."""
    counts = body(usage={"prompt_tokens": prompt, "completion_tokens": completion})[1:]
    assert usage.of_ends(b"", junk + counts) == Usage(prompt, completion, None)


@given(st.binary(max_size=40))
def test_any_bytes_behind_the_word_raise_nothing(junk: bytes) -> None:
    """An answer that was cut off, or is no JSON at all, has no usage."""
    assert usage.of_ends(b'"usage":' + junk, b'"usage":{' + junk) is None


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(WORDS, None, id="words"),
        pytest.param(WORDS + END + LAST + sse.DONE, Usage(37, 6, None), id="the last chunk"),
        pytest.param(
            event(choices=[{"index": 0, "text": "x"}], usage=CACHED),
            Usage(37, 6, 30),
            id="with a choice",
        ),
        pytest.param(
            event(choices=[], usage={**COUNTS, "completion_tokens": 1}) + LAST,
            Usage(37, 6, None),
            id="the last of two",
        ),
        pytest.param(LAST + event(choices=[], usage=None), Usage(37, 6, None), id="then null"),
        pytest.param(event(choices=[{}], usage=None), None, id="null in every chunk"),
        pytest.param(event(choices=[{"delta": {"content": "usage"}}]), None, id="the word"),
        pytest.param(
            b"event: response.completed\n"
            + event(type="response.completed", response={"id": "resp_1", "usage": RESPONSE}),
            Usage(31, 3, 30),
            id="response.completed",
        ),
        pytest.param(
            event(type="response.created", response={"usage": None}), None, id="response.created"
        ),
        pytest.param(b': "usage"\n\n', None, id="a comment"),
        pytest.param(b'data: "usage\n\ndata: "usage"\n\n', None, id="not an object"),
    ],
)
def test_the_usage_within_events(events: bytes, expected: Usage | None) -> None:
    """The last usage in whole events counts, chunk or response."""
    assert usage.in_events(events) == expected


@pytest.mark.parametrize(
    "events",
    [
        WORDS,
        event(choices=[{"index": 0}], usage=COUNTS),
        event(choices=[], usage=None),
        event(choices=[{"index": 0}], usage=None),
        b'data: {"choices": [], "usage": null}\n\n',
        event(choices=[{"delta": {"content": "usage"}}]),
        event(response={"usage": RESPONSE}),
        b': "usage"\n\n',
        b'data: {"usage"\n\n',
        sse.DONE,
    ],
    ids=[
        "words",
        "with a choice",
        "null alone",
        "null",
        "null, laid out",
        "the word",
        "response",
        "comment",
        "not json",
        "done",
    ],
)
def test_what_anyone_would_have_been_sent_is_not_touched(events: bytes) -> None:
    """Only a chunk of usage and no choice is taken out; all else is the same object."""
    assert usage.strip(events) is events


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(LAST, b"", id="alone"),
        pytest.param(END + LAST + sse.DONE, END + sse.DONE, id="between"),
        pytest.param(LAST + LAST, b"", id="of two choices"),
        pytest.param(
            END + event(choices=[], usage=COUNTS, timings=TIMINGS),
            event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], timings=TIMINGS),
            id="its timings go back",
        ),
        pytest.param(
            event(choices=[], usage=COUNTS, timings=TIMINGS), b"", id="timings with no place"
        ),
        pytest.param(
            sse.KEEP_ALIVE + event(choices=[], usage=COUNTS, timings=TIMINGS),
            sse.KEEP_ALIVE,
            id="timings after a comment",
        ),
    ],
)
def test_the_chunk_that_only_the_gateway_asked_for_is_taken_out(
    events: bytes, expected: bytes
) -> None:
    """A client that did not ask for usage gets the bytes that the bare engine would send."""
    assert usage.strip(events) == expected
