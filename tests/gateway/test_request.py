"""Requests, and answers that no request is behind."""

from __future__ import annotations

from gpuctl.gateway import openai_errors, request


def test_the_last_answer_of_a_connection() -> None:
    """It is whole, and says that the connection ends with it."""
    refused = openai_errors.answer("invalid_http")
    head, _, body = request.last(refused).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert lines == [
        *(b"%s: %s" % header for header in refused.headers),
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    assert body == refused.body


def test_one_that_nothing_was_read_of() -> None:
    """Until its head says otherwise it is of HTTP/1.1, and keeps its connection."""
    fresh = request.Request()
    assert (fresh.http11, fresh.keep_alive, fresh.body, fresh.headers) == (True, True, b"", [])
