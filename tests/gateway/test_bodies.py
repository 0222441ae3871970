"""What is read of a JSON body, what is refused, and what an engine gets of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import ValidationError

from gpuctl.gateway import bodies
from gpuctl.gateway.bodies import (
    DROPPED,
    FIRST_WORDS_BYTES,
    MOST_PARTS,
    MOST_TEXTS_BYTES,
    Ask,
    BadRequest,
    rewritten,
)
from gpuctl.gateway.endpoints import EXACT, Endpoint
from gpuctl.gateway.fields import read_texts
from gpuctl.gateway.openai_errors import FAULTS
from tests.gateway.asks import told

CHAT = EXACT[b"/v1/chat/completions"][b"POST"]
JSON = b"application/json"


def read(endpoint: Endpoint, content_type: bytes, sent: bytes) -> Ask | BadRequest:
    """Read a body with its first words; without them, the quick way, it must say the same."""
    found = bodies.read(endpoint, content_type, sent)
    quick = bodies.read(endpoint, content_type, sent, words=False)
    if isinstance(found, Ask) and isinstance(quick, Ask):
        assert quick.first_words == b""
        quick.first_words = found.first_words
    assert told(quick) == told(found)
    return found


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "chat", **fields}, separators=(",", ":")).encode()


def with_part(part: object) -> bytes:
    return body(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, part]}])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b'{"model":"chat"}', Ask(model="chat"), id="the least"),
        pytest.param(body(stream=True), Ask(model="chat", stream=True), id="stream"),
        pytest.param(body(stream=None), Ask(model="chat"), id="stream: null"),
        pytest.param(
            body(stream=True, stream_options={"include_usage": True, "x": 1}),
            Ask(model="chat", stream=True, usage_asked=True),
            id="usage",
        ),
        pytest.param(body(stream_options={}), Ask(model="chat"), id="no usage"),
        pytest.param(body(stream_options=None), Ask(model="chat"), id="stream_options: null"),
        pytest.param(
            body(prompt_cache_key="a b"),
            Ask(model="chat", session=b"a b"),
            id="a session",
        ),
        pytest.param(body(prompt_cache_key=""), Ask(model="chat"), id="none"),
        pytest.param(body(prompt_cache_key=5), Ask(model="chat"), id="a session of no text"),
        pytest.param(
            body(messages=[{"role": "user", "content": "é"}]),
            Ask(model="chat", first_words=b'[{"role":"user","content":"\\u00e9"}]'),
            id="messages, as they were sent",
        ),
        pytest.param(
            body(messages="x" * 2000),
            Ask(model="chat", first_words=b'"' + b"x" * (FIRST_WORDS_BYTES - 1)),
            id="as many first words as count",
        ),
        pytest.param(
            b' {"prompt" : ["a" ,  "b"], "model":"m" } ',
            Ask(model="m", first_words=b'["a" ,  "b"]'),
            id="prompt, and white space",
        ),
        pytest.param(
            body(input=[1, 2]), Ask(model="chat", first_words=b"[1,2]"), id="input of tokens"
        ),
        pytest.param(
            b'{"mod\\u0065l":"a\\u00e9","stre\\u0061m":true}',
            Ask(model="aé", stream=True),
            id="escaped names",
        ),
        pytest.param(b'{"model":"a","model":"b"}', Ask(model="b"), id="the last of two"),
        pytest.param(
            body(tools=[{"image_url": {"url": "https://host/"}}], unknown={"url": "x"}),
            Ask(model="chat"),
            id="what no engine fetches",
        ),
        *(
            pytest.param(body(**{name: "x"}), Ask(model="chat", drops=True), id=name)
            for name in DROPPED
        ),
        pytest.param(
            b'{"model":"chat","api\\u005fbase":1}', Ask(model="chat", drops=True), id="escaped drop"
        ),
        pytest.param(
            b'{"model":"chat","x":{"api_base":1}}', Ask(model="chat"), id="api_base further down"
        ),
    ],
)
def test_a_body_is_read(sent: bytes, expected: Ask) -> None:
    """The few fields that routing needs are found, however they are written."""
    assert told(read(CHAT, JSON, sent)) == told(expected)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"", BadRequest("invalid_json", "The request has no body."), id="no body"),
        pytest.param(
            b"[]", BadRequest("invalid_json", "The body must be a JSON object."), id="array"
        ),
        pytest.param(
            b"null", BadRequest("invalid_json", "The body must be a JSON object."), id="null"
        ),
        pytest.param(
            b'{"model":"a"',
            BadRequest("invalid_json", "The body is not valid JSON: Input data was truncated."),
            id="cut short",
        ),
        pytest.param(
            b'{"model":"a","x":"\xff"}',
            BadRequest("invalid_json", "The body is not UTF-8 at byte 18."),
            id="not UTF-8, in a field nobody reads",
        ),
        pytest.param(
            b"{}",
            BadRequest(
                "missing_required_parameter",
                "You must provide a model parameter.",
                "model",
            ),
            id="no model",
        ),
        pytest.param(
            body(model=""),
            BadRequest(
                "missing_required_parameter",
                "You must provide a model parameter.",
                "model",
            ),
            id="empty model",
        ),
        pytest.param(
            body(model=None),
            BadRequest(
                "invalid_type", "Invalid type for 'model': expected str, got null.", "model"
            ),
            id="model: null",
        ),
        pytest.param(
            body(stream="yes"),
            BadRequest(
                "invalid_type",
                "Invalid type for 'stream': expected bool | null, got str.",
                "stream",
            ),
            id="stream of text",
        ),
        pytest.param(
            body(stream_options={"include_usage": 1}),
            BadRequest(
                "invalid_type",
                "Invalid type for 'stream_options': expected bool | null, got int.",
                "stream_options",
            ),
            id="usage of a number",
        ),
        pytest.param(
            b'{"model":"a","messages":[{"content":[1%s,"\\u0041"]}]}' % (b"0" * 5000),
            BadRequest(
                "invalid_json",
                "The body cannot be read: Integer value out of range - at `$[0]`.",
            ),
            id="a number past all bounds where media may be",
        ),
    ],
)
def test_a_bad_body_is_refused(sent: bytes, expected: BadRequest) -> None:
    """The client is told what is wrong, and with which parameter."""
    assert told(read(CHAT, JSON, sent)) == told(expected)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b'{"model":"a","x":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\udc00":1,"model":"a"}', id="the other half, as a name"),
        pytest.param(b'{"model":"a","x":NaN}', id="NaN"),
        pytest.param(b'{"model":"a","x":01}', id="leading zero"),
        pytest.param(b'{"model":"a"}{}', id="two bodies"),
        pytest.param(b'{"model":"a","x":"\n"}', id="a control character"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"model=chat", id="a form"),
    ],
)
def test_what_is_no_json_is_refused(sent: bytes) -> None:
    """JSON is checked in whole, also where nothing of it is looked at."""
    refused = read(CHAT, JSON, sent)
    assert isinstance(refused, BadRequest)
    assert refused.code == "invalid_json"


@pytest.mark.parametrize("content_type", [b"", JSON, b"text/plain", b"Application/JSON; charset=x"])
def test_json_is_taken_under_any_type(content_type: bytes) -> None:
    """What llama.cpp takes from `curl -d` is taken here too."""
    assert told(read(CHAT, content_type, body())) == told(Ask(model="chat"))


def test_a_form_is_told_that_json_is_asked_for() -> None:
    """A multipart body for a JSON endpoint is a 415, not a syntax error."""
    assert read(CHAT, b"Multipart/form-data; boundary=x", b"--x--") == BadRequest(
        "unsupported_media_type",
        "/v1/chat/completions takes a JSON body, not multipart/form-data.",
    )


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    inside = opening * (depth - 1) + "1" + closing * (depth - 1)
    return b'{"model":"a","x":%s}' % inside.encode()


TOO_DEEP = BadRequest("json_too_deep", "The body is nested deeper than 64 levels.")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(nested(64), Ask(model="a"), id="64 arrays"),
        pytest.param(nested(65), TOO_DEEP, id="65 arrays"),
        pytest.param(nested(64, '{"a":', "}"), Ask(model="a"), id="64 objects"),
        pytest.param(nested(65, '{"a":', "}"), TOO_DEEP, id="65 objects"),
        pytest.param(nested(900), TOO_DEEP, id="900 arrays"),
        pytest.param(nested(100_000), TOO_DEEP, id="more than a parser has stack for"),
        pytest.param(b'{"model":"a","x":' + b"[" * 100_000, TOO_DEEP, id="never closed"),
        pytest.param(body(x=[[]] * 5000), Ask(model="chat"), id="wide"),
        pytest.param(body(x="[" * 5000), Ask(model="chat"), id="in a text"),
        pytest.param(body(x='\\"' + "[{" * 99), Ask(model="chat"), id="behind escaped quotes"),
        pytest.param(body(x=["\\", "[" * 99, '"']), Ask(model="chat"), id="behind a backslash"),
        pytest.param(
            body(x=['"', nested(70).decode(), "\n"], y=[[[1]]]), Ask(model="chat"), id="JSON inside"
        ),
        pytest.param(body(x="", y=["", ""] * 99 + [[]] * 99), Ask(model="chat"), id="empty texts"),
    ],
)
def test_depth_is_bounded(sent: bytes, expected: Ask | BadRequest) -> None:
    """64 levels are let through, 65 are not; brackets in texts are no levels."""
    assert told(read(CHAT, JSON, sent)) == told(expected)


@pytest.mark.parametrize(
    ("unit", "fits"),
    [
        pytest.param("[]", True, id="arrays"),
        pytest.param('{"a":"[{"}', True, id="objects"),
        pytest.param("[]", False, id="too many arrays"),
        pytest.param('{"a":"[{"}', False, id="too many objects"),
        pytest.param('["["]', False, id="too many texts with brackets"),
    ],
)
def test_the_number_of_parts_is_bounded(unit: str, fits: bool) -> None:
    """What would hold up all others for long is refused; brackets in texts are no parts."""
    count = MOST_PARTS - 2 if fits else 2 * MOST_PARTS + 1
    sent = b'{"model":"a","x":[%s]}' % ",".join([unit] * count).encode()
    assert told(read(CHAT, JSON, sent)) == told(
        Ask(model="a")
        if fits
        else BadRequest("request_too_large", "The body has more than 100,000 arrays and objects.")
    )


def test_the_number_of_values_beside_media_is_bounded() -> None:
    """Only a prompt with media is decoded; it may not take all others' time."""
    values = "1," * (10 * MOST_PARTS + 1)
    plain = b'{"model":"a","messages":[{"content":[%s1]}]}' % values.encode()
    assert isinstance(read(CHAT, JSON, plain), Ask)
    assert read(CHAT, JSON, plain.replace(b"1,", b'"_url",', 1)) == BadRequest(
        "request_too_large",
        "The body has more than 1,000,000 values in a prompt with media.",
    )


