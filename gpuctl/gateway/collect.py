"""
A streamed answer put together: what the same request gets without `stream`, from chunks of it.

llama.cpp looks whether its client is still there when it sends something, so the gateway has it
stream: a client that leaves frees its slot, and every token shows that it lives. `exchange` feeds
whole events; values are carried over as the bytes they came in, never read and written anew.

One thing is not as it is without `stream`: a character that the token limit cuts in two is left
out, where llama.cpp else writes U+FFFD.
Source: tools/server/server-task.cpp of llama.cpp (`to_json_oaicompat*`), the order of keys as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from gpuctl.gateway import sse

#: Of the choices in chunks: some 350,000 tokens, or 20,000 with three logprobs each.
MOST_COLLECTED_BYTES = 8 * 1024 * 1024
#: Status of a stream that breaks off or cannot be read: no engine's word, but the lack of it.
MALFORMED = 502

_ANSWER_KEYS = ("choices", "created", "model", "system_fingerprint", "object", "usage", "id")
_CHAT_KEYS = ("finish_reason", "index", "message", "logprobs")
_TEXT_KEYS = ("text", "index", "logprobs", "finish_reason")
_MESSAGE_KEYS = ("role", "content", "reasoning_content", "tool_calls")
_CALL_KEYS = ("type", "function", "id")
#: Put together by itself, or told only of a stream.
_NOT_CARRIED = frozenset({"choices", "object", "prompt_progress"})


class _Format(Struct):
    type: str = "text"


class _Asked(Struct):
    stop: str | list[str] | None = None
    tools: list[Raw] | None = None
    response_format: _Format | None = None
    json_schema: dict[str, Raw] | None = None
    logprobs: bool | int | None = None
    n_probs: int | None = None  # llama.cpp's own word for them


_asked = Decoder(_Asked)
_object = Decoder(dict[str, Raw])
_objects = Decoder(list[dict[str, Raw]])
_number = Decoder(int)
_TEXT, _LIST = ord('"'), ord("[")


def collectable(body: bytes) -> bool:
    """
    Return whether a request gets the same answer from llama.cpp streamed and not.

    Streamed, it holds back what may yet turn out to be something else, and forgets that when the
    token limit comes first:
    1. the beginning of a stop word, whose tokens are then in the logprobs as well;
    2. the beginning of a code fence around an answer that is to be JSON.
    3. the logprobs of the token that ends the answer.
    4. And a call of a tool that looks otherwise when it is whole ends the stream with an error
       ("Invalid diff"), and some versions of llama.cpp with it.

    Source: measured with llama.cpp of October 2026 (1 to 3); ggml-org/llama.cpp#14060 (4).
    """
    try:
        asked = _asked.decode(body)
    except DecodeError:
        return False
    words = [asked.stop] if isinstance(asked.stop, str) else asked.stop or ()
    text = asked.response_format is None or asked.response_format.type == "text"
    # 0 is none of a chat's, and a completion's without alternatives.
    probable = not (asked.logprobs is None or asked.logprobs is False) or bool(asked.n_probs)
    held_back = any(words) or not text or asked.json_schema is not None
    return not (held_back or probable or asked.tools)


class Failed(Exception):
    """There is no answer: the stream ended with an error, or cannot be put together."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:200]!r}")
        #: What the request would have got without `stream`: HTTP status, and the body.
        self.status = status
        self.body = body


def failure(events: bytes) -> Failed | None:
    """Return the error that the first of these *events* carries; None where it is none."""
    carried = sse.data(sse.split(events)[0]) or b""
    try:
        error = bytes(_object.decode(carried).get("error", b"null"))
    except DecodeError:
        return _failed("the engine sent an error that cannot be read")
    return None if error == b"null" else Failed(_status(error), carried)


class Collector:
    """One answer that is being put together."""

    __slots__ = ("_bytes", "_chat", "_choices", "_current", "_fields", "done")

    def __init__(self, kind: str) -> None:
        """*kind* is "chat" or "completion"."""
        self._chat = {"chat": True, "completion": False}[kind]
        self._fields: dict[str, bytes] = {}
        self._choices: dict[int, _Choice] = {}
        #: Whose chunk came last: usage and timings that follow are this choice's.
        self._current = 0
        self._bytes = 0
        #: `[DONE]` has come: nothing is missing.
        self.done = False

    def add(self, events: bytes) -> None:
        """
        Take whole events.

        Raises:
            Failed: One carries an error, is no chunk, or makes the answer too large.
        """
        for event in sse.split(events):
            carried = sse.data(event)
            if carried == b"[DONE]":
                self.done = True
            # llama.cpp writes `data: null` where one of several prompts begins.
            elif carried is not None and carried != b"null":
                self._chunk(carried)

    def answer(self) -> bytes:
        """Return the body that a request without `stream` gets."""
        choices = [choice.json(self._chat) for _, choice in sorted(self._choices.items())]
        found = {
            **self._fields,
            "choices": _json_list(choices),
            "object": b'"chat.completion"' if self._chat else b'"text_completion"',
        }
        # They follow whatever else an engine adds.
        if "timings" in found:
            found["timings"] = found.pop("timings")
        return _json_object(found, _ANSWER_KEYS)

    def _chunk(self, carried: bytes) -> None:
        try:
            chunk = _object.decode(carried)
            error = bytes(chunk.get("error", b"null"))
            if error != b"null":
                raise Failed(_status(error), carried)
            for fields in _objects.decode(chunk.get("choices", b"[]")):
                self._choice(fields)
        except DecodeError as unread:
            raise _failed("the engine sent a chunk that cannot be read") from unread
        # Of several choices the first one's usage and timings are the answer's, as in llama.cpp.
        first = self._current == min(self._choices, default=0)
        for name, value in chunk.items():
            if name not in _NOT_CARRIED and (first or name not in self._fields):
                _replace(self._fields, name, bytes(value))

    def _choice(self, fields: Mapping[str, Raw]) -> None:
        self._current = _number.decode(fields.get("index", b"0"))
        choice = self._choices.get(self._current)
        if choice is None:
            choice = self._choices[self._current] = _Choice()
        self._bytes += choice.add(fields)
        if self._bytes > MOST_COLLECTED_BYTES:
            raise _failed(f"the answer is larger than {MOST_COLLECTED_BYTES} bytes")


