"""Chunks are put together into the answer that llama.cpp gives where nothing is streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import collect, sse
from gpuctl.gateway.collect import Collector, Failed, collectable

SAME = {"created": 1795280385, "id": "chatcmpl-1", "model": "chat", "system_fingerprint": "b1"}
USAGE = {"completion_tokens": 6, "prompt_tokens": 37, "total_tokens": 43}
TIMINGS = {"cache_n": 0, "prompt_n": 37}


def body(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(**fields: Any) -> bytes:
    return b"data: " + body(fields) + b"\n\n"


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    return event(choices=list(choices), **SAME, object="chat.completion.chunk", **fields)


def delta(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"finish_reason": None, "index": index, "delta": fields}


def end(reason: str = "stop", index: int = 0) -> dict[str, Any]:
    return {"finish_reason": reason, "index": index, "delta": {}}


def text(said: str, index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"text": said, "index": index, "logprobs": None, "finish_reason": reason, **fields}


def answered(kind: str, *events: bytes) -> Any:
    """Return the answer with its keys in order."""
    collector = Collector(kind)
    for each in events:
        collector.add(each)
    return json.loads(collector.answer())


def message(*chunks: bytes) -> Any:
    (choice,) = answered("chat", *chunks)["choices"]
    return choice["message"]


def test_a_chat_is_put_together() -> None:
    """Keys, their order and what each holds are those of a chat.completion."""
    collector = Collector("chat")
    collector.add(chunk(delta(role="assistant", content=None)) + chunk(delta(content="L'")))
    collector.add(sse.KEEP_ALIVE + chunk(delta(content="Éto\n")))
    collector.add(chunk(end("length")) + chunk(usage=USAGE, timings=TIMINGS))
    assert not collector.done
    collector.add(sse.DONE)
    assert collector.done
    assert collector.answer() == body(
        {
            "choices": [
                {
                    "finish_reason": "length",
                    "index": 0,
                    "message": {"role": "assistant", "content": "L'Éto\n"},
                }
            ],
            "created": 1795280385,
            "model": "chat",
            "system_fingerprint": "b1",
            "object": "chat.completion",
            "usage": USAGE,
            "id": "chatcmpl-1",
            "timings": TIMINGS,
        }
    )


def test_a_completion_is_put_together() -> None:
    """Its texts are joined; what came of the last chunk alone is the answer's."""
    answer = answered(
        "completion",
        event(choices=[text(" Paris")], **SAME, object="text_completion"),
        event(choices=[text(".")], **SAME, object="text_completion"),
        event(choices=[text("", reason="stop")], **SAME, object="text_completion", usage=USAGE),
        sse.DONE,
    )
    assert answer["choices"] == [text(" Paris.", reason="stop")]
    assert list(answer["choices"][0]) == ["text", "index", "logprobs", "finish_reason"]
    assert (answer["object"], answer["usage"]) == ("text_completion", USAGE)


def call(index: int, **fields: Any) -> bytes:
    return chunk(delta(tool_calls=[{"index": index, **fields}]))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [chunk(delta(content="a")), chunk(delta(content=None))], {"content": "a"}, id="null"
        ),
        pytest.param([chunk(end())], {"content": ""}, id="nothing said"),
        pytest.param(
            [chunk(delta(role="model", content="a")), chunk(delta(role=None))],
            {"role": "model", "content": "a"},
            id="role",
        ),
        pytest.param(
            [
                chunk(delta(role="assistant", content=None)),
                chunk(delta(reasoning_content="The capital")),
                chunk(delta(reasoning_content=" of")),
                chunk(delta(content="Paris")),
            ],
            {"content": "Paris", "reasoning_content": "The capital of"},
            id="reasoning",
        ),
        pytest.param(
            [
                chunk(delta(content="a", refusal=None, annotations=[1])),
                chunk(delta(annotations=[])),
                chunk(delta(annotations=[2, 3], audio={"id": 1})),
                chunk(delta(audio={"id": 2})),
            ],
            {"content": "a", "refusal": None, "annotations": [1, 2, 3], "audio": {"id": 2}},
            id="unknown fields",
        ),
        pytest.param(
            [
                call(0, id="call_1", type="function", function={"name": "city", "arguments": "{"}),
                call(0, function={"arguments": '"na'}),
                call(1, id="call_2", type="function", function={"name": "go", "arguments": ""}),
                call(0, function={"arguments": 'me":"Paris"}'}),
                chunk(delta(tool_calls=None)),
            ],
            {
                "content": "",
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {"name": "city", "arguments": '{"name":"Paris"}'},
                        "id": "call_1",
                    },
                    {
                        "type": "function",
                        "function": {"name": "go", "arguments": ""},
                        "id": "call_2",
                    },
                ],
            },
            id="two calls",
        ),
    ],
)
def test_a_message_is_put_together(chunks: list[bytes], expected: dict[str, Any]) -> None:
    """Texts, lists and arguments go on; anything else is what came last, and null is nothing."""
    found = message(*chunks)
    assert found == {"role": "assistant", **expected}
    known = ["role", "content", "reasoning_content", "tool_calls"]
    assert [name for name in known if name in found] == [n for n in list(found) if n in known]