REMOTE = BadRequest(
    "remote_url_not_allowed",
    "A URL in 'messages' is not fetched here: send its content as a data: URL.",
    "messages",
)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"type": "image_url", "image_url": {"url": "http://host/a.png"}}, id="http"),
        pytest.param({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, id="file"),
        pytest.param({"type": "image_url", "image_url": "https://host"}, id="as a text"),
        pytest.param({"image_url": {"url": " data:x"}}, id="no type, and a blank before data:"),
        pytest.param({"type": "video_url", "video_url": {"url": "ftp://host"}}, id="video"),
        pytest.param({"type": "audio_url", "audio_url": {"url": "//host"}}, id="no scheme"),
        pytest.param({"type": "input_audio", "input_audio": {"url": "http://host"}}, id="audio"),
        pytest.param({"type": "input_audio", "input_audio": {"data": "http://h"}}, id="as data"),
        pytest.param({"type": "file", "file": {"file_data": "http://host/x"}}, id="file_data"),
        pytest.param({"type": "file", "file": {"file_url": "http://host/x"}}, id="file_url"),
        pytest.param([{"image_url": "x"}], id="deeper than it should be"),
    ],
)
def test_no_engine_is_sent_to_fetch(part: object) -> None:
    """An address in a prompt would be fetched by the engine, from inside (CVE-2026-24779)."""
    assert read(CHAT, JSON, with_part(part)) == REMOTE
    escaped = with_part(part).replace(b"_", b"\\u005f").replace(b"/", b"\\/")
    assert read(CHAT, JSON, escaped) == REMOTE


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"input": [{"type": "input_image", "image_url": "http://h"}]}, id="input"),
        pytest.param({"prompt": {"image_url": "http://h"}}, id="prompt"),
        pytest.param({"query": {"content": [{"image_url": {"url": "http://h"}}]}}, id="query"),
        pytest.param({"documents": ["a", {"content": [{"image_url": "h"}]}]}, id="documents"),
        pytest.param({"messages": {"content": [{"image_url": "h"}]}}, id="messages of no list"),
        pytest.param({"messages": [{"content": {"image_url": "h"}}]}, id="content of no list"),
        pytest.param({"messages": [1, {"content": [{"image_url": "h"}]}]}, id="a number as one"),
    ],
)
def test_wherever_it_is_written(fields: dict[str, object]) -> None:
    """All that an engine reads a prompt from is looked at; the field is named."""
    refused = read(CHAT, JSON, body(**fields))
    assert isinstance(refused, BadRequest)
    assert (refused.code, refused.param) == ("remote_url_not_allowed", next(iter(fields)))


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"type": "image_url", "image_url": {"url": "data:image/png,x"}}, id="1"),
        pytest.param({"type": "image_url", "image_url": {"url": "DATA:,"}}, id="upper case"),
        pytest.param({"type": "input_audio", "input_audio": {"data": "AAA="}}, id="audio"),
        pytest.param({"type": "file", "file": {"file_data": "data:x;,"}}, id="file"),
        pytest.param({"type": "file", "file": {"file_id": "f"}}, id="a file by its id"),
        pytest.param({"type": "image_url", "image_url": None}, id="nothing"),
        pytest.param({"type": "file", "file": "x"}, id="no file"),
        pytest.param({"text": "a", "source_url": "http://host"}, id="where a text is from"),
        pytest.param({"type": "text", "text": "see http://host/a_url"}, id="a text"),
        pytest.param({"annotations": [{"url_citation": {"url": "http://h"}}]}, id="cited"),
    ],
)
def test_what_is_in_the_body_passes(part: object) -> None:
    """Media that come with the request are let through, and what is none."""
    asked = read(CHAT, JSON, with_part(part))
    assert isinstance(asked, Ask)


