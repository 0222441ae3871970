"""
What routing needs of a JSON body, and the body as an engine gets it.

`exchange` calls `read` and `rewritten` once a request. Nothing is decoded but the few fields looked
at; all others pass on byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from gpuctl.gateway.endpoints import Endpoint
from gpuctl.gateway.fields import (
    Fields,
    Options,
    read_fields,
    read_messages,
    read_pairs,
    read_texts,
)

#: A proxy that takes an upstream's address from the body can be led anywhere (CVE-2024-6587 in
#: LiteLLM): no engine gets to see these.
DROPPED: Final = ("api_base", "base_url", "user_config")
#: As much of a prompt as tells conversations apart.
FIRST_WORDS_BYTES: Final = 1024
#: Up to this it is tried whether the prompt is texts alone: of the smallest messages that are as
#: many as 90,000, of which the last is none, for 7 ms (2026-11-21, one of two shared cores).
MOST_TEXTS_BYTES: Final = 256 * 1024
#: Arrays and objects. A conversation of thousands of messages has some ten thousand.
MOST_PARTS: Final = 100_000

#: Keys with an address under them, and keys with content: as OpenAI, llama.cpp and vLLM have them.
#: Source: OpenAI API reference; llama.cpp, tools/server; vLLM, entrypoints/chat_utils.
_URLS: Final = frozenset({"image_url", "audio_url", "video_url", "file_url"})
_CONTENTS: Final = frozenset({"input_audio", "input_video", "file"})
#: One of these is in whatever has one of those, also where it is written with escapes.
_URL, _INPUT, _FILE, _ESCAPE = "_url", '"input_', '"file"', "\\u"
#: Every opening bracket becomes "(", every closing one ")"; a quote stays, the rest goes.
_FOLD: Final = bytes.maketrans(b"[{]}", b"(())")
_NO_MARKS: Final = bytes(byte for byte in range(256) if byte not in b'[{]}"')
_QUOTED: Final = re.compile(rb'"[^"]*"')
#: A name of its own: compiled, every use of an imported one is a lookup.
_read_texts: Final = read_texts
_JSON: Final = b"application/json"
_FIELD: Final = re.compile(r" - at `\$\.(\w+)")


class BadRequest(NamedTuple):
    """Why a body is refused; `code` is one of `openai_errors.FAULTS`."""

    code: str
    message: str
    param: str | None = None


class Ask:
    """What a request asks for, as far as the gateway looks."""

    __slots__ = ("drops", "first_words", "model", "session", "stream", "usage_asked")

    def __init__(
        self,
        model: str,
        stream: bool = False,
        usage_asked: bool = False,
        session: bytes | None = None,
        first_words: bytes = b"",
        drops: bool = False,
    ) -> None:
        self.model = model
        self.stream = stream
        self.usage_asked = usage_asked  # the client itself wants the usage chunk of its stream
        self.session = session  # `prompt_cache_key`
        self.first_words = first_words  # of messages, prompt or input, as they were sent
        self.drops = drops  # `rewritten` has one of DROPPED to leave out


def read(
    endpoint: Endpoint,
    content_type: bytes,
    body: bytes,
    most_depth: int = 64,
    words: bool = True,
) -> Ask | BadRequest:
    """
    Return what a JSON body asks for, with its first words if they are wanted.

    Its Content-Type is not looked at but for multipart: llama.cpp takes JSON under any.
    """
    if content_type != _JSON and content_type[:10].lower() == b"multipart/":
        what = f"{endpoint.name} takes a JSON body, not multipart/form-data."
        return BadRequest("unsupported_media_type", what)
    try:
        # msgspec looks at the UTF-8 of no string that it skips.
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRequest("invalid_json", f"The body is not UTF-8 at byte {error.start}.")
    # 1. Texts alone: there are no media to be looked for.
    ask = _of_texts(body) if not words and len(body) <= MOST_TEXTS_BYTES else None
    if ask is not None:
        refused = _shapeless(body, text, most_depth)
        return ask if refused is None else refused
    # 2. Whatever else it may be, and all that is wrong.
    try:
        fields = read_fields(body)
    except msgspec.ValidationError as error:
        return _wrong_type(str(error))
    except msgspec.DecodeError as error:
        what = f"The body is not valid JSON: {error}." if body else "The request has no body."
        return BadRequest("invalid_json", what)
    except RecursionError:
        return _too_deep(most_depth)
    return _shapeless(body, text, most_depth) or _ask(fields, text, words)


def _of_texts(body: bytes) -> Ask | None:
    """Return what a body asks for whose prompt is texts alone; None of any other."""
    try:
        texts = _read_texts(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    model = texts.model
    if not model:
        return None
    stream = texts.stream is True
    asked = stream and _usage_asked(texts.stream_options)
    return Ask(model, stream, asked, _word(texts.prompt_cache_key))


def _ask(fields: Fields, text: str, wanted: bool) -> Ask | BadRequest:
    if not fields.model:  # UNSET is false
        what = "You must provide a model parameter."
        return BadRequest("missing_required_parameter", what, "model")
    held = _may_hold_media(fields) if _marked(text) else []
    if held and sum(raw.count(b",") for _, raw in held) > 10 * MOST_PARTS:
        return _too_many(f"{10 * MOST_PARTS:,} values in a prompt with media")
    try:
        remote = _remote(held)
    except msgspec.DecodeError as error:
        return BadRequest("invalid_json", f"The body cannot be read: {error}.")
    if remote:
        what = f"A URL in '{remote}' is not fetched here: send its content as a data: URL."
        return BadRequest("remote_url_not_allowed", what, remote)
    words = b""
    if wanted:
        first = fields.messages or fields.prompt or fields.input
        words = bytes(memoryview(first)[:FIRST_WORDS_BYTES])
    stream = fields.stream is True
    return Ask(
        str(fields.model),
        stream,
        stream and _usage_asked(fields.stream_options),
        _word(fields.prompt_cache_key),
        words,
        bool(fields.api_base or fields.base_url or fields.user_config),
    )


def rewritten(body: bytes, model: str | None, stream: bool | None, include_usage: bool) -> bytes:
    """
    Return a body that `read` found good, as an engine is to get it.

    Args:
        model, stream: what to ask for instead; None leaves it.
        include_usage: ask for the usage chunk, beside what else `stream_options` has.

    Returns:
        The same object where nothing changes. Else every other value byte for byte and in its
        order; only the white space between them is not kept.
    """
    pairs = read_pairs(body)
    dropped = [pairs.pop(name) for name in DROPPED if name in pairs]
    if model is None and stream is None and not include_usage and not dropped:
        return body
    if model is not None:
        pairs["model"] = _raw(model)
    if stream is not None:
        pairs["stream"] = _raw(stream)
    if include_usage:
        # Where it is, it is an object or null: `read` saw to that.
        options = bytes(pairs.get("stream_options", b"null"))
        asked = {} if options == b"null" else read_pairs(options)
        pairs["stream_options"] = _raw({**asked, "include_usage": True})
    return msgspec.json.encode(pairs)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _usage_asked(options: Options | None) -> bool:
    return options is not None and options.include_usage is True


def _word(value: msgspec.Raw) -> bytes | None:
    """Return a string as it was written, without its quotes; None where it is anything else."""
    if not value:
        return None
    written = bytes(value)
    return written[1:-1] if written[:1] == b'"' and written != b'""' else None


def _wrong_type(said: str) -> BadRequest:
    """Return what msgspec says of a field that has not the type it must have."""
    found = _FIELD.search(said)
    if found is None:
        return BadRequest("invalid_json", "The body must be a JSON object.")
    name = found[1]
    what = f"Invalid type for '{name}': {said.partition(' - at ')[0].lower()}."
    return BadRequest("invalid_type", what.replace("`", ""), name)


def _too_deep(most: int) -> BadRequest:
    return BadRequest("json_too_deep", f"The body is nested deeper than {most} levels.")


def _too_many(what: str) -> BadRequest:
    return BadRequest("request_too_large", f"The body has more than {what}.")


def _shapeless(body: bytes, text: str, most_depth: int) -> BadRequest | None:
    """
    Refuse valid JSON that is nested too deep, or of more parts than can be looked at in no time.

    Each step is one pass in C: 10 MiB of the worst hold up all others for 0.1 s (2026-11-21, one
    of two shared cores).
    """
    if _few(text, most_depth):
        return None
    # 1. a backslash is only ever inside a string: without escapes, every quote begins or ends one
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # 2. brackets and quotes alone; two quotes side by side change nothing for the brackets around
    marks = body.translate(_FOLD, _NO_MARKS).replace(b'""', b"")
    # 3. brackets alone; where strings are left, there is a real bracket between any two of them
    few = marks.count(b'"') <= 4 * MOST_PARTS
    brackets = _QUOTED.sub(b"", marks) if few else marks
    if not few or len(brackets) > 2 * MOST_PARTS:
        return _too_many(f"{MOST_PARTS:,} arrays and objects")
    # 4. one round takes the innermost pair of every nest away
    for _ in range(most_depth):
        if not brackets:
            return None
        brackets = brackets.replace(b"()", b"")
    return _too_deep(most_depth) if brackets else None


def _few(text: str, most: int) -> bool:
    """
    Return whether there are so few opening brackets, in strings or not.

    From one to the next, as `find` looks at many bytes at a time, and `count` at one.
    """
    left = most - 1  # and what the body begins with
    at = text.find("[")
    while at >= 0 and left >= 0:
        left -= 1
        at = text.find("[", at + 1)
    at = text.find("{", 1)
    while at >= 0 and left >= 0:
        left -= 1
        at = text.find("{", at + 1)
    return left >= 0


def _remote(held: list[tuple[str, bytes]]) -> str:
    """Return the field with the first medium that is remote; "" where none is."""
    for name, raw in held:
        if not all(_embedded(msgspec.json.decode(raw))):
            return name
    return ""


def _may_hold_media(fields: Fields) -> list[tuple[str, bytes]]:
    """Return the few values that are worth decoding, with their fields: of most requests, none."""
    held: list[tuple[str, bytes]] = []
    if fields.messages:
        try:
            # A message whose content is one text, or null, holds nothing else.
            for message in read_messages(fields.messages):
                if bytes(memoryview(message.content)[:1]) in (b"[", b"{"):
                    held.append(("messages", bytes(message.content)))
        except msgspec.ValidationError:
            held.append(("messages", bytes(fields.messages)))
    for name in ("prompt", "input", "query", "documents"):
        raw = bytes(getattr(fields, name))
        # Texts and lists of tokens have no object among them.
        if raw[:1] != b'"' and b"{" in raw:
            held.append((name, raw))
    return [(name, raw) for name, raw in held if _marked(raw.decode())]


def _marked(text: str) -> bool:
    return _URL in text or _INPUT in text or _FILE in text or _ESCAPE in text


def _embedded(prompt: Any) -> Iterator[bool]:
    """Yield for each medium of a prompt whether its content is in it, not elsewhere."""
    for key, part in _named(prompt):
        inside = part if isinstance(part, dict) else {}
        if key in _URLS:
            url = inside.get("url") if inside else part
            if isinstance(url, str):
                yield _is_data(url)
        elif key in _CONTENTS:
            if isinstance(url := inside.get("url"), str):
                yield _is_data(url)
            if isinstance(content := inside.get("data") or inside.get("file_data"), str):
                # Base64 or a data: URL; there is no colon in base64.
                yield _is_data(content) or ":" not in content[:64]


def _named(prompt: Any) -> Iterator[tuple[str, Any]]:
    """Yield every member of every object of a document."""
    left: list[Any] = [[prompt]]
    while left:
        value = left.pop()
        within = value
        if isinstance(value, dict):
            yield from value.items()
            within = value.values()
        left += [part for part in within if isinstance(part, dict | list)]


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"
