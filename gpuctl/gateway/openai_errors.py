"""
Every error that a client of the gateway can get, as OpenAI's error object.

`FAULTS` is the table of what the gateway itself answers; `mapped_answer` says an engine's own error
in the same words. Called with codes by whoever answers; docs/gateway.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from gpuctl.gateway import engine_errors
from gpuctl.gateway.endpoints import MODEL_NAME


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: its code is the key."""

    status: int
    type: str
    retry: bool  # x-should-retry, which the openai clients obey before the status
    message: str  # where nothing more is known
    retry_after_seconds: int | None = None  # None: no Retry-After, unless one is given


class Answer(NamedTuple):
    """A whole error answer, but for what all answers have (Date, x-request-id, Content-Length)."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    code: str  # for the log


_REQUEST, _SERVER, _BUSY = "invalid_request_error", "server_error", "overloaded_error"

#: Code → what is answered. Codes and types are OpenAI's where it has one for the case.
#: Source: https://platform.openai.com/docs/guides/error-codes; retries: openai-python,
#: _base_client.py, `_should_retry` (408, 409, 429 and all from 500 are tried again unless told).
FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        # of HTTP
        "invalid_http": Fault(400, _REQUEST, False, "This is not a proper HTTP/1.1 request."),
        "invalid_url": Fault(400, _REQUEST, False, "The request target is not a plain path."),
        "unknown_url": Fault(404, _REQUEST, False, "Unknown request URL."),
        "method_not_allowed": Fault(405, _REQUEST, False, "The method is not allowed here."),
        "request_timeout": Fault(408, _REQUEST, True, "The request did not come in time."),
        "request_too_large": Fault(413, _REQUEST, False, "The request body is too large."),
        "unsupported_media_type": Fault(415, _REQUEST, False, "The body is of a wrong type."),
        "headers_too_large": Fault(431, _REQUEST, False, "The request headers are too large."),
        # of the body
        "invalid_json": Fault(400, _REQUEST, False, "The body is not a JSON object."),
        "json_too_deep": Fault(400, _REQUEST, False, "The body is nested too deeply."),
        "invalid_multipart": Fault(400, _REQUEST, False, "The body is not a proper form."),
        "invalid_type": Fault(400, _REQUEST, False, "A parameter has a wrong type."),
        "missing_required_parameter": Fault(400, _REQUEST, False, "A parameter is missing."),
        "remote_url_not_allowed": Fault(400, _REQUEST, False, "Remote URLs are not fetched."),
        "invalid_request_error": Fault(400, _REQUEST, False, "The request is not valid."),
        "context_length_exceeded": Fault(
            400, _REQUEST, False, "The prompt is longer than the model's context."
        ),
        # A model that was loaded without this will not do it at a second try. As a 501 the openai
        # clients would try it twice more, and the gate would take it for a failing replica.
        "unsupported_operation": Fault(400, _REQUEST, False, "This model does not do that."),
        "invalid_idempotency_key": Fault(
            400, _REQUEST, False, "An Idempotency-Key is 1 to 255 visible ASCII characters."
        ),
        # Not 409, which the openai clients try again.
        "idempotency_key_reused": Fault(
            422, "idempotency_error", False, "This Idempotency-Key was used for another request."
        ),
        # of who asks
        "invalid_api_key": Fault(401, _REQUEST, False, "An API key is needed, and valid."),
        "permission_denied": Fault(
            403, "permission_error", False, "This API key is not allowed to do that."
        ),
        "rate_limit_exceeded": Fault(429, "requests", True, "Rate limit reached.", 1),
        # of what is asked for
        "model_not_found": Fault(404, _REQUEST, False, "No such model."),
        "unsupported_endpoint": Fault(
            404, _REQUEST, False, "The engine of this model does not have this endpoint."
        ),
        "not_found": Fault(404, _REQUEST, False, "There is no such thing."),
        # of the moment: the queue's own bound of waiting is over, a replica is back within seconds
        "queue_full": Fault(503, _BUSY, True, "Too many requests are waiting.", 3),
        "queue_timeout": Fault(503, _BUSY, True, "No replica was free in time.", 3),
        "too_many_bytes": Fault(503, _BUSY, True, "The bodies of requests fill all their room.", 3),
        "no_replica": Fault(503, _SERVER, True, "No replica of this model is running.", 5),
        "draining": Fault(503, _SERVER, True, "The server is shutting down.", 5),
        "upstream_failed": Fault(503, _SERVER, True, "The replicas tried have failed.", 3),
        "engine_unavailable": Fault(503, _SERVER, True, "The engine is not ready.", 3),
        # What has taken its whole time once would take it again.
        "timeout": Fault(504, _SERVER, False, "The answer took too long."),
        # After the first byte: only ever inside a stream.
        "stream_interrupted": Fault(502, _SERVER, False, "The stream broke off."),
        # Said to a client in the gateway's words: its own key is not what was refused.
        "engine_refused_key": Fault(502, _SERVER, False, "The engine refused the gateway."),
        "engine_error": Fault(500, _SERVER, False, "The engine failed at this request."),
        "internal_error": Fault(500, _SERVER, False, "The gateway failed at this request."),
    }
)

#: What an engine's own error is mapped to.
_OF_ENGINES: Final = frozenset(
    {
        "context_length_exceeded",
        "engine_refused_key",
        "engine_unavailable",
        "invalid_request_error",
        "model_not_found",
        "not_found",
        "rate_limit_exceeded",
        "request_too_large",
        "unsupported_endpoint",
        "unsupported_operation",
    }
)


def error(
    status: int,
    message: str,
    code: str,
    type: str | None = None,
    param: str | None = None,
    **more: int,
) -> bytes:
    """Return OpenAI's error object; *type* is that of the code, or of the status."""
    fault = FAULTS.get(code)
    said = type or (fault.type if fault else _SERVER if status >= 500 else _REQUEST)
    fields = {"message": message, "type": said, "param": param, "code": code, **more}
    return msgspec.json.encode({"error": fields})