def test_texts_are_not_decoded_to_look_for_media() -> None:
    """A prompt of one text holds no media, whatever it says."""
    asked = read(CHAT, JSON, body(messages=[{"content": '[{"image_url":"http://h"}]'}], input="{"))
    assert isinstance(asked, Ask)


@pytest.mark.parametrize(
    ("sent", "model", "stream", "usage", "expected"),
    [
        pytest.param(
            b'{ "model" : "a", "x": [1 , 2.50, 1e5], "s":"\\u00e9\\/" }',
            "b",
            None,
            False,
            b'{"model":"b","x":[1 , 2.50, 1e5],"s":"\\u00e9\\/"}',
            id="another model; all other values as they were",
        ),
        pytest.param(
            b'{"stream":false,"model":"a"}',
            None,
            True,
            False,
            b'{"stream":true,"model":"a"}',
            id="stream",
        ),
        pytest.param(
            b'{"model":"a","stream":true,"stream_options":{"x":[ 1 ],"include_usage":false}}',
            None,
            None,
            True,
            b'{"model":"a","stream":true,"stream_options":{"x":[ 1 ],"include_usage":true}}',
            id="usage, beside other options",
        ),
        pytest.param(
            b'{"model":"a","stream_options":null}',
            None,
            True,
            True,
            b'{"model":"a","stream_options":{"include_usage":true},"stream":true}',
            id="usage in place of null",
        ),
        pytest.param(
            b'{"model":"a"}',
            "b",
            True,
            True,
            b'{"model":"b","stream":true,"stream_options":{"include_usage":true}}',
            id="all of it",
        ),
        pytest.param(
            b'{"api_base":"http://h","model":"a","base_url":1,"user_config":{},"x":{"base_url":1}}',
            None,
            None,
            False,
            b'{"model":"a","x":{"base_url":1}}',
            id="dropped at the top, kept below",
        ),
        pytest.param(
            b'{"model":"a","api\\u005fbase":1}', None, None, False, b'{"model":"a"}', id="escaped"
        ),
    ],
)
def test_a_body_is_rewritten(
    sent: bytes, model: str | None, stream: bool | None, usage: bool, expected: bytes
) -> None:
    """Only what was asked for changes; order and all other bytes of values stay."""
    assert rewritten(sent, model, stream, usage) == expected


