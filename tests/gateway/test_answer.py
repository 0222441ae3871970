"""Answers that have no body, however they come: to HEAD, and by their status."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gpuctl.gateway.answer import JSON, Answer
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.record import Record
from gpuctl.gateway.request import Request

HEAD_204 = b"HTTP/1.1 204 No Content\r\nx-request-id: r-1\r\ndate: now\r\n"


class Wire:
    """The client's connection."""

    gateway = SimpleNamespace(date=b"date: now\r\n")

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
        b"HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ndate: now\r\n"
        b"content-type: application/json\r\n" + framing
    )
    assert wire.kept is kept


@pytest.mark.parametrize("length", [None, b"5"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_no_content_has_no_framing(length: bytes | None, version: str) -> None:
    """RFC 9112, 6.1: a 204 in chunks would end the connection's order: its end is no answer."""
    wire, request = Wire(), Request()
    request.version = version
    answer = Answer(cast(Client, wire), request, Record(id="r-1", at=0.0, began=0.0))
    answer.head(204, (), length)
    answer.finish()
    kept = b"connection: keep-alive\r\n" if version == "1.0" else b""
    assert wire.sent == HEAD_204 + kept + b"\r\n"
    assert wire.kept is True


def test_not_modified_tells_the_length_of_what_was_not_sent() -> None:
    """RFC 9110, 8.6."""
    wire = Wire()
    answer = Answer(cast(Client, wire), Request(), Record(id="r-1", at=0.0, began=0.0))
    answer.head(304, (), b"5")
    answer.finish()
    assert wire.sent.endswith(b"content-length: 5\r\n\r\n")
    assert wire.kept is True


def test_whole_without_content() -> None:
    """What an engine has nothing to say to is passed on as that."""
    wire = Wire()
    answer = Answer(cast(Client, wire), Request(), Record(id="r-1", at=0.0, began=0.0))
    answer.whole(204, (), b"")
    assert wire.sent == HEAD_204 + b"\r\n"
