"""
What an engine's error says: its status and body → a code of `openai_errors.FAULTS`, message, param.

Every engine has words of its own for the same few things. `openai_errors.mapped_answer` asks, and
says it in OpenAI's words; tests/gateway/test_engine_errors.py has bodies that real engines gave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

#: An engine's message is cut here: llama.cpp repeats whole tool definitions in one.
MESSAGE_LENGTH = 2000
#: What is longer is no error object, and not read.
BODY_BYTES = 256 * 1024


class Said(NamedTuple):
    """What an engine's error says. `message` is "" where it says nothing that a client may see."""

    code: str
    message: str = ""
    param: str | None = None
    #: Of a prompt that is too long, under llama.cpp's names: `n_prompt_tokens` and `n_ctx`, a batch
    #: where it must fit into one.
    counts: Mapping[str, int] = MappingProxyType({})


#: How engines say that a prompt is too long; where they say how long, and for what window.
_TOO_LONG = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # llama.cpp: tools/server/server-context.cpp
        r"\((?P<asked>\d+) tokens\) exceeds the available context size \((?P<window>\d+) tokens",
        r"exceeds the available context size",
        r"\((?P<asked>\d+) tokens\) (?:is|are) too large to process.*size: (?P<window>\d+)",
        # vLLM: renderers/params.py, entrypoints/utils.py, v1/engine/input_processor.py, and what
        # its older versions said in entrypoints/openai/serving_engine.py
        r"maximum context length is (?P<window>\d+) tokens and your request has (?P<asked>\d+)",
        r"maximum context length is \d+",
        r"passed (?P<asked>\d+) input tokens.*context length is only (?P<window>\d+)",
        r"model's context length is only \d+",
        r"length \((?P<asked>\d+)\) exceeds model's maximum context length \((?P<window>\d+)\)",
        r"prompt \(length (?P<asked>\d+)\).*than the maximum model length of (?P<window>\d+)",
        r"cannot be greater than max_model_len",
        # llama-cpp-python: llama_cpp/llama.py
        r"requested tokens \((?P<asked>\d+)\) exceed context window of (?P<window>\d+)",
    )
)
#: What a model was not loaded for, said with a 500 (llama.cpp's mtmd; llama_cpp/llama.py).
_UNSUPPORTED = re.compile(
    r"(?:image|audio|video) input is not supported|must be created with embedding=True"
)
#: The request's fault, said with a 500 (llama.cpp: common/chat.cpp).
_REQUESTS_FAULT = re.compile(r"Failed to parse (?:messages|tools)|Jinja Exception")
_NO_MODEL = re.compile(r"(?:the )?model\b.{0,300}(?:does not exist|not found)", re.IGNORECASE)
_NO_ENDPOINT = re.compile(r"|(?:file )?not found|404 page not found", re.IGNORECASE)
_CODE = re.compile(r"[a-z][a-z_]{2,63}")
_PARAM = re.compile(r"(?:Field |Expected )?'([A-Za-z_][\w.]{0,63})'")
#: Addresses of this host, and paths but for the API's own.
_ADDRESS = re.compile(
    r"\b[a-z]{2,8}://[^\s'\"<>]+"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|\blocalhost(?::\d+)?\b|\[[0-9a-f:]*::[0-9a-f:]*\](?::\d+)?"
    r"|(?<![\w.:#/<])/(?!v1/)(?:[\w.+@-]+/)+[\w.+@-]*",
    re.IGNORECASE,
)


def read(status: int, body: bytes) -> Said:
    """
    Return what an error of *status*, from 400, says.

    1. It refused the gateway's own key: nothing of that is for the client.
    2. Too long a prompt, whatever status it has. "Context size has been exceeded." is not that: it
       comes while tokens are made, and where slots share a cache it is another request's doing.
    3. What this model was not loaded for; what llama.cpp wrongly takes the blame for.
    4. Nothing is there: the model, the endpoint, or a thing of that id.
    5. A code of the engine's own, that is a word as OpenAI's are.
    6. By its status.
    """
    # 1. the key
    if status in (401, 403):
        return Said("engine_refused_key")
    fields = _fields(body)
    message, own = _message(fields.get("message")), fields.get("code")
    # 2. too long
    if status in (400, 413, 422, 500) and (counts := _counts(fields, message)) is not None:
        kept = message if "maximum context length is" in message else ""
        return Said("context_length_exceeded", kept, _param(fields, ""), counts)
    code = own if isinstance(own, str) and _CODE.fullmatch(own) else ""
    return Said(_code(status, message, code), message, _param(fields, message))


