"""
The route table: method and raw request target → Endpoint, or the Refusal of one.

`exchange` asks once a request. Targets are looked up as they came, byte for byte: nothing is
normalised, so nothing can be written in another way, and an engine gets constant paths alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

Kind = Literal["inference", "models", "operator", "pass_through"]
Body = Literal["json", "multipart", "any", "none"]

#: What a model may be called; nothing else is looked up, logged or shown.
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")

_ANY_METHOD: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
_VISIBLE_ASCII: Final = re.compile(rb"[!-~]*")
#: Encoded dots, slashes, backslashes and NUL: one server decodes them, the next does not.
_ENCODED: Final = re.compile(rb"%(?:2e|2f|5c|00)", re.IGNORECASE)
_ENCODED_IN_MODEL: Final = re.compile(rb"%(?:5c|00)", re.IGNORECASE)
_BROKEN_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOTS: Final = re.compile(rb"(?:^|/)\.{1,2}(?=/|$)")
_MODELS: Final = b"/v1/models/"


class Endpoint:
    """One thing that the gateway answers. No dataclass: it is looked at with every request."""

    __slots__ = (
        *("body", "collected", "kind", "line", "model", "name", "streams", "upstream_path"),
        "workload",
    )

    def __init__(
        self,
        *,
        name: str,
        kind: Kind,
        upstream_path: bytes,
        body: Body = "none",
        streams: bool = False,
        collected: str = "",
        workload: str = "",
        model: str = "",
    ) -> None:
        self.name = name  # as logs and metrics call it: bounded, never what the client sent
        self.kind = kind
        self.upstream_path = (
            upstream_path  # the target that goes to a replica or the operator's app
        )
        self.line = b"POST %s" % upstream_path  # method and path, of an inference
        self.body = body
        self.streams = streams  # `"stream": true` is answered by events
        self.collected = collected  # as in `Asked`: "chat" or "completion"
        self.workload = workload  # of a pass_through
        self.model = model  # of /v1/models/{id}: the id, decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a target is not answered; `code` is one of `openai_errors.FAULTS`."""

    code: str
    message: str
    allow: bytes = b""  # value of the Allow header of a 405


_INFERENCE: Final[tuple[tuple[str, Body, bool, str], ...]] = (
    ("/v1/chat/completions", "json", True, "chat"),
    ("/v1/completions", "json", True, "completion"),
    ("/v1/embeddings", "json", False, ""),
    ("/v1/responses", "json", True, ""),
    ("/v1/rerank", "json", False, ""),
    ("/v1/audio/transcriptions", "multipart", True, ""),
)
_READ: Final[tuple[tuple[str, Kind], ...]] = (
    ("/v1/models", "models"),
    ("/health", "operator"),
    ("/ready", "operator"),
    ("/readyz", "operator"),
    ("/metrics", "operator"),
    ("/admin/status", "operator"),
    ("/debug/runtime", "operator"),
    ("/openapi.json", "operator"),
)


def _exact() -> dict[bytes, dict[bytes, Endpoint]]:
    made: dict[bytes, dict[bytes, Endpoint]] = {}
    for name, body, streams, collected in _INFERENCE:
        path = name.encode()
        made[path] = {
            b"POST": Endpoint(
                name=name,
                kind="inference",
                upstream_path=path,
                body=body,
                streams=streams,
                collected=collected,
            )
        }
    for name, kind in _READ:
        path = name.encode()
        read = Endpoint(name=name, kind=kind, upstream_path=path)
        made[path] = {b"GET": read, b"HEAD": read}
    return made


#: Path → method → endpoint: everything but /v1/models/{id} and what the profile passes through.
EXACT: Final[dict[bytes, dict[bytes, Endpoint]]] = _exact()


def exact(method: bytes, target: bytes) -> Endpoint | None:
    """Return what answers a target of the table that is written as it is there."""
    methods = EXACT.get(target)
    return None if methods is None else methods.get(method)


