"""What a client is told when it does not get what it asked for."""

from __future__ import annotations

import importlib
import json
from typing import Any

import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuctl.gateway.openai_errors import (
    FAULTS,
    Answer,
    answer,
    error,
    mapped_answer,
    no_model,
)

#: httpx, or what the openai client has in its place.
HTTP: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.split(".")[0])


class Gateway:
    """A real client, and what everything that it asks is answered with."""

    def __init__(self) -> None:
        transport = HTTP.MockTransport(self._answer)
        http = openai.DefaultHttpxClient(transport=transport, trust_env=False)
        self.client = openai.OpenAI(
            api_key="k", base_url="http://gateway/v1", http_client=http, max_retries=0
        )
        self.answer = answer("internal_error")

    def _answer(self, request: object) -> Any:
        headers = list(self.answer.headers)
        return HTTP.Response(self.answer.status, headers=headers, content=self.answer.body)

    def raises(self, answered: Answer) -> openai.APIStatusError:
        self.answer = answered
        with pytest.raises(openai.APIStatusError) as caught:
            self.client.models.list()
        return caught.value


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return Gateway()


@pytest.mark.parametrize("code", FAULTS)
def test_the_openai_client_understands_every_answer(gateway: Gateway, code: str) -> None:
    """The exception of the status, with code, type and message; tried again where that may help."""
    fault = FAULTS[code]
    error = gateway.raises(answer(code, param="model"))
    assert isinstance(error.body, dict)
    assert (error.status_code, error.code, error.type, error.param, error.body["message"]) == (
        fault.status,
        code,
        fault.type,
        "model",
        fault.message,
    )
    assert gateway.client._should_retry(error.response) is fault.retry


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        pytest.param("context_length_exceeded", openai.BadRequestError, id="400"),
        pytest.param("invalid_api_key", openai.AuthenticationError, id="401"),
        pytest.param("permission_denied", openai.PermissionDeniedError, id="403"),
        pytest.param("model_not_found", openai.NotFoundError, id="404"),
        pytest.param("idempotency_key_reused", openai.UnprocessableEntityError, id="422"),
        pytest.param("rate_limit_exceeded", openai.RateLimitError, id="429"),
        pytest.param("queue_full", openai.InternalServerError, id="503"),
    ],
)
def test_the_client_raises_what_applications_catch(
    gateway: Gateway, code: str, kind: type[Exception]
) -> None:
    """Applications catch by class."""
    assert type(gateway.raises(answer(code))) is kind


def test_every_refusal_for_want_of_room_says_when_to_come_back() -> None:
    """A 503 and a 429 have a Retry-After, which no client is too impatient for."""
    for code, fault in FAULTS.items():
        if fault.status in (429, 503):
            assert fault.retry, code
            assert fault.retry_after_seconds is not None, code
            assert 0 < fault.retry_after_seconds <= 120, code


def test_a_whole_answer() -> None:
    """Status, headers and OpenAI's error object."""
    assert answer("queue_full") == Answer(
        503,
        (
            (b"content-type", b"application/json"),
            (b"x-should-retry", b"true"),
            (b"retry-after", b"3"),
        ),
        b'{"error":{"message":"Too many requests are waiting.","type":"overloaded_error",'
        b'"param":null,"code":"queue_full"}}',
        "queue_full",
    )


def test_an_answer_of_other_words() -> None:
    """What is known better than the table says it."""
    assert answer(
        "rate_limit_exceeded",
        "Limit of tokens reached.",
        param="max_tokens",
    ) == Answer(
        429,
        (
            (b"content-type", b"application/json"),
            (b"x-should-retry", b"true"),
            (b"retry-after", b"1"),
        ),
        b'{"error":{"message":"Limit of tokens reached.","type":"requests","param":"max_tokens",'
        b'"code":"rate_limit_exceeded"}}',
        "rate_limit_exceeded",
    )


def test_who_has_no_key_is_asked_for_one() -> None:
    """A 401 names the scheme, as HTTP wants it."""
    assert (b"www-authenticate", b"Bearer") in answer("invalid_api_key").headers


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(
            "meta/Llama:8B",
            "The model `meta/Llama:8B` does not exist or you do not have access to it.",
            id="a name",
        ),
        pytest.param(
            "a\nb", "The model does not exist or you do not have access to it.", id="no name"
        ),
    ],
)
def test_no_such_model(model: str, words: str) -> None:
    """What could not be a model's name is not repeated."""
    assert no_model(model) == words


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        pytest.param(400, "odd", "invalid_request_error", id="4xx"),
        pytest.param(500, "odd", "server_error", id="5xx"),
        pytest.param(429, "rate_limit_exceeded", "requests", id="of the table"),
    ],
)
def test_a_type_fits_the_code_or_the_status(status: int, code: str, kind: str) -> None:
    """A code that is not in the table gets the type of its status."""
    assert json.loads(error(status, "no", code)) == {
        "error": {"message": "no", "type": kind, "param": None, "code": code}
    }


