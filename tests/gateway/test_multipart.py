"""What is read of a form, what is refused, and what an engine gets of it."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuctl.gateway.bodies import Ask, BadRequest
from gpuctl.gateway.multipart import MOST_PARTS, read, rewritten
from gpuctl.gateway.openai_errors import FAULTS
from tests.gateway.asks import told

TYPE = b"multipart/form-data; boundary=xyz"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def part(name: str, value: bytes) -> tuple[bytes, bytes]:
    return f'Content-Disposition: form-data; name="{name}"'.encode(), value


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"xyz") -> bytes:
    made = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, *each) for each in parts)
    return made + b"--%s--\r\n" % boundary


SOUND = (FILE, b"RIFF\r\n\r\n--xy\r\n\x00\xff")
MODEL = part("model", b"whisper")


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param(TYPE, form(SOUND, MODEL), Ask(model="whisper"), id="model last"),
        pytest.param(TYPE, form(MODEL, SOUND), Ask(model="whisper"), id="model first"),
        pytest.param(
            TYPE,
            form(SOUND, MODEL, part("stream", b"true")),
            Ask(model="whisper", stream=True),
            id="stream",
        ),
        pytest.param(
            TYPE,
            form(MODEL, part("stream", b"False")),
            Ask(model="whisper"),
            id="no stream",
        ),
        pytest.param(
            b'Multipart/Form-Data ;charset=utf-8; Boundary="a b:c"',
            form(MODEL, boundary=b"a b:c"),
            Ask(model="whisper"),
            id="a quoted boundary",
        ),
        pytest.param(
            TYPE,
            form((b'Content-Type: text/plain\r\ncontent-disposition:form-data;name="model"', b"m")),
            Ask(model="m"),
            id="other headers, other case",
        ),
        pytest.param(
            TYPE,
            form((b'Content-Disposition: form-data; filename="x"; name="model"', b"m")),
            Ask(model="m"),
            id="name behind filename",
        ),
        pytest.param(
            TYPE,
            form(part("timestamp_granularities[]", b"a"), part("model", "é/q".encode())),
            Ask(model="é/q"),
            id="UTF-8",
        ),
        pytest.param(TYPE, form(MODEL)[:-2], Ask(model="whisper"), id="no last CRLF"),
    ],
)
def test_a_form_is_read(content_type: bytes, body: bytes, expected: Ask) -> None:
    """The two fields that routing needs are found, wherever they stand."""
    assert told(read(content_type, body)) == told(expected)


def test_the_form_of_a_real_client_is_read() -> None:
    """What httpx, which the openai client sends with, makes of a form is understood."""
    request = httpx.Request(
        "POST",
        "http://gateway/v1/audio/transcriptions",
        data={"model": "whisper", "stream": "true", "language": "en"},
        files={"file": ("a.wav", b"RIFF\r\n--\x00", "audio/wav")},
    )
    found = read(request.headers["content-type"].encode(), request.read())
    assert told(found) == told(Ask(model="whisper", stream=True))


def invalid(what: str, param: str | None = None) -> BadRequest:
    return BadRequest("invalid_multipart", what, param)


NO_MODEL = BadRequest("missing_required_parameter", "You must provide a model parameter.", "model")
NO_FORM = BadRequest("unsupported_media_type", "This endpoint takes a multipart/form-data body.")


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param(b"", form(MODEL), NO_FORM, id="no type"),
        pytest.param(b"application/json", b"{}", NO_FORM, id="JSON"),
        pytest.param(b"multipart/mixed; boundary=xyz", form(MODEL), NO_FORM, id="another type"),
        pytest.param(
            b"multipart/form-data; charset=x",
            form(MODEL),
            invalid("The Content-Type has no proper boundary."),
            id="no boundary",
        ),
        pytest.param(
            b"multipart/form-data; boundary=" + b"x" * 71,
            form(MODEL, boundary=b"x" * 71),
            invalid("The Content-Type has no proper boundary."),
            id="too long a boundary",
        ),
        pytest.param(
            b"multipart/form-data; boundary=xyz; boundary=abc",
            form(MODEL),
            invalid("The Content-Type has no proper boundary."),
            id="two boundaries",
        ),
        pytest.param(TYPE, form(SOUND), NO_MODEL, id="no model"),
        pytest.param(TYPE, form(part("model", b"")), NO_MODEL, id="an empty model"),
        pytest.param(
            TYPE,
            form(part("model", b"\xff")),
            BadRequest("invalid_type", "Invalid type for 'model': not UTF-8.", "model"),
            id="not UTF-8",
        ),
        pytest.param(
            TYPE, form(MODEL, MODEL), invalid("The form has 'model' twice.", "model"), id="twice"
        ),
        pytest.param(
            TYPE,
            form(MODEL, part("stream", b"true"), part("stream", b"false")),
            invalid("The form has 'stream' twice.", "stream"),
            id="stream twice",
        ),
        pytest.param(
            TYPE,
            form(part("model", b"x" * 257)),
            invalid("The value of 'model' is long.", "model"),
            id="a long model",
        ),
        pytest.param(TYPE, b"", invalid("The form does not begin with its boundary."), id="empty"),
        pytest.param(
            TYPE,
            form(MODEL, boundary=b"abc"),
            invalid("The form does not begin with its boundary."),
            id="another boundary",
        ),
        pytest.param(TYPE, form(SOUND, MODEL)[:-12], invalid("The form is cut short."), id="cut"),
        pytest.param(
            TYPE,
            form((b"Content-Disposition: form-data", b"x")),
            invalid("The form has a part without a name."),
            id="no name",
        ),
        pytest.param(
            TYPE,
            form((b'Content-Disposition: attachment; name="model"', b"x")),
            invalid("The form has a part without a name."),
            id="no form-data",
        ),
        pytest.param(
            TYPE,
            form((b"X: " + b"y" * 5000, b"x")),
            invalid("The form has a part without a proper head."),
            id="a long head",
        ),
        pytest.param(
            TYPE,
            b"--xyz\nContent-Disposition: form-data",
            invalid("The form has a broken boundary."),
            id="bare LF",
        ),
        pytest.param(
            TYPE,
            form(*[part("a", b"")] * (MOST_PARTS + 1)),
            invalid(f"The form has more than {MOST_PARTS} parts."),
            id="too many parts",
        ),
    ],
)
def test_a_bad_form_is_refused(content_type: bytes, body: bytes, expected: BadRequest) -> None:
    """What two servers could read differently, or not at all, is refused."""
    assert read(content_type, body) == expected


def test_a_form_gets_another_model() -> None:
    """An alias is replaced by the model's name; every other byte stays."""
    stream, language = part("stream", b"true"), part("language", b"model")
    sent = form(SOUND, stream, MODEL, language)
    assert rewritten(TYPE, sent, "whisper-large") == form(
        SOUND, stream, part("model", b"whisper-large"), language
    )


