"""An answer whose head has come before is taken as the parser would take it, or left to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.gate import Gate
from gpuctl.gateway.same_answer import SameAnswer, learned
from tests.gateway.test_attempt import Bench

BODY = b'{"choices":[{"text":"a"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
MONDAY = b"Mon, 03 Nov 2025 08:49:37 GMT"
LATER = b"Tue, 04 Nov 2025 18:00:01 GMT"


def answer(
    *lines: bytes, body: bytes = BODY, length: bytes | None = None, status: bytes = b"200 OK"
) -> bytes:
    """Return an answer; of its header lines, `LENGTH` stands for that of its length."""
    told = b"Content-Length: " + (b"%d" % len(body) if length is None else length)
    lines = tuple(told if line == b"LENGTH" else line for line in lines)
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", body))


LENGTH, TYPE = b"LENGTH", b"Content-Type: application/json"
PLAIN = answer(TYPE, LENGTH, b"Server: a")
DATED = answer(b"date: " + MONDAY, b"server: uvicorn", LENGTH, TYPE)
LATE = answer(TYPE, LENGTH, b"Date: " + MONDAY, b"Connection: keep-alive")
#: What the first answer is, for all that follow.
FIRST = (PLAIN, DATED, LATE)


def told(answers: Iterable[tuple[bytes, ...]], *, learns: bool) -> list[Any]:
    """
    Return all that becomes of answers, each to a request of its own and in pieces of its own.

    They come over one connection for as long as that is kept.
    """
    bench, made = Bench(opened=False), []
    kept = bench.connection()
    bench.replica.idle.append(kept)
    for pieces in answers:
        bench.renew()
        kept._lessons = 9 if learns else 0
        for piece in pieces:
            bench.host.time += 1.0
            kept.data_received(piece)
        record, gate = bench.record, bench.replica.gate
        made += [
            *(bench.owner.told, bench.sink.events, record.timeline, record.first_byte_seconds),
            *(record.seconds, record.prompt_tokens, record.completion_tokens, record.attempts),
            *(bench.replica.last_byte, len(bench.replica.open), gate.state(bench.host.time)),
            *(bench.attempt.first_byte, bench.attempt._connection is None, kept._attempt is None),
            *(bench.wire.aborted, [one is kept for one in bench.replica.idle]),
        ]
        if bench.replica.idle != [kept]:
            kept.connection_lost(None)
            return [*made, bench.owner.told]
    return made


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(PLAIN, id="the same"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", body=b"{}"), id="shorter"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", body=b'"' + b"x" * 200_000), id="longer"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", body=bytes(1_200_000)), id="much longer"),
        pytest.param(answer(TYPE, LENGTH, b"Server: b"), id="another head"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", b"Connection: close"), id="the last"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", body=b""), id="no body"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b"077"), id="a length with a zero"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b"+76"), id="a length with a sign"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b""), id="no length"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b"7 6"), id="two lengths in one"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b"76, 76"), id="a list of lengths"),
        pytest.param(answer(TYPE, LENGTH, LENGTH, b"Server: a"), id="two lengths"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", length=b"9" * 12), id="a huge length"),
        pytest.param(PLAIN[:-1], id="not all of the body"),
        pytest.param(PLAIN[:30], id="not all of the head"),
        pytest.param(b"", id="nothing"),
        pytest.param(PLAIN + PLAIN, id="two at once"),
        pytest.param(PLAIN + b"H", id="one, and a byte"),
        pytest.param(b"\r\n" + PLAIN, id="an empty line before it"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN, id="a preliminary answer"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", status=b"500 X"), id="an error"),
        pytest.param(answer(TYPE, LENGTH, b"Server: a", status=b"204 X"), id="without a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", id="until it closes"),
    ],
)
def test_taken_as_by_the_parser(then: bytes) -> None:
    """What a connection has seen before changes nothing of what it makes of an answer."""
    answers = [(PLAIN,), (then,), (PLAIN,)]
    assert told(answers, learns=True) == told(answers, learns=False)


@pytest.mark.parametrize("first", [pytest.param(DATED, id="early"), pytest.param(LATE, id="late")])
@pytest.mark.parametrize(
    ("date", "same"),
    [
        pytest.param(MONDAY, True, id="this"),
        pytest.param(LATER, True, id="another"),
        pytest.param(LATER[:-1], False, id="shorter"),
        pytest.param(b"Tue, 04 Nov 2025 18:00:01\0GMT", False, id="with a byte that may not be"),
        pytest.param(b"a: b\r\nTransfer-Encoding: chunk", False, id="none"),
    ],
)
def test_dates(first: bytes, date: bytes, same: bool) -> None:
    """A head with another date is the same, and with whatever else is there it is not."""
    then = first.replace(MONDAY, date)
    answers = [(first,), (then,), (first,)]
    assert told(answers, learns=True) == told(answers, learns=False)
    known = learned(first, headers(first))
    assert known is not None
    assert known.body(then) == (BODY if same else None)


PIECES = st.sampled_from(
    (*FIRST, *(one.replace(MONDAY, LATER) for one in FIRST), answer(TYPE, LENGTH, body=b"{}"))
)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[bytes, ...]:
    """Return an answer in which some bytes are others, in one piece or two."""
    said = draw(PIECES)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(said)))
        put = draw(st.sampled_from((b"", b"\r\n", b"0", b"7", b" ", b"\0", b"\r\nX: y")))
        said = said[:at] + put + said[at + draw(st.integers(0, 3)) :]
    if draw(st.booleans()):
        said += draw(st.sampled_from((b"", b"x", b"\r\n", PLAIN)))
    at = draw(st.integers(0, len(said))) if draw(st.booleans()) else 0
    return tuple(piece for piece in (said[:at], said[at:]) if piece)


@given(first=st.sampled_from(FIRST), then=st.lists(hostile(), max_size=4))
def test_whatever_differs(first: bytes, then: list[tuple[bytes, ...]]) -> None:
    """Wherever some bytes of answers are others, what was learned of them changes nothing."""
    answers = [(first,), *then, (first,)]
    assert told(answers, learns=True) == told(answers, learns=False)


def test_it_is_taken() -> None:
    """The parser is not asked again for an answer that comes again; nor is it left in a middle."""
    bench = Bench(opened=False)
    kept = bench.connection()
    bench.replica.idle.append(kept)
    parser = kept._parser
    for said in (DATED, DATED.replace(MONDAY, LATER)):
        bench.renew()
        kept.data_received(said)
        kept._parser = cast(Any, None)
    assert bench.owner.told == ["answered"]
    kept._parser = parser
    bench.renew()
    kept.data_received(PLAIN)
    assert bench.owner.told == ["answered"]


def test_a_trial_that_is_answered() -> None:
    """It closes the gate, as an answer that is read piece by piece does."""
    bench = Bench(opened=False)
    kept = bench.connection()
    bench.replica.idle.append(kept)
    bench.renew()
    kept.data_received(PLAIN)
    bench.replica.gate = Gate(1, 30.0)
    bench.replica.gate.failed(bench.replica.gate.begin(0.0), 0.0, refused=True)
    bench.renew()
    kept.data_received(PLAIN)
    assert bench.host.closed == ["answered"]


def test_heads_that_never_come_again() -> None:
    """Some engines give each answer an id: these are not learned for ever."""
    bench = Bench(opened=False)
    kept = bench.connection()
    bench.replica.idle.append(kept)
    learned: list[SameAnswer | None] = []
    for n in range(6):
        bench.renew()
        kept.data_received(answer(TYPE, LENGTH, b"X-Request-Id: %d" % n))
        learned.append(kept._same)
    assert len(set(learned)) == 4


def headers(said: bytes) -> list[tuple[bytes, bytes]]:
    lines = said.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(answer(TYPE), id="no length"),
        pytest.param(PLAIN + b"x", id="more than one"),
        pytest.param(PLAIN[:-1], id="less than one"),
        pytest.param(answer(LENGTH, LENGTH), id="two lengths"),
        pytest.param(answer(LENGTH, b"Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(answer(LENGTH, b"Upgrade: h2c"), id="upgrade"),
        pytest.param(answer(LENGTH, status=b"404 X"), id="an error"),
        pytest.param(answer(LENGTH).replace(b"/1.1", b"/1.0"), id="an old protocol"),
    ],
)
def test_not_gone_by(said: bytes) -> None:
    """A head is learned of a good answer that came whole and alone."""
    assert learned(said, headers(said)) is None


def test_two_dates() -> None:
    """Where two of them come, none is expected to change."""
    said = answer(b"Date: " + MONDAY, b"Date: " + MONDAY, LENGTH)
    known = learned(said, headers(said))
    assert known is not None
    assert known.body(said) == BODY
    assert known.body(said.replace(MONDAY, LATER)) is None
