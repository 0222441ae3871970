"""Requests, and answers that no request is behind."""

from __future__ import annotations

import pytest

from gpuctl.gateway import openai_errors, request
from gpuctl.gateway.terms import Terms
from gpuctl.model import GatewaySettings, LimitSettings


def test_the_last_answer_of_a_connection() -> None:
    """It is whole, and says that the connection ends with it."""
    refused = openai_errors.answer("invalid_http")
    head, _, body = request.last(refused, "req-1", b"date: now\r\n").partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert lines == [
        b"x-request-id: req-1",
        b"date: now",
        *(b"%s: %s" % header for header in refused.headers),
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    assert body == refused.body


def test_one_that_nothing_was_read_of() -> None:
    """Until its head says otherwise it is of HTTP/1.1, and keeps its connection."""
    fresh = request.Request(request.Head())
    assert (fresh.head.http11, fresh.keep_alive, fresh.body, fresh.head.headers) == (
        True,
        True,
        b"",
        [],
    )


def asked(head: dict[bytes, bytes]) -> request.Request:
    made = request.Request(request.Head())
    for name, value in head.items():
        assert made.take(name, value)
    return made


TERMS = Terms(GatewaySettings(limits=LimitSettings(head_bytes=100, headers=3, body_bytes=10)))


@pytest.mark.parametrize(
    ("version", "head", "code"),
    [
        pytest.param("1.1", {b"host": b"a"}, "", id="no body"),
        pytest.param("1.0", {}, "", id="HTTP/1.0 needs no host"),
        pytest.param("1.1", {b"host": b"a", b"content-length": b"10"}, "", id="a length"),
        pytest.param("1.1", {b"host": b"a", b"transfer-encoding": b"Chunked"}, "", id="chunked"),
        pytest.param("1.1", {}, "invalid_http", id="no host"),
        pytest.param("2.0", {b"host": b"a"}, "invalid_http", id="HTTP/2"),
        pytest.param("1.0", {b"transfer-encoding": b"chunked"}, "invalid_http", id="chunked 1.0"),
        pytest.param(
            "1.1", {b"host": b"a", b"transfer-encoding": b"gzip"}, "invalid_http", id="coding"
        ),
        pytest.param(
            "1.1",
            {b"host": b"a", b"transfer-encoding": b"chunked", b"content-length": b"1"},
            "invalid_http",
            id="both",
        ),
        pytest.param("1.1", {b"host": b"a", b"content-length": b"+1"}, "invalid_http", id="sign"),
        pytest.param(
            "1.1", {b"host": b"a", b"content-length": b"0" * 19}, "invalid_http", id="digits"
        ),
        pytest.param(
            "1.1", {b"host": b"a", b"content-length": b"11"}, "request_too_large", id="long"
        ),
        pytest.param(
            "1.1", dict.fromkeys((b"host", b"b", b"c", b"d"), b"a"), "headers_too_large", id="many"
        ),
    ],
)
def test_fault(version: str, head: dict[bytes, bytes], code: str) -> None:
    """A head that two readers could read in two ways, or that is too much, is no request."""
    made = asked(head)
    made.head.version = version
    assert (made.fault(TERMS, 100) or ("", ""))[0] == code
    assert made.fault(TERMS, 101) == (
        "headers_too_large",
        "the head of a request may have 100 bytes",
    )


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        pytest.param({}, b"", id="none"),
        pytest.param({b"content-length": b"00"}, b"", id="nothing"),
        pytest.param({b"content-length": b"20"}, b"content-length: 20\r\n", id="length"),
        pytest.param(
            {b"transfer-encoding": b"chunked"}, b"transfer-encoding: chunked\r\n", id="chunked"
        ),
    ],
)
def test_framing(head: dict[bytes, bytes], framing: bytes) -> None:
    """How long its body is, in the words of its head."""
    made = asked(head)
    assert made.framing == framing


def test_what_is_looked_at() -> None:
    """Of a head's fields, as they were sent; the endpoint where the table has it as it is."""
    made = request.Head()
    made.method, made.target = b"POST", b"/v1/completions"
    made.fields = {
        b"content-type": b"a/b", b"content-encoding": b"gzip", b"x-request-id": b"mine",
        b"idempotency-key": b"once", b"x-gpuctl-priority": b"3", b"x-session-id": b"talk",
    }  # fmt: skip
    made.look()
    assert made.endpoint is not None
    assert made.endpoint.name == "/v1/completions"
    assert made.lines == b"content-type: a/b\r\n"
    assert (made.content_type, made.encoded, made.id) == (b"a/b", True, b"mine")
    assert (made.idempotency_key, made.priority, made.session) == (b"once", b"3", b"talk")


def test_what_is_not_there() -> None:
    """A field that was not sent is not taken for an empty one."""
    made = request.Head()
    made.method, made.target = b"GET", b"/v1/completions?x"
    made.look()
    assert (made.endpoint, made.content_type, made.encoded, made.id) == (None, b"", False, None)
    assert (made.idempotency_key, made.priority, made.session) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        pytest.param(b"content-length", False, id="length"),
        pytest.param(b"transfer-encoding", False, id="coding"),
        pytest.param(b"authorization", False, id="key"),
        pytest.param(b"x-own", True, id="any other"),
    ],
)
def test_a_header_twice(name: bytes, again: bool) -> None:
    """Most may come again, and the first counts; a few would be read in two ways."""
    made = request.Request(request.Head())
    assert made.take(name, b"1")
    assert made.take(name, b"2") is again
    if again:
        assert made.head.fields == {name: b"1"}
        assert made.head.headers == [(name, b"1"), (name, b"2")]
