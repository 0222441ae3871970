"""The bytes that a replica is sent."""

from __future__ import annotations

import pytest

from gpuctl.gateway.asked import Asked


@pytest.mark.parametrize(
    ("collect", "body"),
    [
        pytest.param(False, b"{}", id="as asked"),
        pytest.param(True, b'{"stream":true}', id="collected"),
    ],
)
def test_request(collect: bool, body: bytes) -> None:
    """A replica is sent its own address and key, the request's name, and the body it should get."""
    asked = Asked("whole", b"POST /v1/completions", b"content-type: a/b\r\n", b"{}")
    asked.collected_body = b'{"stream":true}'
    assert asked.to(b"h:1", b"authorization: Bearer k\r\n", b"req-1", collect=collect) == (
        b"POST /v1/completions HTTP/1.1\r\nhost: h:1\r\ncontent-type: a/b\r\n"
        b"authorization: Bearer k\r\nx-request-id: req-1\r\ncontent-length: %d\r\n\r\n%s"
        % (len(body), body)
    )
