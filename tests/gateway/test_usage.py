"""Tokens are counted as engines report them; what only the gateway asked for is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.gateway import sse, usage
from gpuctl.gateway.counts import Details, Usage

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
        pytest.param(body(choices=[], usage=COUNTS), Usage(37, 6), id="chat"),
        pytest.param(body(usage=CACHED), Usage(37, 6, Details(30)), id="cached"),
        pytest.param(
            body(usage={**COUNTS, "prompt_tokens_details": None}), Usage(37, 6), id="vllm"
        ),
        pytest.param(body(usage={"prompt_tokens": 5}), Usage(5, 0), id="embeddings"),
        pytest.param(
            body(object="response", usage=RESPONSE), Usage(31, 3, Details(30)), id="response"
        ),
        pytest.param(
            body(usage={"type": "tokens", "input_tokens": 9, "output_tokens": 2}),
            Usage(9, 2),
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
        pytest.param(body(data=FILL, usage=CACHED), Usage(37, 6, Details(30)), id="at its end"),
        pytest.param(
            body(usage=CACHED, data=FILL), Usage(37, 6, Details(30)), id="at its beginning"
        ),
        pytest.param(
            json.dumps({"data": FILL, "usage": CACHED}, indent=2).encode(),
            Usage(37, 6, Details(30)),
            id="laid out",
        ),
        pytest.param(body(a=FILL, usage=CACHED, b=FILL), None, id="in its middle"),
        pytest.param(body(data=FILL, usage=None), None, id="null"),
        pytest.param(body(data=FILL, usage={"prompt_tokens": "1"}), None, id="text"),
        pytest.param(body(data=FILL) + b'"usage":{"prompt', None, id="cut off"),
        pytest.param(body(data=FILL) + b'"usage"', None, id="cut off before it"),
        pytest.param(body(usage=COUNTS, data=FILL, type="usage"), Usage(37, 6), id="a value"),
    ],
)
def test_a_large_answer_is_searched_at_its_ends(answer: bytes, expected: Usage | None) -> None:
    """Above 1 MiB nothing is parsed but the usage itself, wherever an engine writes it."""
    assert usage.of_body(answer) == expected


@given(st.binary(max_size=200), st.integers(0, 9**9), st.integers(0, 9**9))
def test_it_is_found_behind_any_bytes(junk: bytes, prompt: int, completion: int) -> None:
    """What an embedding or a text holds before it changes nothing."""
    counts = body(usage={"prompt_tokens": prompt, "completion_tokens": completion})[1:]
    assert usage.of_ends(b"", junk + counts) == Usage(prompt, completion)


@given(st.binary(max_size=40))
def test_any_bytes_behind_the_word_raise_nothing(junk: bytes) -> None:
    """An answer that was cut off, or is no JSON at all, has no usage."""
    assert usage.of_ends(b'"usage":' + junk, b'"usage":{' + junk) is None


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(WORDS, None, id="words"),
        pytest.param(WORDS + END + LAST + sse.DONE, Usage(37, 6), id="the last chunk"),
        pytest.param(
            event(choices=[{"index": 0, "text": "x"}], usage=CACHED),
            Usage(37, 6, Details(30)),
            id="with a choice",
        ),
        pytest.param(
            event(choices=[], usage={**COUNTS, "completion_tokens": 1}) + LAST,
            Usage(37, 6),
            id="the last of two",
        ),
        pytest.param(LAST + event(choices=[], usage=None), Usage(37, 6), id="then null"),
        pytest.param(event(choices=[{}], usage=None), None, id="null in every chunk"),
        pytest.param(event(choices=[{"delta": {"content": "usage"}}]), None, id="the word"),
        pytest.param(
            b"event: response.completed\n"
            + event(type="response.completed", response={"id": "resp_1", "usage": RESPONSE}),
            Usage(31, 3, Details(30)),
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


#: Members of an answer as they are written: what tells of tokens, what looks like it, and all else.
_COUNTS = st.sampled_from(
    [
        *('{"prompt_tokens":3,"completion_tokens":2}', '{"prompt_tokens":4}', "null", "{}", "5"),
        *('{"input_tokens":6,"output_tokens":1}', '{"prompt_tokens":-1}', '"usage"', "[]", '"}"'),
        '{"prompt_tokens":7,"completion_tokens":null,"prompt_tokens_details":{"cached_tokens":2}}',
        '{"prompt_tokens":8,"prompt_tokens_details":null,"x":{"usage":{"prompt_tokens":1}}}',
        '{"prompt_tokens":1,"prompt_tokens":9}',
        '{"input_tokens":6,"prompt_tokens":"x"}',
        '["usage",{"usage":{"prompt_tokens":1}}]',
        '{"usage":{"prompt_tokens":1}}',
        r'"\",\"usage\":{\"prompt_tokens\":1}}"',
        r'"\\\\"',
        '",usage"',
        '[{"content":"a"},"usage"]',
    ]
)
_KEYS = st.sampled_from(
    ['"usage"', '"response"', '"choices"', r'"us\u0061ge"', r'"x\"usage"', '""']
)
_SPACE = st.sampled_from(["", "", " ", "\n  ", "\t"])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Return an object, or what is in an array."""
    members = draw(st.lists(st.tuples(_KEYS, _COUNTS), max_size=4))
    space = draw(_SPACE)
    inside = f",{space}".join(f"{key}{space}:{space}{value}" for key, value in members)
    around = draw(st.sampled_from(["{%s}", "{%s}", "[{%s}]", '{"a":{%s}}', "%s"]))
    return (space + around % (space + inside + space) + space).encode()


