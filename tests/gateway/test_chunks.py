"""Chunks that come whole are told of as the parser would, and leave it where it was."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.chunks import alone, between, chunk, whole
from tests.gateway.test_upstream import OK, Told, asked

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = [(b"Transfer-Encoding", b"chunked")]
FIRST = b"3\r\none\r\n"
LONG = b"1A\r\n" + b"x" * 26 + b"\r\n"
LAST = b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "content"),
    [
        pytest.param(FIRST, b"one", id="one"),
        pytest.param(LONG, b"x" * 26, id="two digits"),
        pytest.param(LONG.replace(b"A", b"a"), b"x" * 26, id="a small digit"),
        pytest.param(b"0" + FIRST, b"one", id="a zero before"),
        pytest.param(FIRST + b"3", b"one", id="something behind"),
        pytest.param(LAST, b"", id="the last"),
        pytest.param(FIRST[:-1], b"", id="not all of it"),
        pytest.param(FIRST[:2], b"", id="not all of its size"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"\r\none\r\n", b"", id="no size"),
        pytest.param(b"3;a=b\r\none\r\n", b"", id="an extension"),
        pytest.param(b" 3\r\none\r\n", b"", id="a blank"),
        pytest.param(b"g\r\none\r\n", b"", id="no digit"),
        pytest.param(b"3\rnone\r\n", b"", id="half a line end"),
        pytest.param(b"3\n\none\r\n", b"", id="another line end"),
        pytest.param(b"3\r\none!\n", b"", id="content that goes on"),
        pytest.param(b"3\r\none\r!", b"", id="no end of the content"),
        pytest.param(b"0000" + b"3\r\n" + b"one\r\n", b"one", id="as many digits as may be"),
        pytest.param(b"000003\r\none\r\n", b"", id="more digits"),
    ],
)
def test_chunk(data: bytes, content: bytes) -> None:
    for before in (b"", b"3\r\n"):
        begins, ends = chunk(before + data, len(before))
        assert (before + data)[begins:ends] == content


@pytest.mark.parametrize("size", [1, 15, 16, 17, 254, 255, 256, 257, 1023, 1024, 4096])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_alone(size: int, more: int) -> None:
    """What is found at once is one chunk, and nothing more."""
    data = b"%x\r\n%s\r\n" % (size, b"x" * (size + more))
    assert alone(data) == (chunk(data, 0)[0] if 16 <= size < 1024 else 0)
    assert (alone(data) > 0) == (more == 0 and 16 <= size < 1024)
    assert alone(data[:-1] + b"!") == alone(data[:-2] + b"!\n") == alone(b"+" + data[1:]) == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", True, id="nothing"),
        pytest.param(FIRST + LONG, True, id="two"),
        pytest.param(FIRST + LONG[:-1], False, id="one and a half"),
        pytest.param(FIRST + LAST, False, id="the end"),
    ],
)
def test_whole(data: bytes, said: bool) -> None:
    assert whole(data, 0) is said


@pytest.mark.parametrize(
    ("data", "headers", "said"),
    [
        pytest.param(HEAD, CHUNKED, True, id="a head"),
        pytest.param(HEAD + FIRST, [(b"transfer-encoding", b"Chunked")], True, id="and a chunk"),
        pytest.param(HEAD + FIRST[:-1], CHUNKED, False, id="and not all of a chunk"),
        pytest.param(HEAD[:-2], CHUNKED, False, id="not all of a head"),
        pytest.param(HEAD, [], False, id="another framing"),
        pytest.param(HEAD, [(b"transfer-encoding", b"gzip, chunked")], False, id="a coding more"),
        pytest.param(HEAD, CHUNKED * 2, False, id="said twice"),
        pytest.param(b"A: b\n\n10\r\nxy\r\n\r\n3\r\none\r\n", CHUNKED, False, id="lone feeds"),
    ],
)
def test_between(data: bytes, headers: list[tuple[bytes, bytes]], said: bool) -> None:
    assert between(data, headers) is said


def told(pieces: list[bytes], *, quick: bool, drops: int = 0) -> list[Any]:
    """Return what is told of pieces, and what becomes of their connection."""
    connection, wire, taker = asked()
    bodies = []

    def body(data: bytes) -> None:
        bodies.append(data)
        Told.body(taker, data)
        if len(bodies) == drops:
            connection.drop()

    taker.body = body  # type: ignore[method-assign]
    for piece in pieces:
        if not quick:
            connection._between = False
        connection.data_received(piece)
    kept = connection in connection._replica.idle
    connection.connection_lost(None)
    return [taker.events, wire.aborted, kept]


WHOLE = st.sampled_from(
    (
        FIRST,
        LONG,
        LONG.replace(b"A", b"a"),
        b"02\r\n\r\n\r\n",
        b"2;a\r\nok\r\n",
        b"5\r\n0\r\n\r\n\r\n",
    )
)
OTHER = st.sampled_from((LAST, b"0\r\nA: b\r\n\r\n", b"3\r\n", b"x", b"\n", b"-1\r\n", OK, b"1"))


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Return a stream in pieces, of which most are whole chunks."""
    heads = (HEAD, HEAD + FIRST, HEAD.replace(b"\r\n", b"\n"), HEAD + LONG[:9], HEAD[:20])
    pieces = [draw(st.sampled_from(heads))]
    for part in draw(st.lists(st.one_of(WHOLE, WHOLE, OTHER), max_size=9)):
        cut = draw(st.integers(0, len(part))) if draw(st.integers(0, 4)) == 0 else 0
        if draw(st.booleans()):
            pieces[-1] += part[:cut]
            pieces.append(part[cut:])
        else:
            pieces[-1] += part
    return [piece for piece in (*pieces, draw(st.sampled_from((LAST, b"")))) if piece]


@given(pieces=streams(), drops=st.integers(0, 4))
def test_told_as_by_the_parser(pieces: list[bytes], drops: int) -> None:
    """Whatever comes in whichever pieces, chunks that come whole change nothing of it."""
    quick = told(pieces, quick=True, drops=drops)
    assert quick == told(pieces, quick=False, drops=drops)


def test_the_parser_is_spared() -> None:
    """Of chunks that come whole it sees the end alone."""
    connection, _, taker = asked()
    connection.data_received(HEAD + FIRST)
    parser, connection._parser = connection._parser, cast(Any, None)
    connection.data_received(LONG)
    connection.data_received(FIRST + FIRST)
    connection._parser = parser
    connection.data_received(FIRST + LAST)
    assert taker.events == [200, b"one", b"x" * 26, *[b"one"] * 3, "ended"]
    assert connection in connection._replica.idle


def test_a_fault_of_ours() -> None:
    """It is told to the event loop, and ends the connection."""
    connection, wire, taker = asked()
    connection.data_received(HEAD)

    def fails(data: bytes) -> None:
        raise RuntimeError

    taker.body = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        connection.data_received(FIRST)
    assert taker.events == [200, ("malformed", False, False)]
    assert wire.aborted