def find(
    method: bytes, target: bytes, pass_through: Mapping[str, str] = MappingProxyType({})
) -> Endpoint | Refusal:
    """
    Return what answers *target*, a raw request target.

    1. A target of the table, as it is.
    2. One that could be read in two ways is refused, whatever it leads to.
    3. A target of the table with a query: only the operator's endpoints get to see it.
    4. One model: its id may hold slashes, written as they are or as %2F.
    5. What the profile passes through, as it is. Its paths do not nest.
    6. All else is unknown, a trailing slash too.
    """
    # 1. as it is
    methods = EXACT.get(target)
    if methods is not None:
        return methods.get(method) or _not_allowed(method, methods)
    # 2. ambiguous
    path, _, query = target.partition(b"?")
    if wrong := _ambiguous(target, path):
        return Refusal(code="invalid_url", message=f"The request target {wrong}.")
    # 3. with a query
    methods = EXACT.get(path)
    if methods is not None:
        found = methods.get(method)
        if found is None:
            return _not_allowed(method, methods)
        return _asked(found, target) if found.kind == "operator" and query else found
    # 4. one model
    if path.startswith(_MODELS) and len(path) > len(_MODELS):
        return _model(method, path)
    # 5. passed through
    for prefix, workload in pass_through.items():
        if path == prefix.encode() or path.startswith(prefix.encode() + b"/"):
            return _passed(method, target, prefix, workload)
    # 6. unknown
    return Refusal(
        code="unknown_url",
        message=f"Unknown request URL: {_shown(method)} {_shown(path)}.",
    )


def _ambiguous(target: bytes, path: bytes) -> str:
    """Return what about a target could be read in two ways, or ""."""
    if not _VISIBLE_ASCII.fullmatch(target):
        return "holds a byte that is not visible ASCII"
    if not path.startswith(b"/"):
        return "must be a path that begins with /"
    if b"\\" in target or b"#" in target:
        return "holds a backslash or a fragment"
    if _BROKEN_PERCENT.search(path):
        return "holds a broken percent-encoding"
    encoded = _ENCODED
    if path.startswith(_MODELS):
        encoded, path = _ENCODED_IN_MODEL, path.replace(b"%2F", b"/").replace(b"%2f", b"/")
    if encoded.search(path):
        return "holds an encoded dot, slash, backslash or NUL"
    if b"//" in path or _DOTS.search(unquote_to_bytes(path)):
        return "holds an empty segment or a segment of dots"
    return ""


def _model(method: bytes, path: bytes) -> Endpoint | Refusal:
    if method not in (b"GET", b"HEAD"):
        return _not_allowed(method, (b"GET", b"HEAD"))
    model = unquote_to_bytes(path[len(_MODELS) :]).decode("ascii", "replace")
    if not MODEL_NAME.fullmatch(model):
        return Refusal(code="model_not_found", message="No model has a name like this one.")
    return Endpoint(name="/v1/models/{id}", kind="models", upstream_path=path, model=model)


def _passed(method: bytes, target: bytes, prefix: str, workload: str) -> Endpoint | Refusal:
    if method not in _ANY_METHOD:
        return _not_allowed(method, _ANY_METHOD)
    return Endpoint(
        name=prefix,
        kind="pass_through",
        upstream_path=target,
        body="any",
        streams=True,
        workload=workload,
    )


def _asked(found: Endpoint, target: bytes) -> Endpoint:
    return Endpoint(name=found.name, kind=found.kind, upstream_path=target)


def _not_allowed(method: bytes, methods: Mapping[bytes, Endpoint] | tuple[bytes, ...]) -> Refusal:
    allow = b", ".join(methods)
    return Refusal(
        code="method_not_allowed",
        message=f"{_shown(method)} is not allowed here, only {allow.decode()}.",
        allow=allow,
    )


def _shown(word: bytes) -> str:
    """Return what a client sent as far as an error message repeats it."""
    text = word[:128].decode("ascii", "backslashreplace")
    return text if len(word) <= 128 else f"{text}..."
