"""What the fuzz of `make soak` sends."""

from __future__ import annotations

from tests.rig import fuzz
from tests.rig.raw_client import CHAT, request

COUNT = 2000


def test_a_case_can_be_sent_again() -> None:
    """The same seed and number give the same bytes, another seed gives others."""
    first = [fuzz.case(1, number) for number in range(COUNT)]
    assert [fuzz.case(1, number) for number in range(COUNT)] == first
    assert fuzz.case(2, 0) != first[0]


def test_cases_are_of_every_kind() -> None:
    """Some are whole requests, as a good client's, and none is like many others."""
    sent = [b"".join(fuzz.case(1, number).pieces) for number in range(COUNT)]
    good = request({**CHAT, "stream": False})
    assert 0 < sum(good.partition(b"\r\n\r\n")[2] in data for data in sent) < COUNT / 2
    assert len(set(sent)) > 0.8 * COUNT
    assert max(len(data) for data in sent) < 256 * 1024
    assert {case.end for case in map(fuzz.case, [1] * 100, range(100))} == {
        *("read", "close", "reset", "half", "leave")
    }
