"""Answers that have no body, however they come: to HEAD, and by their status."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.answer import APART_BYTES, Answer
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.heads import JSON, Given
from gpuctl.gateway.record import Record
from gpuctl.gateway.replica import Replica
from gpuctl.gateway.request import Head, Request

HEAD_204 = b"HTTP/1.1 204 No Content\r\nx-request-id: r-1\r\ndate: now\r\n"


class Wire:
    """The client's connection."""

    gateway = SimpleNamespace(date=b"date: now\r\n")

    def __init__(self) -> None:
        self.sent = b""
        self.writes: list[bytes] = []
        self.kept: bool | None = None

    def write(self, data: bytes) -> None:
        self.sent += data
        self.writes.append(data)

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
    wire, request = Wire(), Request(Head())
    request.head.method = b"HEAD"
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
    wire, request = Wire(), Request(Head())
    request.head.version = version
    answer = Answer(cast(Client, wire), request, Record(id="r-1", at=0.0, began=0.0))
    answer.head(204, (), length)
    answer.finish()
    kept = b"connection: keep-alive\r\n" if version == "1.0" else b""
    assert wire.sent == HEAD_204 + kept + b"\r\n"
    assert wire.kept is True


def test_not_modified_tells_the_length_of_what_was_not_sent() -> None:
    """RFC 9110, 8.6."""
    wire = Wire()
    answer = Answer(cast(Client, wire), Request(Head()), Record(id="r-1", at=0.0, began=0.0))
    answer.head(304, (), b"5")
    answer.finish()
    assert wire.sent.endswith(b"content-length: 5\r\n\r\n")
    assert wire.kept is True


def test_whole_without_content() -> None:
    """What an engine has nothing to say to is passed on as that."""
    wire = Wire()
    answer = Answer(cast(Client, wire), Request(Head()), Record(id="r-1", at=0.0, began=0.0))
    answer.whole(204, (), b"")
    assert wire.sent == HEAD_204 + b"\r\n"


SECONDS = st.floats(0, 100_000)


@given(
    queued=SECONDS, more=SECONDS, status=st.sampled_from([200, 500, 799]),
    headers=st.sampled_from([JSON, tuple(JSON), ((b"a", b"b"), (b"c", b"d")), ()]),
    body=st.binary(max_size=20), extra=st.sampled_from([b"", b"x-a: 1\r\n"]),
    version=st.sampled_from(["1.0", "1.1"]), keep_alive=st.booleans(),
    replica=st.sampled_from(["", "chat-0"]),
)  # fmt: skip
def test_a_whole_answer(
    queued: float, more: float, status: int, headers: Given, body: bytes, extra: bytes,
    version: str, keep_alive: bool, replica: str,
) -> None:  # fmt: skip
    """Its lines, in their order; the times to a tenth of a millisecond."""
    wire, request = Wire(), Request(Head())
    request.head.version, request.keep_alive = version, keep_alive
    record = Record(id="r-1", at=0.0, began=0.0)
    record.queued_seconds, record.seconds = queued, queued + more
    record.signature = Replica(replica, "chat", Gate(1, 30.0)).signature
    answer = Answer(cast(Client, wire), request, record)
    answer.extra = extra
    answer.whole(status, headers, body)
    total, waited = int(record.seconds * 10_000), int(queued * 10_000)
    phrase = {200: "OK", 500: "Internal Server Error", 799: "Unknown"}[status]
    lines = [f"HTTP/1.1 {status} {phrase}", "x-request-id: r-1", "date: now"]
    if replica:
        lines += [
            f"x-gpuctl-replica: {replica}",
            f"server-timing: queue;dur={waited // 10}.{waited % 10}, "
            f"upstream;dur={(total - waited) // 10}.{(total - waited) % 10}",
            f"openai-processing-ms: {total // 10}",
        ]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in headers]
    if not keep_alive:
        lines.append("connection: close")
    elif version == "1.0":
        lines.append("connection: keep-alive")
    lines += [*extra.decode().splitlines(), f"content-length: {len(body)}", "", ""]
    assert wire.sent == "\r\n".join(lines).encode() + body
    assert (record.status, record.response_bytes, wire.kept) == (status, len(body), keep_alive)


def test_what_is_large_is_not_copied() -> None:
    """It goes out as it is, in its framing; what is small goes in one piece with that."""
    small, large = bytes(APART_BYTES - 1), bytes(APART_BYTES)
    for body, pieces in ((small, 1), (large, 2)):
        wire = Wire()
        record = Record(id="r-1", at=0.0, began=0.0)
        Answer(cast(Client, wire), Request(Head()), record).whole(200, JSON, body)
        assert (len(wire.writes), wire.writes[-1] is body) == (pieces, body is large)
        assert wire.sent.endswith(b"content-length: %d\r\n\r\n%s" % (len(body), body))
    wire = Wire()
    answer = Answer(cast(Client, wire), Request(Head()), Record(id="r-1", at=0.0, began=0.0))
    answer.head(200, JSON)
    answer.piece(small)
    answer.piece(large)
    assert len(wire.writes) == 5
    assert wire.writes[3] is large
    assert wire.sent.endswith(b"\r\nffff\r\n%s\r\n10000\r\n%s\r\n" % (small, large))
