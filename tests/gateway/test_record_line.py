"""The log's line of a request: its record's values, and nothing that forges another line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.record import Record
from gpuctl.gateway.record_line import MOST_KEPT, RequestLines
from tests.gateway.records import record

#: What a time may differ by, and what a float of a century of seconds does not tell.
MICROSECOND = 1e-6
TEXTS = (
    "id", "ip", "key", "method", "endpoint", "model", "error", "end", "replica", "container",
)  # fmt: skip
NUMBERS = ("status", "attempts", "request_bytes", "response_bytes")
COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
TIMES = ("at", "queued_seconds", "seconds")

# Of all of Unicode, and of what JSON escapes, lines end with, or a terminal obeys.
text = st.text() | st.text('a"\\\n\r\t\x00\x1b\x7f\x85\x9b\u2028\u202e\ud800\udc00😀', max_size=6)
number = st.integers(0, 1100) | st.integers()
time = (
    st.floats(0.0, 2.0)
    | st.floats()
    | st.sampled_from((-0.0, 0.0000004, 0.9999996, 999.9999996, 9e9, -1e-7, 1e300))
)
records = st.builds(
    record,
    **dict.fromkeys(TEXTS, text),
    **dict.fromkeys(NUMBERS, number),
    **dict.fromkeys(COUNTS, st.none() | number),
    **dict.fromkeys(TIMES, time),
    stream=st.booleans(),
    first_byte_seconds=st.none() | time,
    timeline=st.lists(st.tuples(text, time), max_size=4),
)


@given(st.lists(records, max_size=3))
def test_a_line_says_what_the_record_does(made: list[Record]) -> None:
    """Of whatever is in it, and whatever was told before; times to the microsecond."""
    lines = RequestLines()
    for each in made + made:
        line = lines.of(each)
        assert same(json.loads(line), expected(each)), line


@given(records)
def test_a_line_is_one_line(made: Record) -> None:
    """Printable ASCII up to its end: nothing in it is a line of its own, or moves a cursor."""
    line = RequestLines().of(made)
    assert line.endswith(b"}\n")
    assert all(32 <= code < 127 for code in line[:-1])


def test_a_line_has_no_spaces_and_times_to_the_microsecond() -> None:
    """As others read it: in the order of the fields of a record."""
    made = record(
        id="r-1", at=1_750_000_000.25, ip="127.0.0.1", endpoint="/v1/chat/completions",
        model="chat", status=200, end="answered", replica="chat-0", container="c0ffee",
        attempts=1, request_bytes=300, response_bytes=5000, first_byte_seconds=0.0125,
        seconds=3.0000004, prompt_tokens=20, completion_tokens=0,
        timeline=[("sent chat-0", 0.00001), ("first_byte", 0.0125)],
    )  # fmt: skip
    assert RequestLines().of(made) == (
        b'{"event":"request","id":"r-1","at":1750000000.250000,"ip":"127.0.0.1","key":"",'
        b'"method":"POST","endpoint":"/v1/chat/completions","model":"chat","stream":false,'
        b'"status":200,"error":"","end":"answered","replica":"chat-0","container":"c0ffee",'
        b'"attempts":1,"request_bytes":300,"response_bytes":5000,"queued_seconds":0.000000,'
        b'"first_byte_seconds":0.012500,"seconds":3.000000,"prompt_tokens":20,'
        b'"completion_tokens":0,"cached_tokens":null,'
        b'"timeline":[["sent chat-0",0.000010],["first_byte",0.012500]]}\n'
    )


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        pytest.param(0.0, "0.000000", id="none"),
        pytest.param(0.0000004, "0.000000", id="rounded down"),
        pytest.param(0.0000006, "0.000001", id="rounded up"),
        pytest.param(0.9999996, "1.000000", id="up to the next second"),
        pytest.param(999.9999996, "1000.000000", id="up to a fourth digit"),
        pytest.param(86_400.5, "86400.500000", id="a day"),
        pytest.param(-0.5, "-0.5", id="before it began"),
        pytest.param(1e300, "1e+300", id="more than microseconds are counted of"),
        pytest.param(math.inf, "null", id="for ever"),
        pytest.param(math.nan, "null", id="no number"),
    ],
)
def test_a_time_is_rounded(seconds: float, written: str) -> None:
    """To the microsecond, where that makes sense; what JSON does not have is null."""
    line = RequestLines().of(record(seconds=seconds)).decode()
    assert f'"seconds":{written},' in line


def test_what_never_repeats_is_not_kept_for_ever() -> None:
    """Addresses, say: memory stays bounded, and lines stay right."""
    lines = RequestLines()
    told = [
        json.loads(lines.of(record(ip=f"10.0.{n >> 8}.{n & 255}", key=f"k_{n}")))
        for n in range(3000)
    ]
    assert [each["key"] for each in told] == [f"k_{n}" for n in range(3000)]
    assert lines.kept <= 2 * MOST_KEPT


def expected(made: Record) -> dict[str, Any]:
    """Return the record's own values, as an encoder that looks at each field has them."""
    names = [
        *("id", "at", "ip", "key", "method", "endpoint", "model", "stream", "status", "error"),
        *("end", "replica", "container", "attempts", "request_bytes", "response_bytes"),
        *("queued_seconds", "first_byte_seconds", "seconds", "prompt_tokens"),
        *("completion_tokens", "cached_tokens", "timeline"),
    ]
    return {"event": "request", **{name: getattr(made, name) for name in names}}


def same(read: Any, meant: Any) -> bool:
    """Return whether a value was read back: of the same type, and a time to the microsecond."""
    match meant:
        case float() if not math.isfinite(meant):
            return read is None
        case float():
            return type(read) is float and abs(read - meant) <= MICROSECOND
        case str():
            # Two halves of a pair that happen to follow each other are a whole one in JSON.
            return type(read) is str and utf_16(read) == utf_16(meant)
        case dict():
            return list(read) == list(meant) and all(same(read[name], meant[name]) for name in read)
        case list() | tuple():
            return len(read) == len(meant) and all(map(same, read, meant))
    return type(read) is type(meant) and bool(read == meant)


def utf_16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")