@pytest.mark.parametrize(
    "body", [pytest.param(form(SOUND), id="no model"), pytest.param(b"--", id="no form")]
)
def test_what_has_no_model_stays_as_it_is(body: bytes) -> None:
    """There is nothing to replace."""
    assert rewritten(TYPE, body, "whisper") is body


@given(body=st.binary(max_size=300), content_type=st.just(TYPE) | st.binary(max_size=60))
@example(body=b"--xyz--", content_type=TYPE)
def test_any_bytes_are_an_ask_or_refused(body: bytes, content_type: bytes) -> None:
    """Nothing that a client sends raises."""
    found = read(content_type, body)
    assert isinstance(found, Ask) or found.code in FAULTS


_CUTS = st.sampled_from(
    [b"--xyz", b"--", b"\r\n", b"\r\n\r\n", FILE, MODEL[0], b"m", b"\xff", b":"]
)


@given(pieces=st.lists(_CUTS, max_size=20))
def test_pieces_of_forms_are_an_ask_or_refused(pieces: list[bytes]) -> None:
    """Nor does anything that looks like a form."""
    body = b"--xyz\r\n" + b"".join(pieces)
    found = read(TYPE, body)
    if isinstance(found, Ask):
        assert found.model.encode() in body
        renamed = read(TYPE, rewritten(TYPE, body, "another"))
        found.model = "another"
        assert told(renamed) == told(found)
    else:
        assert found.code in FAULTS