def answer(code: str, message: str = "", *, param: str | None = None) -> Answer:
    """Return the whole answer for a code of FAULTS."""
    fault = FAULTS[code]
    body = error(fault.status, message or fault.message, code, fault.type, param)
    return Answer(fault.status, _headers(code), body, code)


def no_model(model: str) -> str:
    """Return OpenAI's words for a model that is not there, or not for this key."""
    # What is no name of a model is not repeated: it is the client's, and may be anything.
    name = f" `{model}`" if MODEL_NAME.fullmatch(model) else ""
    return f"The model{name} does not exist or you do not have access to it."


def _headers(code: str) -> tuple[tuple[bytes, bytes], ...]:
    fault = FAULTS[code]
    made = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if fault.retry else b"false"),
    ]
    if fault.retry_after_seconds is not None:
        made.append((b"retry-after", b"%d" % fault.retry_after_seconds))
    if fault.status == 401:
        made.append((b"www-authenticate", b"Bearer"))
    return tuple(made)


def mapped_answer(status: int, body: bytes, model: str, endpoint: str = "") -> Answer:
    """
    Return an engine's error in OpenAI's words.

    Whether a replica is to blame is to be judged by the status that is returned, not by the
    engine's own: llama.cpp says 500 and 501 of much that is the request's fault.

    Args:
        status: the engine's. A redirect is not followed, and is an error.
        model: as the client called it; the engine's own name for it may be a path.
        endpoint: its name in the route table.
    """
    status = status if 400 <= status <= 599 else 502
    said = engine_errors.read(status, body)
    default = "engine_error" if status >= 500 else "invalid_request_error"
    # A code of the engine's own is told, but never taken for one of the gateway's.
    row = said.code if said.code in _OF_ENGINES else default
    fault = FAULTS[row]
    shown = status if row == default else fault.status
    code = said.code if row == said.code or said.code not in FAULTS else row
    message = _words(said, model, endpoint) or fault.message
    made = error(shown, message, code, fault.type, said.param, **said.counts)
    return Answer(shown, _headers(row), made, code)


def _words(said: engine_errors.Said, model: str, endpoint: str) -> str:
    match said.code:
        case "context_length_exceeded":
            return said.message or _too_long(said.counts)
        case "model_not_found":
            return no_model(model)
        case "unsupported_endpoint":
            return f"The engine of this model does not have {endpoint or 'this endpoint'}."
        case _:
            return said.message


def _too_long(counts: Mapping[str, int]) -> str:
    """Return OpenAI's words, with the engine's counts where it gave both."""
    if len(counts) < 2:
        return ""
    return (
        f"This model's maximum context length is {counts['n_ctx']} tokens. However, your request "
        f"has {counts['n_prompt_tokens']} tokens. Please reduce its length."
    )
