"""What engines' errors say: bodies that real engines gave, and what is made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuctl.gateway.engine_errors import BODY_BYTES, MESSAGE_LENGTH, Said, read
from gpuctl.gateway.openai_errors import FAULTS


def llama(code: int, kind: str, message: str, **more: int) -> bytes:
    return json.dumps(
        {"error": {"code": code, "message": message, "type": kind, **more}}, separators=(",", ":")
    ).encode()


def vllm(code: int, message: str, param: str | None = None) -> bytes:
    kind = "BadRequestError" if code == 400 else "NotFoundError"
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}
    ).encode()


#: Recorded from llama.cpp's own server (xllamacpp 2026.10.11549) with SmolLM2-135M on a CPU.
LLAMA_CPP = [
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"request (731 tokens) exceeds the available context size '
        b'(512 tokens), try increasing it","type":"exceed_context_size_error",'
        b'"n_prompt_tokens":731,"n_ctx":512}}',
        Said("context_length_exceeded", counts={"n_prompt_tokens": 731, "n_ctx": 512}),
        id="too long a prompt",
    ),
    pytest.param(
        500,
        b'{"error":{"code":500,"message":"input (701 tokens) is too large to process. increase the '
        b'physical batch size (current batch size: 512)","type":"server_error"}}',
        Said("context_length_exceeded", counts={"n_prompt_tokens": 701, "n_ctx": 512}),
        id="too long an input to embed",
    ),
    pytest.param(
        501,
        b'{"error":{"code":501,"message":"This server does not support embeddings. Start it with '
        b'`--embeddings`","type":"not_supported_error"}}',
        Said(
            "unsupported_operation",
            "This server does not support embeddings. Start it with `--embeddings`",
        ),
        id="embeddings not enabled",
    ),
    pytest.param(
        501,
        b'{"error":{"code":501,"message":"The current model does not support audio input.","type":'
        b'"not_supported_error"}}',
        Said("unsupported_operation", "The current model does not support audio input."),
        id="transcription",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"Pooling type \'none\' is not OAI compatible. Please use '
        b'a different pooling type","type":"invalid_request_error"}}',
        Said(
            "invalid_request_error",
            "Pooling type 'none' is not OAI compatible. Please use a different pooling type",
        ),
        id="pooling",
    ),
    pytest.param(
        404,
        b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}',
        Said("unsupported_endpoint", "File Not Found"),
        id="no such endpoint",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"\'messages\' is required","type":'
        b'"invalid_request_error"}}',
        Said("invalid_request_error", "'messages' is required", "messages"),
        id="no messages",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"Expected \'messages\' to be an array","type":'
        b'"invalid_request_error"}}',
        Said("invalid_request_error", "Expected 'messages' to be an array", "messages"),
        id="messages of no list",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"Field \'temperature\': [json.exception.type_error.302] '
        b'type must be number, but is string","type":"invalid_request_error"}}',
        Said(
            "invalid_request_error",
            "Field 'temperature': [json.exception.type_error.302] type must be number, but is "
            "string",
            "temperature",
        ),
        id="a field of a wrong type",
    ),
    pytest.param(
        500,
        b'{"error":{"code":500,"message":"image input is not supported - hint: if this is '
        b'unexpected, you may need to provide the mmproj","type":"server_error"}}',
        Said(
            "unsupported_operation",
            "image input is not supported - hint: if this is unexpected, you may need to provide "
            "the mmproj",
        ),
        id="an image for a model of text",
    ),
    pytest.param(
        500,
        b'{"error":{"code":500,"message":"Failed to parse tools: Expected \'tools\' to be an '
        b'array, got \\"x\\"; tools = \\"x\\"","type":"server_error"}}',
        Said(
            "invalid_request_error",
            'Failed to parse tools: Expected \'tools\' to be an array, got "x"; tools = "x"',
        ),
        id="tools of no list",
    ),
    pytest.param(
        500,
        b'{"error":{"code":500,"message":"Failed to parse messages: Missing tool call type: '
        b'\\"x\\"","type":"server_error"}}',
        Said("invalid_request_error", 'Failed to parse messages: Missing tool call type: "x"'),
        id="a broken tool call",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"llama.cpp does not support \'previous_response_id\'.",'
        b'"type":"invalid_request_error"}}',
        Said("invalid_request_error", "llama.cpp does not support 'previous_response_id'."),
        id="a response of before",
    ),
]
#: As its source has them (tools/server).
UNRECORDED = [
    pytest.param(
        503,
        b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
        Said("engine_unavailable", "Loading model"),
        id="loading",
    ),
    pytest.param(
        500,
        b'{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}',
        Said("engine_error", "Context size has been exceeded."),
        id="no room left while tokens are made: others' doing",
    ),
    pytest.param(
        401,
        b'{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}',
        Said("engine_refused_key"),
        id="the gateway's own key",
    ),
    pytest.param(
        400,
        b'{"error":{"code":400,"message":"model \'x\' not found","type":"invalid_request_error"}}',
        Said("model_not_found", "model 'x' not found"),
        id="a router's unknown model",
    ),
]


@pytest.mark.parametrize(("status", "body", "expected"), [*LLAMA_CPP, *UNRECORDED])
def test_llama_cpp(status: int, body: bytes, expected: Said) -> None:
    """What is the request's fault is told from what is the engine's, whatever status it has."""
    assert read(status, body) == expected


@pytest.mark.parametrize(
    ("message", "kept", "counts"),
    [
        pytest.param(
            "This model's maximum context length is 2048 tokens. However, you requested 2100 "
            "tokens (2000 in the messages, 100 in the completion). Please reduce the length of "
            "the messages or completion.",
            True,
            {},
            id="requested tokens",
        ),
        pytest.param(
            "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum "
            "context length is 4096 tokens and your request has 2778 input tokens (8000 > 4096 - "
            "2778).",
            True,
            {"n_prompt_tokens": 2778, "n_ctx": 4096},
            id="max_tokens too large",
        ),
        pytest.param(
            "This model's maximum context length is 16384 tokens. However, you requested 8192 "
            "output tokens and your prompt contains at least 8193 input tokens, for a total of at "
            "least 16385 tokens.",
            True,
            {},
            id="requested output tokens",
        ),
        pytest.param(
            "You passed 2049 input tokens and requested 16 output tokens. However, the model's "
            "context length is only 2048 tokens, resulting in a maximum input length of 2032 "
            "tokens. Please reduce the length of the input prompt.",
            False,
            {"n_prompt_tokens": 2049, "n_ctx": 2048},
            id="passed tokens",
        ),
        pytest.param(
            "You passed 99999 input characters and requested 16 output tokens. However, the "
            "model's context length is only 2048 tokens, resulting in a maximum input length of "
            "2032 tokens (at most 9000 characters). Please reduce the length of the input prompt.",
            False,
            {},
            id="passed characters",
        ),
        pytest.param(
            "The decoder prompt (length 12324) is longer than the maximum model length of 8192. "
            "Make sure that `max_model_len` is no smaller than the number of text tokens.",
            False,
            {"n_prompt_tokens": 12324, "n_ctx": 8192},
            id="prompt",
        ),
        pytest.param(
            "The decoder prompt (length 2048) plus the number of requested output tokens (at least "
            "1) is longer than the maximum model length of 2048.",
            False,
            {"n_prompt_tokens": 2048, "n_ctx": 2048},
            id="prompt and one token",
        ),
        pytest.param(
            "Input length (5000) exceeds model's maximum context length (4096).",
            False,
            {"n_prompt_tokens": 5000, "n_ctx": 4096},
            id="input length",
        ),
        pytest.param(
            "max_tokens=9000cannot be greater than max_model_len=max_total_tokens=4096. Please "
            "request fewer output tokens.",
            False,
            {},
            id="max_tokens alone",
        ),
    ],
)
def test_vllm_says_that_a_prompt_is_too_long(
    message: str, kept: bool, counts: dict[str, int]
) -> None:
    """
    Each wording that vLLM has had is known; those that are OpenAI's own are kept.

    Source: vllm/renderers/params.py, entrypoints/utils.py, v1/engine/input_processor.py,
    entrypoints/openai/serving_engine.py; reports of users.
    """
    expected = Said("context_length_exceeded", message if kept else "", counts=counts)
    assert read(400, vllm(400, message)) == expected


def test_a_count_that_is_no_count_is_left_out() -> None:
    """A number of a thousand digits is not repeated."""
    message = f"Input length ({'9' * 1000}) exceeds model's maximum context length (1)."
    assert read(400, vllm(400, message)) == Said("context_length_exceeded")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(
            404,
            vllm(404, "The model `x` does not exist.", "model"),
            Said("model_not_found", "The model `x` does not exist.", "model"),
            id="vLLM: model",
        ),
        pytest.param(
            404,
            vllm(404, "Response with id 'resp_1' not found."),
            Said("not_found", "Response with id 'resp_1' not found."),
            id="vLLM: a thing of that id",
        ),
        pytest.param(
            400,
            b'{"object":"error","message":"top_p must be in (0, 1], got 7.0.","type":'
            b'"BadRequestError","param":"top_p","code":400}',
            Said("invalid_request_error", "top_p must be in (0, 1], got 7.0.", "top_p"),
            id="vLLM, not wrapped",
        ),
        pytest.param(
            401, b'{"error":"Unauthorized"}', Said("engine_refused_key"), id="vLLM: its key"
        ),
        pytest.param(
            400, b'{"error":"no"}', Said("invalid_request_error", "no"), id="an error of one text"
        ),
        pytest.param(
            400,
            b'{"error":{"message":"This model\'s maximum context length is 512 tokens. However, '
            b"you requested 744 tokens (728 in the messages, 16 in the completion). Please reduce "
            b'the length of the messages or completion.","type":"invalid_request_error","param":'
            b'"messages","code":"context_length_exceeded"}}',
            Said(
                "context_length_exceeded",
                "This model's maximum context length is 512 tokens. However, you requested 744 "
                "tokens (728 in the messages, 16 in the completion). Please reduce the length of "
                "the messages or completion.",
                "messages",
            ),
            id="llama-cpp-python: too long",
        ),
        pytest.param(
            500,
            b'{"error":{"message":"Requested tokens (728) exceed context window of 512","type":'
            b'"internal_server_error","param":null,"code":null}}',
            Said("context_length_exceeded", counts={"n_prompt_tokens": 728, "n_ctx": 512}),
            id="llama-cpp-python: too long to embed",
        ),
        pytest.param(
            500,
            b'{"error":{"message":"Llama model must be created with embedding=True to call this '
            b'method","type":"internal_server_error","param":null,"code":null}}',
            Said(
                "unsupported_operation",
                "Llama model must be created with embedding=True to call this method",
            ),
            id="llama-cpp-python: embeddings",
        ),
        pytest.param(
            400,
            b'{"error":{"message":"The model `/models/a.gguf` does not exist","type":'
            b'"invalid_request_error","param":null,"code":"model_not_found"}}',
            Said("model_not_found", "The model `[...]` does not exist"),
            id="llama-cpp-python: a model by its path",
        ),
        pytest.param(
            500,
            b'{"error":{"message":"list index out of range","type":"internal_server_error","param":'
            b'null,"code":null}}',
            Said("engine_error", "list index out of range"),
            id="llama-cpp-python: a bug",
        ),
        pytest.param(
            404, b'{"detail":"Not Found"}', Said("unsupported_endpoint", "Not Found"), id="FastAPI"
        ),
        pytest.param(
            405,
            b'{"detail":"Method Not Allowed"}',
            Said("unsupported_endpoint", "Method Not Allowed"),
            id="FastAPI: another method",
        ),
        pytest.param(
            422,
            b'{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required",'
            b'"input":{}},{"type":"x","loc":["body","tools",0,"type"],"msg":"Wrong"},{"msg":"Odd"},'
            b'{"loc":["query"]},"x"]}',
            Said(
                "invalid_request_error",
                "messages: Field required; tools.0.type: Wrong; Odd",
                "messages",
            ),
            id="FastAPI: fields",
        ),
        pytest.param(422, b'{"detail":[]}', Said("invalid_request_error"), id="FastAPI: nothing"),
        pytest.param(
            400,
            b'{"detail":{"error":{"message":"no","code":"bad_thing"}}}',
            Said("bad_thing", "no"),
            id="an error within a detail, with a code of its own",
        ),
        pytest.param(429, b"", Said("rate_limit_exceeded"), id="busy"),
        pytest.param(413, b"too big", Said("request_too_large", "too big"), id="plain text"),
        pytest.param(500, b"", Said("engine_error"), id="empty"),
        pytest.param(404, b"", Said("unsupported_endpoint"), id="empty 404"),
        pytest.param(
            404,
            b"404 page not found\n",
            Said("unsupported_endpoint", "404 page not found"),
            id="Go",
        ),
        pytest.param(
            502, b"<html><h1>502 Bad Gateway</h1></html>", Said("engine_error"), id="HTML"
        ),
        pytest.param(400, b'"no"', Said("invalid_request_error", "no"), id="a JSON text"),
        pytest.param(400, b"[1]", Said("invalid_request_error"), id="a JSON list"),
        pytest.param(400, b"{}", Said("invalid_request_error"), id="an empty object"),
        pytest.param(400, b"\xff\xfe", Said("invalid_request_error", "��"), id="no UTF-8"),
        pytest.param(
            400, b"[" * 5000, Said("invalid_request_error", "[" * 2000 + "..."), id="deep"
        ),
        pytest.param(
            500, b'"%s"' % (b"x" * BODY_BYTES), Said("engine_error"), id="too large to be read"
        ),
        pytest.param(
            400,
            llama(400, "exceed_context_size_error", "no"),
            Said("context_length_exceeded"),
            id="type",
        ),
        pytest.param(
            400,
            b'{"error":{"code":"context_length_exceeded","message":"no"}}',
            Said("context_length_exceeded"),
            id="code",
        ),
        pytest.param(
            400,
            b'{"error":{"code":"No Code!","message":"no"}}',
            Said("invalid_request_error", "no"),
            id="odd",
        ),
        pytest.param(
            400,
            b'{"error":{"message":"no","param":""}}',
            Said("invalid_request_error", "no"),
            id="param",
        ),
    ],
)
def test_the_others(status: int, body: bytes, expected: Said) -> None:
    """However an error is wrapped, what it says is found."""
    assert read(status, body) == expected


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        pytest.param("open /models/a/b.gguf failed", "open [...] failed", id="path"),
        pytest.param("'/root/.cache/x'", "'[...]'", id="quoted path"),
        pytest.param("to http://10.0.0.7:8080/v1", "to [...]", id="URL"),
        pytest.param("10.0.0.7:8080 and 10.0.0.7", "[...] and [...]", id="addresses"),
        pytest.param("localhost:81, [::1]:80", "[...], [...]", id="this host"),
        pytest.param("input/output and 1/2", "input/output and 1/2", id="no path"),
        pytest.param("POST /v1/chat/completions", "POST /v1/chat/completions", id="the API's"),
        pytest.param("schema error at #/a/b", "schema error at #/a/b", id="JSON pointer"),
        pytest.param("version 0.15.1", "version 0.15.1", id="version"),
        pytest.param('Traceback (most recent call last):\n  File "x"', "", id="traceback"),
        pytest.param("x" * 3000, "x" * MESSAGE_LENGTH + "...", id="long"),
    ],
)
def test_nothing_of_the_host_is_shown(message: str, shown: str) -> None:
    """Addresses, paths and tracebacks stay here."""
    assert read(400, vllm(400, message)) == Said("invalid_request_error", shown)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "code", "param", "type", "loc", "msg"])
            | st.sampled_from(["n_ctx", "n_prompt_tokens"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(status=st.integers(400, 599), body=st.binary(max_size=200))
@example(status=400, body=b'{"error":{"n_ctx":true}}')
def test_any_bytes_say_something(status: int, body: bytes) -> None:
    """Nothing that an engine answers raises, and every code is one of the table or its own."""
    said = read(status, body)
    assert said.code in FAULTS or said.code.replace("_", "").isalpha()
    assert len(said.message) <= MESSAGE_LENGTH + 3


@given(status=st.integers(400, 599), document=_JSON)
def test_any_document_says_something(status: int, document: Any) -> None:
    """Whatever stands where, types are looked at before values are used."""
    said = read(status, json.dumps({"error": document}).encode())
    assert all(type(count) is int for count in said.counts.values())
    assert said.param is None or said.param
