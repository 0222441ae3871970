"""
What routing needs of a multipart/form-data body: its fields `model` and `stream`.

`front` asks for audio. Files are skipped, never copied; the body goes upstream as it came, but for
the model's own name in place of an alias.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gpuctl.gateway.bodies import Ask, BadRequest

#: A form of the audio API has about ten fields.
MOST_PARTS = 64
_HEAD_BYTES = 4096  # of a part: three short headers
_VALUE_BYTES = 256  # of a field that is looked at

_FORM = re.compile(rb"multipart/form-data[ \t]*;", re.IGNORECASE)
#: 1 to 70 characters that do not end in a space; quoted where one is not of a token.
#: Source: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(
    rb";[ \t]*boundary=(?:"
    rb"\"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\""
    rb"|([0-9A-Za-z'+_./:=-]{1,70})(?=[ \t;]|$))",
    re.IGNORECASE,
)
_DISPOSITION = re.compile(rb"(?:^|\r\n)content-disposition:[ \t]*form-data[ \t]*;([^\r\n]*)", re.I)
_NAME = re.compile(rb'(?:^|;)[ \t]*name="([^"\r\n]*)"', re.IGNORECASE)
#: As pydantic reads a bool: FastAPI's servers read a form with it.
_TRUE = frozenset({b"true", b"1", b"on", b"t", b"y", b"yes"})


class _Part(NamedTuple):
    name: bytes
    start: int  # of its value in the body
    end: int


def read(content_type: bytes, body: bytes) -> Ask | BadRequest:
    """Return what a form asks for."""
    found = _looked_at(content_type, body)
    if isinstance(found, BadRequest):
        return found
    values = {part.name: body[part.start : part.end] for part in found}
    try:
        model = values.get(b"model", b"").decode()
    except UnicodeDecodeError:
        return BadRequest("invalid_type", "Invalid type for 'model': not UTF-8.", "model")
    if not model:
        what = "You must provide a model parameter."
        return BadRequest("missing_required_parameter", what, "model")
    stream = values.get(b"stream", b"").strip().lower() in _TRUE
    return Ask(model=model, stream=stream)


def rewritten(content_type: bytes, body: bytes, model: str) -> bytes:
    """Return a form that `read` found good with another model; all else is as it was."""
    found = _looked_at(content_type, body)
    parts = () if isinstance(found, BadRequest) else found
    for part in parts:
        if part.name == b"model":
            return b"".join((body[: part.start], model.encode(), body[part.end :]))
    return body


def _looked_at(content_type: bytes, body: bytes) -> tuple[_Part, ...] | BadRequest:
    """Return the parts with the fields that routing needs, each at most once."""
    boundary = _BOUNDARY.search(content_type)
    if not _FORM.match(content_type):
        what = "This endpoint takes a multipart/form-data body."
        return BadRequest("unsupported_media_type", what)
    # Of two, one server takes the first and the next the last.
    if boundary is None or content_type.lower().count(b"boundary") > 1:
        return BadRequest("invalid_multipart", "The Content-Type has no proper boundary.")
    found: list[_Part] = []
    try:
        for part in _parts(body, b"--" + (boundary[1] or boundary[2])):
            if part.name in (b"model", b"stream"):
                found.append(part)
    except _WrongError as error:
        return BadRequest("invalid_multipart", f"The form {error}.")
    for part in found:
        name = part.name.decode()
        # Engines differ in which of two they take.
        if sum(other.name == part.name for other in found) > 1:
            return BadRequest("invalid_multipart", f"The form has '{name}' twice.", name)
        if part.end - part.start > _VALUE_BYTES:
            return BadRequest("invalid_multipart", f"The value of '{name}' is long.", name)
    return tuple(found)


class _WrongError(Exception):
    """The form is broken; its message goes on after "The form"."""


def _parts(body: bytes, delimiter: bytes) -> Iterator[_Part]:
    """
    Yield the parts of a form in order.

    A delimiter begins a line; "--" after it ends it all. Source: RFC 2046, section 5.1; RFC 7578.
    """
    if not body.startswith(delimiter):
        raise _WrongError("does not begin with its boundary")
    at = len(delimiter)
    for _ in range(MOST_PARTS):
        if body.startswith(b"--", at):
            return
        if not body.startswith(b"\r\n", at):
            raise _WrongError("has a broken boundary")
        head_end = body.find(b"\r\n\r\n", at, at + _HEAD_BYTES)
        if head_end < 0:
            raise _WrongError("has a part without a proper head")
        disposition = _DISPOSITION.search(body, at, head_end)
        name = disposition and _NAME.search(disposition[1])
        if not name:
            raise _WrongError("has a part without a name")
        start = head_end + 4
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0:
            raise _WrongError("is cut short")
        yield _Part(name[1], start, end)
        at = end + 2 + len(delimiter)
    raise _WrongError(f"has more than {MOST_PARTS} parts")