def said(
    message: str, code: str, kind: str = "invalid_request_error", **more: Any
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


LOADING = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'


@pytest.mark.parametrize(
    ("status", "body", "expected_status", "expected"),
    [
        pytest.param(
            400,
            b'{"error":{"code":400,"message":"request (731 tokens) exceeds the available context '
            b'size (512 tokens), try increasing it","type":"exceed_context_size_error",'
            b'"n_prompt_tokens":731,"n_ctx":512}}',
            400,
            said(
                "This model's maximum context length is 512 tokens. However, your request has 731 "
                "tokens. Please reduce its length.",
                "context_length_exceeded",
                n_prompt_tokens=731,
                n_ctx=512,
            ),
            id="too long, with llama.cpp's counts",
        ),
        pytest.param(
            400,
            b'{"message":"model\'s context length is only 9 tokens"}',
            400,
            said("The prompt is longer than the model's context.", "context_length_exceeded"),
            id="too long, without",
        ),
        pytest.param(
            400,
            b'{"message":"This model\'s maximum context length is 9 tokens."}',
            400,
            said("This model's maximum context length is 9 tokens.", "context_length_exceeded"),
            id="too long, in OpenAI's words",
        ),
        pytest.param(
            501,
            b'{"error":{"code":501,"message":"This server does not support embeddings.","type":'
            b'"not_supported_error"}}',
            400,
            said("This server does not support embeddings.", "unsupported_operation"),
            id="501: the request's fault, and not to be tried again",
        ),
        pytest.param(
            500,
            b'{"error":{"code":500,"message":"Failed to parse tools: x","type":"server_error"}}',
            400,
            said("Failed to parse tools: x", "invalid_request_error"),
            id="500: the request's fault",
        ),
        pytest.param(
            500,
            b"",
            500,
            said("The engine failed at this request.", "engine_error", "server_error"),
            id="500",
        ),
        pytest.param(
            400,
            b'{"error":{"message":"no","code":400,"param":null}}',
            400,
            said("no", "invalid_request_error"),
            id="a code of a number",
        ),
        pytest.param(
            422,
            b'{"detail":[{"loc":["body","model"],"msg":"Field required"}]}',
            422,
            said("model: Field required", "invalid_request_error", param="model"),
            id="422 stays what it is bare",
        ),
        pytest.param(
            400,
            b'{"error":{"message":"no","code":"content_filter"}}',
            400,
            said("no", "content_filter"),
            id="a code of the engine's own",
        ),
        pytest.param(
            500,
            b'{"error":{"message":"no","code":"draining"}}',
            500,
            said("no", "engine_error", "server_error"),
            id="a code that only the gateway may say",
        ),
        pytest.param(
            404,
            b'{"detail":"Not Found"}',
            404,
            said("The engine of this model does not have /v1/responses.", "unsupported_endpoint"),
            id="no such endpoint",
        ),
        pytest.param(
            404,
            b'{"error":{"message":"The model `/models/a` does not exist."}}',
            404,
            said(
                "The model `chat` does not exist or you do not have access to it.",
                "model_not_found",
            ),
            id="no such model, by the name the client knows",
        ),
        pytest.param(
            401,
            b'{"error":"Unauthorized: secret"}',
            502,
            said("The engine refused the gateway.", "engine_refused_key", "server_error"),
            id="the gateway's own key",
        ),
        pytest.param(
            503,
            LOADING,
            503,
            said("Loading model", "engine_unavailable", "server_error"),
            id="loading",
        ),
        pytest.param(
            429, b"", 429, said("Rate limit reached.", "rate_limit_exceeded", "requests"), id="429"
        ),
        pytest.param(
            302,
            b"",
            502,
            said("The engine failed at this request.", "engine_error", "server_error"),
            id="a redirect is not followed",
        ),
    ],
)
def test_an_engines_error_in_openais_words(
    status: int, body: bytes, expected_status: int, expected: dict[str, Any]
) -> None:
    """One vocabulary, whichever engine is behind."""
    made, _, document, _ = mapped_answer(status, body, "chat", "/v1/responses")
    assert (made, json.loads(document)) == (expected_status, expected)


def test_an_endpoint_without_a_name() -> None:
    """Where it is not told, the sentence does without."""
    assert json.loads(mapped_answer(404, b"", "chat").body) == said(
        "The engine of this model does not have this endpoint.", "unsupported_endpoint"
    )


def test_an_engines_error_has_the_headers_of_its_row() -> None:
    """An engine that loads is asked again; what it cannot do is not."""
    assert mapped_answer(503, LOADING, "chat").headers == answer("engine_unavailable").headers
    assert mapped_answer(501, b"", "chat").headers == answer("unsupported_operation").headers
    own = mapped_answer(400, b'{"code":"content_filter"}', "chat")
    assert (own.headers, own.code) == (answer("invalid_request_error").headers, "content_filter")


@given(
    status=st.integers(0, 999),
    body=st.binary(max_size=200),
    model=st.text(max_size=20),
)
@example(status=404, body=b"", model="\ud800")
@example(status=400, body=b'{"error":{"message":"\xed\xa0\x80"}}', model="")
def test_any_engine_gets_a_proper_answer(status: int, body: bytes, model: str) -> None:
    """Whatever an engine says, the client gets an error status and OpenAI's object."""
    made = mapped_answer(status, body, model)
    found = json.loads(made.body)["error"]
    assert 400 <= made.status <= 599
    assert found["code"] == made.code
    assert found["message"]
    assert found["type"] in {fault.type for fault in FAULTS.values()}
