"""Answers to HEAD: the head alone, however the answer comes."""

from __future__ import annotations

from typing import cast

import pytest

from gpuctl.gateway.answer import JSON, Answer
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.record import Record
from gpuctl.gateway.request import Request


class Wire:
    """The client's connection."""

    def __init__(self) -> None:
        self.sent = b""
        self.kept: bool | None = None

    def write(self, data: bytes) -> None:
        self.sent += data

    def finish(self, *, keep_alive: bool) -> None:
        self.kept = keep_alive


@pytest.mark.parametrize(
    ("length", "framing", "kept"),
    [
        pytest.param(b"11", b"content-length: 11\r\n\r\n", True, id="length known"),
        pytest.param(None, b"connection: close\r\n\r\n", False, id="length unknown"),
    ],
)
def test_head_gets_no_byte_of_a_body(length: bytes | None, framing: bytes, kept: bool) -> None:
    """What follows the head on the connection would be read as the next answer."""
    wire, request = Wire(), Request()
    request.method = b"HEAD"
    answer = Answer(cast(Client, wire), request, Record(id="r-1", at=0.0, began=0.0))
    answer.head(200, JSON, length)
    answer.piece(b"hello ")
    answer.piece(b"world")
    answer.finish()
    assert wire.sent == (
        b"HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ncontent-type: application/json\r\n" + framing
    )
    assert wire.kept is kept
