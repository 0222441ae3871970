"""A head that comes again is read as the parser would read it, or left to the parser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway.request import Head, Request
from gpuctl.gateway.same_head import learned
from gpuctl.gateway.terms import Terms
from gpuctl.model import GatewaySettings, LimitSettings
from tests.gateway.test_downstream import Bench, post

FIRST = post(b'{"model":"chat"}', b"Authorization: Bearer k", b"X-Request-Id: mine")
TERMS = Terms(GatewaySettings())
_LENGTH = re.compile(rb"content-length: (\d+)")


def served(first: bytes, then: bytes) -> list[object]:
    """Send a request that is answered, then more; return what that became."""
    bench = Bench()
    if first:
        bench.send(first)
        bench.door.served[0].answer()
        bench.door.served.clear()
        bench.wire.taken()
    bench.send(then)
    requests = [one.request for one in bench.door.served]
    return [
        *((told(one.head), one.keep_alive, one.body) for one in requests),
        *bench.door.refusals,
        bench.wire.sent,
        bench.client._head_bytes > 0,
    ]


def told(head: Head) -> dict[str, object]:
    """Return all that is known of a head."""
    return {name: getattr(head, name) for name in head.__slots__}


def with_length(data: bytes, length: bytes) -> bytes:
    return _LENGTH.sub(b"content-length: " + length, data)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(FIRST, id="the same"),
        pytest.param(with_length(FIRST, b"3").partition(b"{")[0] + b"{ }", id="shorter"),
        pytest.param(with_length(FIRST, b"016"), id="a length with a zero"),
        pytest.param(with_length(FIRST, b"+16"), id="a length with a sign"),
        pytest.param(with_length(FIRST, b"1 6"), id="two lengths in one"),
        pytest.param(with_length(FIRST, b""), id="no length"),
        pytest.param(with_length(FIRST, b"16, 16"), id="a list of lengths"),
        pytest.param(with_length(FIRST, b"9" * 12), id="a length of twelve digits"),
        pytest.param(with_length(FIRST, b"16\r\ncontent-length: 3"), id="two lengths"),
        pytest.param(FIRST[:-1], id="not all of the body"),
        pytest.param(FIRST[:40], id="not all of the head"),
        pytest.param(FIRST + FIRST, id="two at once"),
        pytest.param(FIRST + b"G", id="one, and a byte"),
        pytest.param(FIRST.replace(b"Bearer k", b"Bearer x"), id="another key"),
        pytest.param(FIRST.replace(b"Bearer k", b"Bearer kk"), id="a longer key"),
        pytest.param(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", id="another request"),
        pytest.param(with_length(FIRST, b"0").partition(b"{")[0], id="no body"),
    ],
)
def test_read_as_by_the_parser(then: bytes) -> None:
    """What a connection has seen before changes nothing of what it makes of a piece."""
    assert served(FIRST, then) == served(b"", then)


@given(
    at=st.integers(0, len(FIRST)), cut=st.integers(0, 4), put=st.binary(max_size=4),
    rest=st.sampled_from([b"", FIRST, b"\r\n", b"x"]),
)  # fmt: skip
def test_whatever_differs(at: int, cut: int, put: bytes, rest: bytes) -> None:
    """... wherever a few bytes of it are others."""
    then = FIRST[:at] + put + FIRST[at + cut :] + rest
    assert served(FIRST, then) == served(b"", then)


@given(
    size=st.integers(0, 1200),
    said=st.sampled_from([b"%d", b"0%d", b"000000000%d", b" %d", b"%d "]),
    more=st.integers(-1, 1), last=st.booleans(),
)  # fmt: skip
def test_whatever_length(size: int, said: bytes, more: int, last: bool) -> None:
    """... and however long the next body is, and however that is written."""
    own = () if last else (b"x-own: 1",)
    first, then = (
        b"\r\n".join((b"POST /a HTTP/1.1", b"host: a", b"content-length: %s", *own, b"", b"%s"))
        % (length, body)
        for length, body in ((b"2", b"{}"), (said % max(size + more, 0), b"x" * size))
    )
    assert served(first, then) == served(b"", then)


def asked(head: dict[bytes, bytes] | None = None, *, keep_alive: bool = True) -> Request:
    made = Request(Head(), b"{}")
    made.keep_alive = keep_alive
    made.head.fields = head or {}
    return made


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        pytest.param(b"POST / HTTP/1.1\r\n\r\n{}", asked(), id="no length"),
        pytest.param(post(b"{}") + b"G", asked(), id="more than one"),
        pytest.param(post(b"{}"), asked({b"expect": b"100-continue"}), id="expect"),
        pytest.param(post(b"{}"), asked({b"upgrade": b"h2c"}), id="upgrade"),
        pytest.param(post(b"{}"), asked(keep_alive=False), id="the last"),
        pytest.param(b"2\r\n{}\r\n0\r\n\r\n", asked(), id="chunks"),
        pytest.param(
            post(b"{}").replace(b"\r\n\r\n", b"\r\nx: %s\r\n\r\n" % (b"y" * 4096)),
            asked(),
            id="large",
        ),
    ],
)
def test_not_gone_by(data: bytes, request_: Request) -> None:
    """A head is learned of a request that came whole and alone, and changes nothing after it."""
    assert learned(data, request_) is None


def test_too_large_a_body_is_the_parsers() -> None:
    """And so is a head that has grown over the limit with its length."""
    same = learned(post(b"{}"), asked())
    assert same is not None
    assert same.request(post(b"{ }"), TERMS) is not None
    assert (
        same.request(post(b"{ }"), Terms(GatewaySettings(limits=LimitSettings(body_bytes=2))))
        is None
    )
    assert (
        same.request(post(b"{ }"), Terms(GatewaySettings(limits=LimitSettings(head_bytes=40))))
        is None
    )


def test_it_holds_no_body() -> None:
    """What it keeps for as long as the connection lasts is a head."""
    first = asked()
    same = learned(post(b"{}"), first)
    assert same is not None
    then = same.request(post(b"{ }"), TERMS)
    assert then is not None
    assert then.head is first.head
    assert not hasattr(then.head, "body")