class _Choice:
    """One of an answer's choices; every value is JSON."""

    __slots__ = ("_calls", "_fields", "_logprobs", "_message")

    def __init__(self) -> None:
        self._fields: dict[str, bytes] = {}
        self._message: dict[str, bytearray] = {}
        self._logprobs: dict[str, bytearray] = {}
        self._calls: dict[int, _Call] = {}

    def add(self, fields: Mapping[str, Raw]) -> int:
        """Take what a chunk says of it; return how many bytes this is."""
        taken = 0
        for name, raw in fields.items():
            value = bytes(raw)
            taken += len(value)
            if name == "delta":
                self._delta(_object.decode(value))
            elif name == "text":
                _append(self._message, name, value)
            elif name == "logprobs" and value != b"null":
                for key, part in _object.decode(value).items():
                    _append(self._logprobs, key, bytes(part))
            else:
                _replace(self._fields, name, value)
        return taken

    def json(self, chat: bool) -> bytes:
        found: dict[str, bytes | bytearray] = {**self._fields}
        if self._logprobs:
            found["logprobs"] = _json_object(self._logprobs)
        if not chat:
            found["text"] = self._message.get("text", b'""')
            return _json_object(found, _TEXT_KEYS)
        message: dict[str, bytes | bytearray] = {"role": b'"assistant"', **self._message}
        if message.get("content", b"null") == b"null":
            message["content"] = b'""'
        if self._calls:
            calls = [call.json() for _, call in sorted(self._calls.items())]
            message["tool_calls"] = _json_list(calls)
        found["message"] = _json_object(message, _MESSAGE_KEYS)
        return _json_object(found, _CHAT_KEYS)

    def _delta(self, delta: Mapping[str, Raw]) -> None:
        for name, raw in delta.items():
            value = bytes(raw)
            if name == "tool_calls" and value != b"null":
                for fields in _objects.decode(value):
                    index = _number.decode(fields.pop("index", b"0"))
                    self._calls.setdefault(index, _Call()).add(fields)
            elif name != "role":
                _append(self._message, name, value)
            elif value != b"null":
                self._message[name] = bytearray(value)


class _Call:
    """One call of a tool; its arguments come in fragments."""

    __slots__ = ("_fields", "_function")

    def __init__(self) -> None:
        self._fields: dict[str, bytes] = {}
        self._function: dict[str, bytearray] = {}

    def add(self, fields: Mapping[str, Raw]) -> None:
        for name, raw in fields.items():
            value = bytes(raw)
            if name == "function":
                for key, part in _object.decode(value).items():
                    _append(self._function, key, bytes(part))
            else:
                _replace(self._fields, name, value)

    def json(self) -> bytes:
        function = _json_object(self._function)
        return _json_object({**self._fields, "function": function}, _CALL_KEYS)


def _replace(fields: dict[str, bytes], name: str, value: bytes) -> None:
    """Let *value* be the field's, unless it is null and there is one."""
    if value != b"null" or name not in fields:
        fields[name] = value


def _append(fields: dict[str, bytearray], name: str, value: bytes) -> None:
    """Let a string or a list go on; anything else is replaced, and null changes nothing."""
    before = fields.get(name)
    if before is None or before[0] != value[0] or value[0] not in (_TEXT, _LIST):
        if before is None or value != b"null":
            fields[name] = bytearray(value)
        return
    # Both ends without the quotation marks or brackets between them: escapes stay whole.
    if value[0] == _LIST and len(before) > 2 and len(value) > 2:
        before[-1:] = b","
    else:
        del before[-1:]
    before += value[1:]


def _json_list(values: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"


def _json_object(fields: Mapping[str, bytes | bytearray], first: Iterable[str] = ()) -> bytes:
    """Return an object that has the keys *first* in this order, then the others."""
    known = [name for name in first if name in fields]
    names = [*known, *(name for name in fields if name not in known)]
    return b"{" + b",".join(encode(name) + b":" + fields[name] for name in names) + b"}"


def _status(error: bytes) -> int:
    """Return the HTTP status that llama.cpp writes into an error object; 500 where it has none."""
    try:
        status = _number.decode(_object.decode(error)["code"])
    except (DecodeError, KeyError):
        return 500
    return status if 400 <= status <= 599 else 500


def _failed(message: str) -> Failed:
    return Failed(MALFORMED, encode({"error": {"message": message, "type": "server_error"}}))