def _code(status: int, message: str, own: str) -> str:
    # 3. not loaded for it; the request's fault
    if status == 501 or (status == 500 and _UNSUPPORTED.search(message)):
        return "unsupported_operation"
    if status == 500 and _REQUESTS_FAULT.search(message):
        return "invalid_request_error"
    # 4. not there
    if status in (400, 404) and (own == "model_not_found" or _NO_MODEL.match(message)):
        return "model_not_found"
    if status == 405 or (status == 404 and _NO_ENDPOINT.fullmatch(message)):
        return "unsupported_endpoint"
    if status == 404:
        return "not_found"
    # 5. its own word
    if own:
        return own
    # 6. by its status
    named = {413: "request_too_large", 429: "rate_limit_exceeded", 503: "engine_unavailable"}
    return named.get(status) or ("engine_error" if status >= 500 else "invalid_request_error")


def _fields(body: bytes) -> Mapping[str, Any]:
    """
    Return message, type, code and param, whichever way the engine wraps them.

    OpenAI, llama.cpp and vLLM: {"error": {…}}. Older vLLM: {"object": "error", …}; its check of
    keys: {"error": "…"}. FastAPI (llama-cpp-python): {"detail": "…" or [{loc, msg, type}]}.
    """
    if len(body) > BODY_BYTES:
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"message": body.decode("utf-8", "replace")}
    if not isinstance(document, dict):
        return {"message": document}
    found = document.get("error", document.get("detail", document))
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    if isinstance(found, list):
        return _invalid_fields(found)
    return found if isinstance(found, dict) else {"message": found}


def _invalid_fields(found: list[Any]) -> Mapping[str, Any]:
    """Return the message and the first param of pydantic's list of what is wrong."""
    lines: list[str] = []
    params: list[str] = []
    for each in found:
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            place = each["loc"] if isinstance(each.get("loc"), list) else []
            words = [str(word) for word in place if isinstance(word, str | int)]
            name = ".".join(words[1:] if words[:1] == ["body"] else words)
            params.append(name)
            lines.append(f"{name}: {each['msg']}" if name else each["msg"])
    return {"message": "; ".join(lines), "param": params[0] if params else None}


def _message(said: Any) -> str:
    """Return a message as a client may see it: no addresses, no paths, no traceback, no HTML."""
    text = said.strip() if isinstance(said, str) else ""
    if text.startswith("<") or "Traceback (most recent call last)" in text:
        return ""
    text = text.encode("utf-8", "replace").decode()
    if len(text) > MESSAGE_LENGTH:
        text = f"{text[:MESSAGE_LENGTH]}..."
    return _ADDRESS.sub("[...]", text)


def _counts(fields: Mapping[str, Any], message: str) -> Mapping[str, int] | None:
    """Return the counts that a prompt's being too long comes with; None: it is not too long."""
    named = {name: fields.get(name) for name in ("n_prompt_tokens", "n_ctx")}
    counts = {name: count for name, count in named.items() if type(count) is int}
    if counts or fields.get("type") == "exceed_context_size_error":
        return counts
    for pattern in _TOO_LONG:
        if found := pattern.search(message):
            groups = found.groupdict()
            if "window" not in groups or len(groups["window"]) > 12 or len(groups["asked"]) > 12:
                return {}
            return {"n_prompt_tokens": int(groups["asked"]), "n_ctx": int(groups["window"])}
    return {} if fields.get("code") == "context_length_exceeded" else None


def _param(fields: Mapping[str, Any], message: str) -> str | None:
    """Return the parameter that an error is about; llama.cpp has it in the message only."""
    param = fields.get("param")
    if isinstance(param, str) and 0 < len(param) <= 256:
        return param.encode("utf-8", "replace").decode()
    found = _PARAM.match(message)
    return found[1] if found else None