def test_what_needs_no_change_is_not_copied() -> None:
    """A body that may go as it is goes as it is."""
    sent = b'{ "model" : "a" , "text" : "api_base \\u00e9" }'
    assert rewritten(sent, None, None, False) is sent


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=4,
)
_NAMES = st.sampled_from(["model", "stream", "stream_options", "messages", "input", *DROPPED])
_BODIES = st.dictionaries(_NAMES | st.text(max_size=8), _VALUES, max_size=5)


@given(sent=st.binary(max_size=200), content_type=st.binary(max_size=20))
@example(sent=b'{"model":"\xed\xa0\x80"}', content_type=b"")
@example(sent=b'{"model":"a","input":[{"\\ud83d\\ude00_url":"\\u0000"}]}', content_type=b"")
def test_any_bytes_are_an_ask_or_refused(sent: bytes, content_type: bytes) -> None:
    """Nothing that a client sends raises."""
    found = read(CHAT, content_type, sent)
    assert isinstance(found, Ask) or found.code in FAULTS


@given(fields=_BODIES, ascii=st.booleans())
def test_any_object_is_an_ask_or_refused(fields: dict[str, Any], ascii: bool) -> None:
    """An object is read as Python reads it, or refused by a code of the table."""
    found = read(CHAT, JSON, json.dumps(fields, ensure_ascii=ascii).encode())
    if isinstance(found, BadRequest):
        assert found.code in FAULTS
    else:
        assert (found.model, found.stream) == (fields["model"], fields.get("stream") is True)
        assert found.drops == bool(set(DROPPED) & set(fields))