def test_logprobs_are_joined() -> None:
    """Each list goes on where it stopped, of whichever generation it is."""
    new = [{"logprobs": {"content": [{"token": word}]}} for word in ("a", "b")]
    old = [{"logprobs": {"tokens": [word], "top_logprobs": None}} for word in ("a", "b")]
    chats = [chunk({**delta(content="x"), **each}) for each in new]
    texts = [event(choices=[{**text("x"), **each}]) for each in old]
    chat = answered("chat", *chats, chunk(end()))["choices"][0]
    assert chat["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}
    assert list(chat) == ["finish_reason", "index", "message", "logprobs"]
    completion = answered("completion", *texts, event(choices=[text("")]))["choices"][0]
    assert completion["logprobs"] == {"tokens": ["a", "b"], "top_logprobs": None}


def test_choices_are_in_their_order_and_the_first_ones_usage_counts() -> None:
    """Whichever ends last, usage and timings are choice 0's, as in llama.cpp's own answer."""
    other = {**USAGE, "completion_tokens": 1}
    answer = answered(
        "chat",
        chunk(delta(1, content="one")) + chunk(end(index=1)) + chunk(usage=other, timings={"n": 1}),
        chunk(delta(0, content="nought")) + chunk(end()) + chunk(usage=USAGE, timings={"n": 0}),
        chunk(delta(2, content="two")) + chunk(end(index=2)) + chunk(usage=other, timings={"n": 2}),
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == [
        "nought",
        "one",
        "two",
    ]
    assert (answer["usage"], answer["timings"]) == (USAGE, {"n": 0})


def test_fields_of_an_engines_own_are_kept() -> None:
    """What only a stream tells is not; timings come last, as llama.cpp writes them."""
    answer = answered(
        "chat",
        chunk(delta(content="a"), timings={"n": 1}, service_tier="auto", prompt_progress={"n": 1}),
        chunk({**end(), "stop_reason": 2}, usage=None, service_tier=None, error=None),
        chunk(usage=USAGE, timings={"n": 2}),
    )
    assert list(answer)[-4:] == ["id", "service_tier", "error", "timings"]
    assert (answer["service_tier"], answer["usage"]) == ("auto", USAGE)
    assert answer["timings"] == {"n": 2}
    assert answer["choices"][0]["stop_reason"] == 2


def test_the_beginning_of_a_prompt_is_no_chunk() -> None:
    """llama.cpp writes `data: null` where one of several prompts begins."""
    answer = answered("completion", b"data: null\n\n", event(choices=[text("a")]))
    assert answer == {"choices": [text("a")], "object": "text_completion"}


def test_what_was_written_stays_as_it_was() -> None:
    """Numbers and escapes are not read and written anew."""
    chunks = rb'data: {"choices":[{"index":0,"delta":{"content":"\u00e9"},"x":1.50e-7}]}' + b"\n\n"
    chunks += rb'data: {"choices":[{"index":0,"delta":{"content":"\/\u0041"}}]}' + b"\n\n"
    collector = Collector("chat")
    collector.add(chunks)
    answer = collector.answer()
    assert rb'"content":"\u00e9\/\u0041"' in answer
    assert b'"x":1.50e-7' in answer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param({"code": 400, "message": "too long"}, 400, id="llama.cpp"),
        pytest.param({"code": 503}, 503, id="gone"),
        pytest.param({"code": "server_error"}, 500, id="a word"),
        pytest.param({"code": 200}, 500, id="no error's status"),
        pytest.param({"message": "no"}, 500, id="without"),
        pytest.param("no", 500, id="text"),
    ],
)
def test_an_error_in_the_stream_is_the_answer(error: Any, status: int) -> None:
    """Its body is passed on whole, with the status it would have had."""
    collector = Collector("chat")
    collector.add(chunk(delta(content="a")))
    with pytest.raises(Failed) as raised:
        collector.add(event(error=error))
    assert (raised.value.status, json.loads(raised.value.body)) == (status, {"error": error})


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(event(error={"code": 400}), (400, b'{"error":{"code":400}}'), id="error"),
        pytest.param(event(error="no") + sse.DONE, (500, b'{"error":"no"}'), id="and the end"),
        pytest.param(event(error=None, choices=[]), None, id="none"),
        pytest.param(b'data: {"error":\n\n', (502, None), id="broken"),
    ],
)
def test_an_error_that_an_event_carries(events: bytes, expected: Any) -> None:
    """It is told from a chunk that says that there is none."""
    failed = collect.failure(events)
    found = failed and (failed.status, failed.body if failed.status != 502 else None)
    assert found == expected


