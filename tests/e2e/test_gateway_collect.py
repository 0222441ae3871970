"""An answer put together from the real llama.cpp's stream is the one it gives without a stream."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.gateway import prompts, sse, usage
from gpuctl.gateway.collect import Collector, Failed, collectable
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica
from tests.rig.llama_server import LlamaServer

pytestmark = [pytest.mark.engine, pytest.mark.program]

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
#: The same tokens every time, and nothing kept from the request before.
SAME = {"temperature": 0, "seed": 1, "cache_prompt": False, "max_tokens": 6}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaServer]:
    with LlamaServer("chat", "--ctx-size", "640", "--parallel", "2") as started:
        started.ready()
        yield started


def ask(engine: LlamaServer, path: str, **fields: Any) -> tuple[int, bytes]:
    body = json.dumps({**SAME, **fields}).encode()
    request = urllib.request.Request(
        f"{engine.url}{path}", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def collected(path: str, stream: bytes) -> bytes:
    """Put the answer together from pieces as small as no socket gives them."""
    events, collector = sse.Events(), Collector("chat" if path == CHAT else "completion")
    for at in range(0, len(stream), 100):
        collector.add(events.feed(stream[at : at + 100]))
    assert (collector.done, events.kept) == (True, 0)
    return collector.answer()


def shape(body: bytes) -> Any:
    """Return an answer with its keys in order, without what differs from one to the next."""
    return json.loads(body, object_pairs_hook=_known)


def _known(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    counted = pairs[0][0] == "cache_n" if pairs else False
    return [
        (name, type(value) if name in ("id", "created") or counted else value)
        for name, value in pairs
    ]


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def called(question: str, city: str) -> list[dict[str, Any]]:
    function = {"name": "city", "arguments": json.dumps({"name": city})}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]


FRANCE = user("What is the capital of France?")
PROMPT = {"prompt": "The capital of France is"}
#: Goes on with "-digit numbers are 1234567".
COUNT = {"prompt": "One two three four", "logprobs": 1}
SMILES = {"prompt": "🙂🙃🙂🙃🙂🙃🙂🙃"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}},
    "required": ["city"],
}
JSON = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "city",
            "description": "Tell the city.",
            "parameters": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 12}},
                "required": ["name"],
            },
        },
    }
]
#: The model is small: it calls the function because the conversation shows it how.
CALLS = {
    "messages": [
        *called("What is the capital of Italy?", "Rome"),
        *FRANCE["messages"],
    ],
    "tools": TOOLS,
    "max_tokens": 60,
}

ASKED = [
    pytest.param(CHAT, FRANCE, id="chat"),
    pytest.param(CHAT, {**FRANCE, "max_tokens": 1}, id="one token"),
    pytest.param(CHAT, {**FRANCE, "max_tokens": 60}, id="to its end"),
    pytest.param(CHAT, {**FRANCE, "temperature": 0.8, "seed": 7}, id="seed"),
    pytest.param(
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                *FRANCE["messages"],
                {"role": "assistant", "content": "Paris."},
                {"role": "user", "content": "And of Italy?"},
            ]
        },
        id="multi-turn",
    ),
    pytest.param(CHAT, {**FRANCE, "n": 2, "temperature": 1.0, "seed": 7}, id="two choices"),
    pytest.param(CHAT, {**FRANCE, "return_progress": True}, id="progress"),
    pytest.param(CHAT, {**FRANCE, "timings_per_token": True}, id="timings of each token"),
    pytest.param(CHAT, user("the " * 300) | {"max_tokens": 100}, id="the context is full"),
    pytest.param(TEXT, PROMPT, id="completion"),
    pytest.param(TEXT, {**PROMPT, "echo": True}, id="echo"),
    pytest.param(TEXT, {**PROMPT, "n": 2}, id="two completions"),
    pytest.param(TEXT, {"prompt": ["The capital of France is", "One two"]}, id="two prompts"),
    pytest.param(TEXT, {"prompt": ["One", "Two"], "n": 2}, id="two prompts, two completions"),
    pytest.param(TEXT, {"prompt": [504, 3575]}, id="tokens"),
    pytest.param(TEXT, {**PROMPT, "logit_bias": [[2, 100]]}, id="nothing"),
    pytest.param(TEXT, {**SMILES, "max_tokens": 6}, id="characters of many tokens"),
    pytest.param(TEXT, {**PROMPT, "stop": []}, id="no stop words"),
]


@pytest.mark.parametrize(("path", "fields"), ASKED)
def test_it_is_the_answer_without_a_stream(
    engine: LlamaServer, path: str, fields: dict[str, Any]
) -> None:
    """Every key and value is there, in its order; ids, times and speeds are each answer's own."""
    assert collectable(json.dumps(fields).encode())
    status, direct = ask(engine, path, **fields)
    assert status == 200, direct
    _, stream = ask(engine, path, **fields, **STREAM)
    assert shape(collected(path, stream)) == shape(direct)
    assert usage.in_events(stream) is not None
    if "n" not in fields and isinstance(fields.get("prompt", ""), str):
        assert usage.in_events(stream) == usage.of_body(direct)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({**CALLS, "tool_choice": "required"}, "tool_calls", id="a call"),
        pytest.param({**CALLS, "max_tokens": 16}, "length", id="a call, cut by the limit"),
        pytest.param({**FRANCE, "stop": ["."], "max_tokens": 40}, "stop", id="a stop word"),
        pytest.param({**FRANCE, **JSON, "max_tokens": 40}, "stop", id="json"),
        pytest.param({**FRANCE, "logprobs": True, "max_tokens": 4}, "length", id="logprobs"),
    ],
)
def test_what_is_left_alone_can_be_put_together_as_well(
    engine: LlamaServer, fields: dict[str, Any], reason: str
) -> None:
    """Calls, stop words and the like are collected right where llama.cpp streams them right."""
    assert not collectable(json.dumps(fields).encode())
    direct = ask(engine, CHAT, **fields)[1]
    assert json.loads(direct)["choices"][0]["finish_reason"] == reason
    stream = ask(engine, CHAT, **fields, **STREAM)[1]
    assert shape(collected(CHAT, stream)) == shape(direct)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param(CHAT, user("the " * 600), id="too long"),
        pytest.param(CHAT, {"messages": "hello"}, id="no list of messages"),
        pytest.param(TEXT, {**PROMPT, "grammar": "root ::= ("}, id="bad grammar"),
    ],
)
def test_an_error_before_the_stream_is_the_same(
    engine: LlamaServer, path: str, fields: dict[str, Any]
) -> None:
    """There is no stream then: status and body are those of the request without one."""
    status, direct = ask(engine, path, **fields)
    assert status >= 400
    assert ask(engine, path, **fields, **STREAM) == (status, direct)