def whole(body: bytes) -> Usage | None:
    """Return the usage as the careful way finds it: an escape keeps the quick one out."""
    return usage.of_body(body.replace(b'"usage"', rb'"usag\u0065"'))


def valid(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@settings(max_examples=500)
@given(answers())
def test_the_quick_way_finds_what_the_careful_way_finds(body: bytes) -> None:
    """Of valid JSON, whatever is twice in it, nested, escaped, in texts, or of another type."""
    if valid(body):
        assert usage.of_body(body) == whole(body)


@settings(max_examples=300)
@given(answers(), st.data())
def test_what_is_broken_has_its_usage_or_none(body: bytes, data: st.DataObject) -> None:
    """A body that is no JSON raises nothing; if it still is JSON, both ways agree."""
    at = data.draw(st.integers(0, len(body)))
    broken = body[:at] + data.draw(st.binary(max_size=3)) + body[at + 1 :]
    found = usage.of_body(broken)
    assert found is None or found.prompt >= 0
    if valid(broken):
        assert found == whole(broken)


@given(
    st.recursive(
        st.text('usage"\\,:{}', max_size=8) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["usage", "prompt_tokens", 'x"usage', "response"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from([None, 1]),
)
def test_both_ways_agree_on_any_document(document: object, indent: int | None) -> None:
    """Texts full of quotes, braces and the word itself change nothing."""
    body = json.dumps(document, indent=indent).encode()
    assert usage.of_body(body) == whole(body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b'{"a":tru,"usage":{"prompt_tokens":1}}', Usage(1, 0), id="before its usage"),
        pytest.param(b'{"usage":{"prompt_tokens":1},"a":tru}', None, id="behind it"),
        pytest.param(b'{"usage":{"prompt_tokens":1}', None, id="cut short"),
        pytest.param(b'{"usage":{"prompt_tokens":1}}}', None, id="one brace more"),
    ],
)
def test_the_usage_of_an_answer_that_is_broken(answer: bytes, expected: Usage | None) -> None:
    """Only what comes before the usage may be broken: the engine has done the work."""
    assert usage.of_body(answer) == expected


@pytest.mark.parametrize(
    "nest",
    [b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000],
    ids=["arrays", "objects"],
)
@pytest.mark.parametrize(
    "answer",
    [b'{"a":%s,"us\\u0061ge":{"prompt_tokens":1}}', b'{"usage":{"a":%s}}', b'{"usage":{},"a":%s}'],
    ids=["before it", "within it", "behind it"],
)
def test_what_is_nested_deeper_than_a_parser_follows_has_none(answer: bytes, nest: bytes) -> None:
    """An engine that answers with thousands of levels ends nothing but its own count."""
    assert usage.of_body(answer % nest) is None
    assert usage.of_ends(answer % nest, b"") is None
