"""
The log's line of one request: bytes of JSON, made of its `Record`; `log` asks for it. PURE.

Written by hand, as an encoder would look at two dozen fields of which most are those of the request
before: what repeats is kept as it was written. Whatever the strings are, a line is one line of
ASCII without a control character: nothing forges another.
"""

from __future__ import annotations

import json
import math
from typing import Final

from gpuctl.gateway.record import Record

#: Of strings, and of what lines say of them: both repeat, but for addresses. Half a KiB each.
MOST_KEPT: Final = 1024
#: Microseconds up to here are whole numbers that a float has: less than 2 ** 53.
_EXACT_SECONDS: Final = 9e9
_WHOLE: Final = [b"%d" % number for number in range(1000)]
_MILLIS: Final = [b".%03d" % number for number in range(1000)]
_MICROS: Final = [b"%03d" % number for number in range(1000)]
#: Most requests are over by then, which half a MiB is well spent on.
_SECONDS: Final = [b"%d%s" % (whole, millis) for whole in range(10) for millis in _MILLIS]
#: Leaves what a string of JSON says as it is, and makes another of every other byte.
_PLAIN: Final = bytes(
    [code if 32 <= code < 127 and code not in b'"\\' else 255 - code for code in range(256)]
)

#: ip, key, method, endpoint, model, stream, status, error, end, replica, container, attempts
_Repeated = tuple[str, str, str, str, str, bool, int, str, str, str, str, int]


class RequestLines:
    """Makes them, of one record after the other."""

    __slots__ = ("_at", "_at_text", "_repeated", "_words")

    def __init__(self) -> None:
        self._words: dict[str, bytes] = {}
        self._repeated: dict[_Repeated, bytes] = {}
        self._at, self._at_text = 0, b"0"  # a second, and how it is written

    @property
    def kept(self) -> int:
        """Return how much is kept of the lines so far, of 2 * MOST_KEPT."""
        return len(self._words) + len(self._repeated)

    def of(self, record: Record) -> bytes:
        """Return the line of one request, with its end."""
        what: _Repeated = (
            record.ip, record.key, record.method, record.endpoint, record.model, record.stream,
            record.status, record.error, record.end, record.replica, record.container,
            record.attempts,
        )  # fmt: skip
        repeated = self._repeated.get(what)
        if repeated is None:
            repeated = self._repeat(what)
        at, at_millis, at_micros = self._moment(record.at)
        queued, queued_micros = _seconds(record.queued_seconds)
        first, first_micros = b"null", b""
        if record.first_byte_seconds is not None:
            first, first_micros = _seconds(record.first_byte_seconds)
        seconds, seconds_micros = _seconds(record.seconds)
        return (
            b'{"event":"request","id":"%s","at":%s%s%s%s%s,"response_bytes":%s,'
            b'"queued_seconds":%s%s,"first_byte_seconds":%s%s,"seconds":%s%s,'
            b'"prompt_tokens":%s,"completion_tokens":%s,"cached_tokens":%s,"timeline":[%s%s'
            % (
                _id(record.id), at, at_millis, at_micros, repeated, _number(record.request_bytes),
                _number(record.response_bytes), queued, queued_micros, first, first_micros,
                seconds, seconds_micros, _tokens(record.prompt_tokens),
                _tokens(record.completion_tokens), _tokens(record.cached_tokens),
                self._timeline(record.timeline), b"]]}\n" if record.timeline else b"]}\n",
            )
        )  # fmt: skip

    def _repeat(self, what: _Repeated) -> bytes:
        """Return what the line says of this, up to the first number, and keep it."""
        ip, key, method, endpoint, model, stream, status, error, end, replica, container, n = what
        if len(self._repeated) >= MOST_KEPT:
            self._repeated.clear()
        made = (
            b',"ip":%s"key":%s"method":%s"endpoint":%s"model":%s"stream":%s,"status":%d,'
            b'"error":%s"end":%s"replica":%s"container":%s"attempts":%d,"request_bytes":'
            % (
                self._word(ip), self._word(key), self._word(method), self._word(endpoint),
                self._word(model), b"true" if stream else b"false", status, self._word(error),
                self._word(end), self._word(replica), self._word(container), n,
            )
        )  # fmt: skip
        self._repeated[what] = made
        return made

    def _word(self, text: str) -> bytes:
        """Return a string that repeats, as JSON has it, with the comma after it."""
        known = self._words.get(text)
        if known is None:
            if len(self._words) >= MOST_KEPT:
                self._words.clear()
            known = escaped(text) + b","
            self._words[text] = known
        return known

    def _moment(self, at: float) -> tuple[bytes, bytes, bytes]:
        """Return Unix seconds, as `_seconds`: many requests are of the same one."""
        if not 0.0 <= at < _EXACT_SECONDS:
            return _odd(at), b"", b""
        micros = int(at * 1e6 + 0.5)
        whole = micros // 1_000_000
        if whole != self._at:
            self._at, self._at_text = whole, b"%d" % whole
        return self._at_text, _MILLIS[micros // 1000 % 1000], _MICROS[micros % 1000]

    def _timeline(self, timeline: list[tuple[str, float]]) -> bytes:
        """Return the steps of a request, but for the bracket after the last."""
        told, before = b"", b"["
        for what, since in timeline:
            seconds, micros = _seconds(since)
            told = b"%s%s%s%s%s" % (told, before, self._word(what), seconds, micros)
            before = b"],["
        return told


def escaped(document: object) -> bytes:
    """Return a document as JSON in ASCII without a control character."""
    # `json` escapes what is not ASCII, and of ASCII all controls but this one.
    line = json.dumps(document, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f").encode("ascii")


def _id(id: str) -> bytes:
    """Return the inside of a string: each is another, so that it is looked at, and not kept."""
    try:
        plain = id.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 does not have
        return escaped(id)[1:-1]
    return plain if plain == plain.translate(_PLAIN) else escaped(id)[1:-1]


def _number(number: int) -> bytes:
    return _WHOLE[number] if 0 <= number < 1000 else b"%d" % number


def _tokens(number: int | None) -> bytes:
    return b"null" if number is None else _number(number)


def _seconds(seconds: float) -> tuple[bytes, bytes]:
    """Return a time to the microsecond, in parts that come one after the other."""
    if not 0.0 <= seconds < _EXACT_SECONDS:
        return _odd(seconds), b""
    micros = int(seconds * 1e6 + 0.5)
    millis = micros // 1000
    if millis < 10_000:
        return _SECONDS[millis], _MICROS[micros % 1000]
    return b"%d%s" % (millis // 1000, _MILLIS[millis % 1000]), _MICROS[micros % 1000]


def _odd(seconds: float) -> bytes:
    """Return a time that no clock tells: JSON has neither infinity nor what is no number."""
    return escaped(seconds) if math.isfinite(seconds) else b"null"