@pytest.mark.parametrize(
    "carried",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"choices":{}}',
        b'{"choices":[{"index":"0"}]}',
        b'{"choices":[{"index":0,"delta":null}]}',
        b'{"choices":[{"index":0,"logprobs":[]}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":{}}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"function":1}]}}]}',
    ],
)
def test_what_is_no_chunk_is_refused(carried: bytes) -> None:
    """A stream that cannot be put together fails; nothing is guessed."""
    with pytest.raises(Failed, match="cannot be read") as raised:
        Collector("chat").add(b"data: " + carried + b"\n\n")
    assert raised.value.status == 502


def test_an_answer_that_is_too_large_is_refused() -> None:
    """Nothing more than 8 MiB is held, however it comes."""
    part = chunk(delta(content="x" * 500_000))
    collector = Collector("chat")
    for _ in range(collect.MOST_COLLECTED_BYTES // 500_000):
        collector.add(part)
    with pytest.raises(Failed, match="8388608 bytes"):
        collector.add(part)


@given(st.lists(st.text(max_size=8), max_size=12), st.booleans())
def test_however_it_is_cut_the_text_is_whole(parts: list[str], ascii_only: bool) -> None:
    """Any characters, escaped or not, in any pieces."""
    collector = Collector("chat")
    for part in parts:
        written = json.dumps({"choices": [delta(content=part)]}, ensure_ascii=ascii_only)
        collector.add(b"data: " + written.encode() + b"\n\n")
    choices = json.loads(collector.answer())["choices"]
    assert "".join(choice["message"]["content"] for choice in choices) == "".join(parts)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"messages": [], "n": 2, "logprobs": False}, True, id="plain"),
        pytest.param({"stop": None, "tools": None, "response_format": None}, True, id="null"),
        pytest.param({"stop": [], "tools": []}, True, id="none"),
        pytest.param({"stop": [""]}, True, id="an empty word"),
        pytest.param({"response_format": {"type": "text"}}, True, id="text"),
        pytest.param({"stop": "\n"}, False, id="stop word"),
        pytest.param({"stop": ["", "a"]}, False, id="stop words"),
        pytest.param({"logprobs": True}, False, id="logprobs"),
        pytest.param({"logprobs": 0}, False, id="a completion's logprobs"),
        pytest.param({"n_probs": 2}, False, id="llama.cpp's own"),
        pytest.param({"stop": 1}, False, id="what the engine will refuse"),
        pytest.param({"tools": [{"type": "function"}]}, False, id="tools"),
        pytest.param({"response_format": {"type": "json_object"}}, False, id="json"),
        pytest.param({"json_schema": {}}, False, id="llama.cpp's own schema"),
    ],
)
def test_what_is_collected(fields: dict[str, Any], expected: bool) -> None:
    """Only where llama.cpp streams the same answer that it gives without a stream."""
    assert collectable(body(fields)) is expected