@given(
    fields=_BODIES,
    ascii=st.booleans(),
    model=st.none() | st.text(min_size=1, max_size=8),
    stream=st.none() | st.booleans(),
    usage=st.booleans(),
)
def test_all_else_is_kept(
    fields: dict[str, Any], ascii: bool, model: str | None, stream: bool | None, usage: bool
) -> None:
    """What comes out is valid JSON with what was asked for, and all other values byte for byte."""
    fields |= {"model": "a"}
    fields["stream_options"] = {"x": 1} if "stream_options" in fields else None
    values = {name: json.dumps(value, ensure_ascii=ascii) for name, value in fields.items()}
    sent = json.dumps(fields, ensure_ascii=ascii).encode()
    made = rewritten(sent, model, stream, usage)
    changed = {**fields}
    for name in DROPPED:
        changed.pop(name, None)
    if model is not None:
        changed["model"] = model
    if stream is not None:
        changed["stream"] = stream
    if usage:
        changed["stream_options"] = {**(fields["stream_options"] or {}), "include_usage": True}
    assert json.loads(made) == changed
    assert list(json.loads(made)) == list(changed)
    for name in fields.keys() - {"model", "stream", "stream_options", *DROPPED}:
        assert values[name].encode() in made


@given(depth=st.integers(1, 130), text=st.text(alphabet='[]{}"\\a', max_size=40))
def test_only_real_brackets_count(depth: int, text: str) -> None:
    """Depth is that of the JSON, whatever brackets, quotes and backslashes its texts hold."""
    value: Any = [text, text]
    for _ in range(depth - 2):
        value = [value, text] if len(text) % 2 else {text: value}
    found = read(CHAT, JSON, body(x=value if depth > 1 else text, filler=text * 9))
    assert told(found) == told(TOO_DEEP if depth + 1 > 65 else Ask(model="chat"))


