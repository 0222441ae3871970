"""Events are cut where they end, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import sse

ONE = b'data: {"a": 1}\n\n'
TWO = b'data: {"b": 2}\n\n'


def fed(*pieces: bytes) -> list[bytes]:
    events = sse.Events()
    return [events.feed(piece) for piece in pieces]


@pytest.mark.parametrize(
    "whole",
    [ONE, ONE + TWO, b"data: 1\r\n\r\n", b"data: 1\r\r", sse.KEEP_ALIVE, sse.DONE],
    ids=["one", "two", "crlf", "cr", "comment", "done"],
)
def test_whole_events_pass_as_they_are(whole: bytes) -> None:
    """What ends with a blank line is not copied."""
    assert sse.Events().feed(whole) is whole


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param((ONE[:5], ONE[5:]), [b"", ONE], id="cut in its data"),
        pytest.param((ONE[:-1], b"\n"), [b"", ONE], id="cut in its end"),
        pytest.param((ONE + TWO[:3], TWO[3:]), [ONE, TWO], id="one and a half"),
        pytest.param((b"data: 1\r\n\r", b"\n"), [b"", b"data: 1\r\n\r\n"], id="cut in its crlf"),
        pytest.param((b"data: 1\r", b"\r"), [b"", b"data: 1\r\r"], id="cut in its cr"),
        pytest.param(
            (b"data: 1\n\ndata: 2\r\n\r\ndata", b": 3\n"),
            [b"data: 1\n\ndata: 2\r\n\r\n", b""],
            id="both kinds of end",
        ),
        pytest.param((b"data: 1\n", b"data: 2\n\n"), [b"", b"data: 1\ndata: 2\n\n"], id="lines"),
        pytest.param((b"", b""), [b"", b""], id="nothing"),
    ],
)
def test_an_event_waits_for_its_end(pieces: tuple[bytes, ...], expected: list[bytes]) -> None:
    """Bytes are held back until the event they belong to is whole."""
    assert fed(*pieces) == expected


def test_what_is_kept_can_be_asked_for() -> None:
    """A stream that ends between two events keeps nothing; one that is cut does."""
    events = sse.Events()
    events.feed(ONE + b"data: {")
    cut = events.kept
    events.feed(b"}\n\n")
    assert (cut, events.kept) == (7, 0)


def test_an_event_without_an_end_is_not_kept_for_ever() -> None:
    """At 1 MiB it is still held; one byte more is refused."""
    events = sse.Events()
    assert events.feed(b"x" * sse.MOST_KEPT_BYTES) == b""
    with pytest.raises(ValueError, match="1048576 bytes"):
        events.feed(b"x")


def test_a_long_event_may_come_in_many_pieces() -> None:
    """Half a megabyte in pieces of 64 bytes is one event."""
    body = b"data: " + b"x" * 500_000 + b"\n\n"
    got = fed(*(body[at : at + 64] for at in range(0, len(body), 64)))
    assert (b"".join(got), sum(map(bool, got))) == (body, 1)


EVENTS = st.lists(
    st.sampled_from(
        [
            ONE,
            b"event: x\ndata: 1\n\n",
            b"data: 1\r\n\r\n",
            b"data: 1\r\rdata: 2\r\r",
            b": a comment\n\n",
            b"id: 7\r\ndata: 1\r\ndata: 2\r\n\r\n",
        ]
    ),
    max_size=6,
)


@given(EVENTS, st.lists(st.integers(0, 200), max_size=12))
def test_however_it_is_cut_nothing_is_lost(events: list[bytes], cuts: list[int]) -> None:
    """All bytes come out in order, and each piece that comes out ends an event."""
    body = b"".join(events)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    got = fed(*(body[a:b] for a, b in pairwise(places)))
    assert b"".join(got) == body
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) for piece in got if piece)


@given(st.binary(max_size=60))
def test_any_bytes_are_split_and_joined_again(body: bytes) -> None:
    """Splitting loses nothing, events or not."""
    assert b"".join(sse.split(body)) == body


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(ONE, [ONE], id="one"),
        pytest.param(ONE + sse.KEEP_ALIVE + TWO, [ONE, sse.KEEP_ALIVE, TWO], id="three"),
        pytest.param(
            b"data: 1\r\n\r\ndata: 2\r\r" + ONE,
            [b"data: 1\r\n\r\n", b"data: 2\r\r", ONE],
            id="all ends",
        ),
        pytest.param(ONE + b"data: half", [ONE, b"data: half"], id="a half"),
    ],
)
def test_events_are_split(events: bytes, expected: list[bytes]) -> None:
    """Each event keeps the blank line that ends it."""
    assert sse.split(events) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(ONE, b'{"a": 1}', id="one line"),
        pytest.param(b"data:1\n\n", b"1", id="no space"),
        pytest.param(b"data:  1\n\n", b" 1", id="one space is taken off"),
        pytest.param(b"data: 1\r\n\r\n", b"1", id="crlf"),
        pytest.param(b"data: 1\r\r", b"1", id="cr"),
        pytest.param(b"data: 1\ndata: 2\n\n", b"1\n2", id="two lines"),
        pytest.param(b"event: done\nid: 1\ndata: 1\n\n", b"1", id="named"),
        pytest.param(b"data\n\n", b"", id="a field without a colon"),
        pytest.param(b"data: \n\n", b"", id="empty"),
        pytest.param(sse.KEEP_ALIVE, None, id="comment"),
        pytest.param(b"dataset: 1\n\n", None, id="another field"),
        pytest.param(sse.DONE, b"[DONE]", id="done"),
    ],
)
def test_what_an_event_carries(event: bytes, expected: bytes | None) -> None:
    """The lines of `data`, without the field's name and one space."""
    assert sse.data(event) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"error": {}}', b'data: {"error": {}}\n\n', id="one line"),
        pytest.param(b'{\n"error": 1}', b'data: {\ndata: "error": 1}\n\n', id="two lines"),
        pytest.param(b"", b"data: \n\n", id="empty"),
    ],
)
def test_an_error_is_one_event(body: bytes, expected: bytes) -> None:
    """However the body is laid out, the event carries all of it."""
    assert sse.error_event(body) == expected
    assert sse.data(expected) == b"\n".join(body.splitlines())


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        pytest.param(b":\n\n", True, id="llama.cpp's"),
        pytest.param(b": ping - 2026-11-21\r\n\r\n", True, id="sse-starlette's"),
        pytest.param(sse.KEEP_ALIVE + b":\n\n", True, id="two"),
        pytest.param(b":\n\n" + ONE, False, id="and an event"),
        pytest.param(b":\ndata: 1\n\n", False, id="within an event"),
        pytest.param(b": ping", False, id="half a comment"),
        pytest.param(ONE, False, id="an event"),
    ],
)
def test_what_is_comments_alone(piece: bytes, expected: bool) -> None:
    """Every line of it is one, and it is whole."""
    assert sse.comments(piece) is expected
