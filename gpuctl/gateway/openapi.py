"""
The OpenAPI document of what a gateway serves: what `/openapi.json` answers. PURE.

It says what the gateway itself asks of a request and no more: whatever else a body holds is the
engine's to judge. So a schema here is true of every engine, and a tool may test a gateway by it.
Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpuctl.gateway import endpoints
from gpuctl.gateway.families import CONTENT_TYPE
from gpuctl.gateway.gauges import LEVELS

Json = dict[str, Any]

_DESCRIPTION = """\
One OpenAI-compatible endpoint in front of every replica of this host.

Fields that are not described go to the engine as they are, but for `api_base`, `base_url` and
`user_config`, which are left out. Remote URLs in a prompt are not fetched.

Every request may carry `x-request-id` (up to 128 letters, digits and `._:-`), which is answered
and logged; `x-session-id`, which keeps a conversation on one replica; `x-gpuctl-priority` (0 to
100), which with a key can only lower its place in the queue; and `Idempotency-Key` (1 to 255
visible ASCII characters): a request that is sent again with the same key and body gets the same
answer for ten minutes."""

_SUMMARIES = {
    "/v1/chat/completions": "Continue a conversation",
    "/v1/completions": "Continue a text",
    "/v1/embeddings": "Make vectors of texts",
    "/v1/responses": "Make a response",
    "/v1/rerank": "Order documents by a query",
    "/v1/audio/transcriptions": "Write down what is said",
    "/v1/models": "List the models",
    "/v1/models/{id}": "Look at one model",
    "/health": "Whether the gateway is alive, and how many replicas are well",
    "/ready": "Whether requests are answered",
    "/readyz": "Whether requests are answered",
    "/metrics": "Everything that is counted, for Prometheus",
    "/admin/status": "Everything that an operator may want to know",
    "/debug/runtime": "The process itself",
    "/openapi.json": "This document",
}

#: Status → what it says. Each has the same body.
_ERRORS = {
    400: "The request is wrong: its body, a parameter, its target, or it is too long for the model",
    401: "An API key is missing, or does not hold",
    403: "The API key is not for this",
    404: "There is no such model, or no such endpoint",
    405: "The method is not allowed; `Allow` names those that are",
    408: "The request did not come in time",
    413: "The body is too large",
    415: "The body is of a wrong type",
    422: "The Idempotency-Key was used for another request",
    429: "A limit of the key or of the address is reached",
    431: "The headers are too large",
    500: "The engine or the gateway failed at this request",
    502: "The engine refused the gateway",
    503: "No replica can answer: the queue is full or slow, none runs, or all that were tried fail",
    504: "The answer took too long",
}
#: Those that any request may get; the rest belongs to what goes to an engine.
_ANY = (400, 401, 403, 404, 405, 408, 413, 429, 431, 500, 502, 503, 504)
_INFERENCE = tuple(_ERRORS)

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_MODEL: Json = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "parent": {"type": "string", "description": "Of an alias: the model's own name"},
    },
}
_MODELS: Json = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    },
}
_COUNT: Json = {"type": "integer", "minimum": 0}
_HEALTH: Json = {
    "type": "object",
    "required": ["status", "draining", "replicas", "gates"],
    "properties": {
        "status": {"enum": ["ok", "degraded"]},
        "draining": {"type": "boolean"},
        "replicas": {"type": "object", "additionalProperties": _COUNT},
        "gates": {"type": "object", "additionalProperties": _COUNT},
        "by_replica": {"type": "object", "description": "For an admin's key"},
    },
}
_READINESS: Json = {
    "type": "object",
    "required": ["ready", "level", "levels"],
    "properties": {
        "ready": {"type": "boolean"},
        "level": {"enum": list(LEVELS)},
        "levels": {"type": "object", "additionalProperties": {"type": "boolean"}},
    },
}
_ASK: Json = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
        },
    },
    "additionalProperties": True,
}
_FORM: Json = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "minLength": 1, "maxLength": 64},
        "file": {"type": "string", "format": "binary"},
    },
    "additionalProperties": True,
}
_OBJECT: Json = {"type": "object"}

#: Segments of a model's name: no name of dots alone, none that is empty.
_NAME = r"^[A-Za-z0-9_-]+([.:/][A-Za-z0-9_-]+)*$"
_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A slash may be written as it is, or as %2F",
    "schema": {"type": "string", "maxLength": 128, "pattern": _NAME},
}
_LEVEL: Json = {
    "name": "level",
    "in": "query",
    "description": "How ready it must be to be answered with 200",
    "schema": {"enum": list(LEVELS), "default": "one"},
}
_OPEN = ("/health", "/ready", "/readyz", "/openapi.json")
_READ: Mapping[str, Json] = {
    "/v1/models": {"application/json": {"schema": {"$ref": "#/components/schemas/Models"}}},
    "/v1/models/{id}": {"application/json": {"schema": {"$ref": "#/components/schemas/Model"}}},
    "/health": {"application/json": {"schema": _HEALTH}},
    "/ready": {"application/json": {"schema": _READINESS}},
    "/readyz": {"application/json": {"schema": _READINESS}},
    "/metrics": {CONTENT_TYPE: {"schema": {"type": "string"}}},
    "/admin/status": {"application/json": {"schema": _OBJECT}},
    "/debug/runtime": {"application/json": {"schema": _OBJECT}},
    "/openapi.json": {"application/json": {"schema": _OBJECT}},
}
_ANY_TYPE: Json = {"*/*": {}}


def document(*, version: str, keys: bool, metrics_key: bool, pass_through: Iterable[str]) -> Json:
    """
    Return the document.

    Args:
        version: gpuctl's.
        keys: whether there are API keys: without any, everybody is let in.
        metrics_key: whether /metrics asks for one as well.
        pass_through: the paths of the profile. It is shown without a key: whatever stands behind
            them has no name here.
    """
    open_paths = (*_OPEN, *(() if metrics_key else ("/metrics",)))
    paths: dict[str, Json] = {}
    for path, methods in endpoints.EXACT.items():
        found = methods.get(b"POST")
        name = path.decode()
        paths[name] = _read(name) if found is None else {"post": _infer(found)}
    paths["/v1/models/{id}"] = {"parameters": [_ID], **_read("/v1/models/{id}")}
    paths |= {path: _passed(path) for path in pass_through}
    for path in open_paths:
        for method in ("get", "head"):
            paths[path][method]["security"] = []
    return {
        "openapi": "3.1.0",
        "info": {"title": "gpuctl", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "security": [{"bearer": []}, {"key": []}] if keys else [],
        "components": {
            "schemas": {"Error": _ERROR, "Model": _MODEL, "Models": _MODELS},
            "responses": {f"Error{status}": _error(status) for status in _ERRORS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _infer(endpoint: endpoints.Endpoint) -> Json:
    """Return the operation of one that an engine answers."""
    form = endpoint.body == "multipart"
    content = (
        {"multipart/form-data": {"schema": _FORM}}
        if form
        else {"application/json": {"schema": _ASK}}
    )
    # A transcription may be asked for as text, as subtitles or as JSON.
    answer: Json = {"*/*": {}} if form else {"application/json": {"schema": _OBJECT}}
    if endpoint.streams and not form:
        # What a schema beside it would be of, an event or all of them, tools do not agree on.
        answer["text/event-stream"] = {}
    return {
        "summary": _SUMMARIES[endpoint.name],
        "operationId": _id("post", endpoint.name),
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _answer(answer, engine=True), **_refs(_INFERENCE), **_other()},
    }


def _read(path: str) -> Json:
    """Return the operations of one that the gateway answers itself."""
    made: Json = {}
    for method in ("get", "head"):
        content = _READ[path] if method == "get" else {}
        answers: Json = {"200": _answer(content), **_refs(_ANY)}
        if path in ("/ready", "/readyz"):
            answers["503"] = _unready(content)
            made.setdefault("parameters", [_LEVEL])
        if method == "head":
            answers = {status: _headless(answer) for status, answer in answers.items()}
        made[method] = {
            "summary": _SUMMARIES[path],
            "operationId": _id(method, path),
            "responses": answers,
        }
    return made


def _passed(path: str) -> Json:
    """Return the operations of what is passed on, whatever it is."""
    operation = {
        "summary": "Passed on, with every path below",
        "responses": {"default": {"description": "As that answers", "content": _ANY_TYPE}},
    }
    methods = ("get", "head", "post", "put", "patch", "delete", "options")
    return {method: {**operation, "operationId": _id(method, path)} for method in methods}


def _answer(content: Json, *, engine: bool = False) -> Json:
    headers: Json = {"x-request-id": {"schema": {"type": "string"}}}
    if engine:
        for name in ("x-gpuctl-replica", "server-timing", "openai-processing-ms"):
            headers[name] = {"schema": {"type": "string"}}
        for name in ("limit", "remaining", "reset"):
            for what in ("requests", "tokens"):
                headers[f"x-ratelimit-{name}-{what}"] = {"schema": {"type": "string"}}
    made: Json = {"description": "The answer", "headers": headers}
    return {**made, "content": content} if content else made


def _unready(content: Json) -> Json:
    """Return the 503 of a readiness: the same document, or an error where nobody looked."""
    schema = {"anyOf": [_READINESS, {"$ref": "#/components/schemas/Error"}]}
    made: Json = {"description": "Not as ready as was asked"}
    return {**made, "content": {"application/json": {"schema": schema}}} if content else made


def _error(status: int) -> Json:
    headers: Json = {"x-should-retry": {"schema": {"enum": ["true", "false"]}}}
    if status in (429, 503):
        headers["retry-after"] = {"schema": {"type": "string"}}
    if status == 401:
        headers["www-authenticate"] = {"schema": {"type": "string"}}
    if status == 405:
        headers["allow"] = {"required": True, "schema": {"type": "string"}}
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }


def _other() -> Json:
    """Return what an engine alone may refuse with."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    told = {"description": "As the engine says it, in the same words", "content": content}
    return {"4XX": told, "5XX": told}


def _refs(statuses: Iterable[int]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in statuses}


def _headless(answer: Json) -> Json:
    """Return the same answer to a HEAD, which has no body."""
    found = answer.get("$ref", "").rpartition("Error")[2]
    return {"description": _ERRORS[int(found)] if found else answer["description"]}


def _id(method: str, path: str) -> str:
    words = path.replace("{", "").replace("}", "").replace(".", "/").replace("_", "/").split("/")
    return method + "".join(word[:1].upper() + word[1:] for word in words if word)