def test_an_error_within_the_stream_is_the_same(engine: LlamaServer) -> None:
    """A third prompt waits for one of two slots, and turns out to be too long only then."""
    prompts = {"prompt": ["One", "Two", "the " * 600]}
    direct = ask(engine, TEXT, **prompts)
    status, stream = ask(engine, TEXT, **prompts, **STREAM)
    assert (status, direct[0]) == (200, 400)
    with pytest.raises(Failed) as raised:
        collected(TEXT, stream)
    assert (raised.value.status, raised.value.body) == direct


def test_a_character_that_the_limit_cuts_is_left_out(engine: LlamaServer) -> None:
    """The one difference: four tokens are a character and a third, which is U+FFFD else."""
    fields = {**SMILES, "max_tokens": 4}
    direct = ask(engine, TEXT, **fields)[1]
    stream = ask(engine, TEXT, **fields, **STREAM)[1]
    assert "\ufffd" in direct.decode()
    assert shape(collected(TEXT, stream)) == shape(direct.replace("\ufffd".encode(), b""))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param(CHAT, {**FRANCE, "max_tokens": 5, "stop": ["France is XY"]}, id="text"),
        pytest.param(CHAT, {**FRANCE, **JSON, "max_tokens": 4}, id="code fence"),
        pytest.param(TEXT, {**COUNT, "max_tokens": 12, "stop": ["12"]}, id="logprobs"),
    ],
)
def test_it_is_left_alone_for_a_reason(
    engine: LlamaServer, path: str, fields: dict[str, Any]
) -> None:
    """llama.cpp loses what it held back; a version that does not fails here, and is collected."""
    assert not collectable(json.dumps(fields).encode())
    direct = ask(engine, path, **fields)[1]
    stream = ask(engine, path, **fields, **STREAM)[1]
    assert shape(collected(path, stream)) != shape(direct)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param(CHAT, FRANCE, id="chat"),
        pytest.param(CHAT, {**FRANCE, "n": 2}, id="two choices"),
        pytest.param(CHAT, {**FRANCE, "timings_per_token": True}, id="timings of each token"),
        pytest.param(TEXT, PROMPT, id="completion"),
    ],
)
def test_a_stream_without_its_usage_is_the_bare_engines(
    engine: LlamaServer, path: str, fields: dict[str, Any]
) -> None:
    """Usage asked for and stripped again: the events of a client that never asked, timings too."""
    bare = ask(engine, path, **fields, stream=True)[1]
    counted = ask(engine, path, **fields, **STREAM)[1]
    assert usage.in_events(counted) is not None
    assert sorted(map(repr, shapes(usage.strip(counted)))) == sorted(map(repr, shapes(bare)))


def shapes(stream: bytes) -> list[Any]:
    carried = (sse.data(event) for event in sse.split(stream))
    return [data if data == b"[DONE]" else shape(data) for data in carried if data]


def test_a_response_is_counted(engine: LlamaServer) -> None:
    """The named events of /v1/responses carry the usage that the whole response has."""
    fields = {"input": "What is the capital of France?", "max_output_tokens": 4}
    direct = usage.of_body(ask(engine, RESPONSES, **fields)[1])
    assert direct is not None
    assert usage.in_events(ask(engine, RESPONSES, **fields, stream=True)[1]) == direct


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "What is the capital of France?"}]}),
        (TEXT, {"prompt": "The capital of France is"}),
    ],
)
def test_a_prompt_is_counted_as_in_its_answer(
    engine: LlamaServer, path: str, fields: dict[str, Any]
) -> None:
    """What the engine says when asked is what its answer's usage would have said."""
    told = usage.of_body(ask(engine, path, **fields)[1])
    replica = Replica("chat-0", "chat", Gate(5, 30.0))
    replica.host, replica.port = "127.0.0.1", engine.port
    body = json.dumps({**SAME, **fields, "stream": True}).encode()
    assert told is not None
    assert asyncio.run(prompts.count(replica, path, body)) == told.prompt