#: Values that a prompt is made of, and that look like one; of fields that are looked at, all sorts.
_WRITTEN = st.sampled_from(
    [
        *('"a"', '""', "null", "[]", "{}", "7", "-1", "1.5", "true", "false", '"[{"', '"\\ud800"'),
        *('{"include_usage":true}', '{"include_usage":1}', '["a","b"]', "[1,2]", '[{"a":1}]'),
        *('[{"content":"a"}]', '[{"content":null},{"role":"user"}]', '[{"content":5}]', "[5]"),
        *('[{"content":[{"type":"text","text":"a"}]}]', '[{"content":[{"type":"text"}]}]'),
        '[{"content":[{"type":"text","text":"a","image_url":"http://h"}]}]',
        '[{"content":[{"type":"text","text":"a","image\\u005furl":"http://h"}]}]',
        '[{"content":[{"type":"image_url","image_url":{"url":"http://h"}}]}]',
        '[{"content":"a","content":[{"image_url":"http://h"}]}]',
        '[{"content":[{"image_url":"http://h"}],"content":"a"}]',
        *('[{"content":{"file":{"url":"http://h"}}}]', '{"image_url":"http://h"}'),
        "[" * 70 + "]" * 70,
    ]
)  # fmt: skip
_KEYS = st.sampled_from(
    [
        *("model", "stream", "stream_options", "prompt_cache_key", "messages", "prompt", "input"),
        *("query", "documents", *DROPPED, "mess\\u0061ges", "inp\\u0075t", "model ", "tools"),
    ]
)
_MEMBERS = st.lists(st.tuples(_KEYS, _WRITTEN), max_size=4)


@settings(max_examples=400)
@given(members=_MEMBERS, model=st.sampled_from(['"model":"a",', '"model":"",', ""]), cut=st.data())
def test_the_quick_way_says_what_the_careful_way_says(
    members: list[tuple[str, str]], model: str, cut: st.DataObject
) -> None:
    """Keys twice or with escapes, media in any place, a body cut short: none of it matters."""
    written = ",".join(f'"{key}": {value}' for key, value in members)
    sent = ("{" + model + (written or '"x":1') + "}").encode()
    read(CHAT, JSON, sent)
    at = cut.draw(st.integers(0, len(sent)))
    read(CHAT, JSON, sent[:at])
    read(CHAT, JSON, sent[:at] + cut.draw(st.binary(max_size=2)) + sent[at + 1 :])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param('"messages":[{"role":"user","content":"a"}]', True, id="a text"),
        pytest.param('"messages":[{"content":[{"type":"text","text":"a"}]}]', True, id="parts"),
        pytest.param('"messages":[{"content":"a"},{"tool_calls":[{}]}]', True, id="no content"),
        pytest.param('"prompt":"a"', True, id="prompt"),
        pytest.param('"input":["a","b"]', True, id="input of texts"),
        pytest.param('"query":"a","documents":["a"]', True, id="rerank"),
        pytest.param('"input":[1]', False, id="input of tokens"),
        pytest.param('"messages":[{"content":[{"type":"image_url"}]}]', False, id="media"),
        pytest.param('"api_base":null', False, id="what is dropped"),
    ],
)
def test_what_is_read_the_quick_way(prompt: str, expected: bool) -> None:
    """Texts alone are what engines are mostly asked."""
    try:
        read_texts(b'{"model":"a",%s}' % prompt.encode())
    except ValidationError:
        assert not expected
    else:
        assert expected


def test_large_bodies_are_read_the_careful_way() -> None:
    """Above the bound nothing is tried that may have to be done again."""
    sent = body(messages=[{"content": "a" * MOST_TEXTS_BYTES}])
    assert isinstance(read(CHAT, JSON, sent), Ask)
