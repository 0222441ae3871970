"""Which headers go on, and which come back."""

from __future__ import annotations

import pytest

from gpuctl.gateway import heads


def test_inference() -> None:
    """An engine gets the type of the body and the trace; nothing else of the client's."""
    head = {
        b"content-type": b"application/json; charset=utf-8",
        b"authorization": b"Bearer secret",
        b"traceparent": b"00-1-2-01",
        b"x-forwarded-host": b"evil",
    }
    assert heads.inference(head) == (
        b"content-type: application/json; charset=utf-8\r\ntraceparent: 00-1-2-01\r\n"
    )


def test_inference_without_type() -> None:
    """Without a type it is JSON."""
    assert heads.inference({}) == b"content-type: application/json\r\n"


def test_passed_on() -> None:
    """Another service gets what is neither of this connection nor between client and gateway."""
    headers = [
        (b"host", b"here"),
        (b"connection", b"keep-alive"),
        (b"authorization", b"Bearer secret"),
        (b"x-api-key", b"secret"),
        (b"cookie", b"a=b"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"accept-encoding", b"gzip"),
        (b"content-type", b"application/pdf"),
        (b"x-page", b"3"),
    ]
    assert heads.passed_on(headers) == b"content-type: application/pdf\r\nx-page: 3\r\n"


def test_named_by_connection() -> None:
    """What Connection names is of that connection, and goes neither way."""
    headers = [(b"connection", b"close, X-Own"), (b"x-own", b"1"), (b"x-page", b"3")]
    assert heads.passed_on(headers) == b"x-page: 3\r\n"
    assert heads.passed_back(headers) == ((b"x-page", b"3"),)


def test_content_type() -> None:
    """Of an engine's answer only the type comes back, as it was written."""
    assert heads.content_type([(b"Server", b"llama.cpp"), (b"Content-Type", b"a/b")]) == (
        (b"content-type", b"a/b"),
    )
    assert heads.content_type([(b"Server", b"llama.cpp")]) == ()


def test_json_is_one_object() -> None:
    """What most answers are is known by being it."""
    assert heads.content_type([(b"content-type", b"application/json")]) is heads.JSON


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 10**9])
def test_ending(size: int) -> None:
    """The length of what follows, then the empty line, whether it was made before or is now."""
    assert heads.ending(size) == f"content-length: {size}\r\n\r\n".encode()


def test_passed_back() -> None:
    """Of another service's answer everything but its connection and its name."""
    headers = [
        (b"Transfer-Encoding", b"chunked"),
        (b"Server", b"x"),
        (b"X-Request-Id", b"theirs"),
        (b"ETag", b"1"),
    ]
    assert heads.passed_back(headers) == ((b"ETag", b"1"),)
