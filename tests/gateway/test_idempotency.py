"""Answers that are shared by their Idempotency-Key: who hears what, and what is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpuctl.gateway.idempotency import (
    ENTRY_BYTES,
    OVERHEAD_BYTES,
    Entry,
    Found,
    Headers,
    Memory,
    fingerprint,
    usable,
)

HEADERS = ((b"content-type", b"application/json"),)
ASKED = fingerprint("/v1/chat/completions", b'{"model": "chat"}')


class Follower:
    """Writes down what it hears; *then* is what it does about each."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.heard: list[Any] = []
        self.then = then

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.heard.append((status, headers, body))
        self.then()

    def head(self, status: int, headers: Headers) -> None:
        self.heard.append((status, headers))
        self.then()

    def piece(self, data: bytes) -> None:
        self.heard.append(data)
        self.then()

    def comment(self, data: bytes) -> None:
        self.heard.append(("comment", data))
        self.then()

    def finish(self) -> None:
        self.heard.append("finish")
        self.then()

    def spoil(self, data: bytes) -> None:
        self.heard.append(("spoil", data))
        self.then()

    def fail(self) -> None:
        self.heard.append("fail")
        self.then()


def led(memory: Memory, key: bytes = b"key", now: float = 0.0) -> Entry:
    """Return the entry of a key that is new."""
    state, entry = memory.lookup("owner", key, ASKED, now)
    assert (state, entry is not None) == ("new", True)
    assert entry is not None
    return entry


def finished(memory: Memory, key: bytes = b"key", body: bytes = b"", now: float = 0.0) -> Entry:
    entry = led(memory, key, now)
    entry.head(200, HEADERS)
    entry.piece(body)
    entry.finish()
    return entry


def state(memory: Memory, key: bytes = b"key", now: float = 0.0) -> str:
    """Return what a look for a key finds, which begins a new one where it finds none."""
    return memory.lookup("owner", key, ASKED, now).state


@pytest.mark.parametrize(
    ("key", "good"),
    [
        pytest.param(b"", False, id="empty"),
        pytest.param(b"8e03978e-40d5-43e8-bc93-6894a57f9324", True, id="uuid"),
        pytest.param(b"!~", True, id="ends of the visible"),
        pytest.param(b"a" * 255, True, id="longest"),
        pytest.param(b"a" * 256, False, id="too long"),
        pytest.param(b"a b", False, id="space"),
        pytest.param(b"a\x7f", False, id="control"),
        pytest.param("ü".encode(), False, id="not ASCII"),
    ],
)
def test_a_key_is_visible_ascii(key: bytes, good: bool) -> None:
    """1 to 255 characters that are seen."""
    assert usable(key) is good


@settings(deadline=None)
@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_a_fingerprint_is_of_one_request(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    """Two requests have the same one only if they are the same, to the byte."""
    if "\0" not in one[0] + other[0]:
        assert (fingerprint(*one) == fingerprint(*other)) is (one == other)


def test_who_joins_late_hears_all_of_it() -> None:
    """What was told so far comes at once, in one piece; the rest as it is told."""
    memory = Memory()
    entry = led(memory)
    early, late = Follower(), Follower()
    assert memory.lookup("owner", b"key", ASKED, 1.0) == Found("running", entry)
    entry.subscribe(early)
    assert early.heard == []
    entry.head(200, HEADERS)
    entry.piece(b"one ")
    entry.piece(b"two ")
    entry.subscribe(late)
    assert entry.followers == 2
    assert late.heard == [(200, HEADERS), b"one two "]
    entry.piece(b"three")
    entry.finish()
    assert early.heard == [(200, HEADERS), b"one ", b"two ", b"three", "finish"]
    assert late.heard == [(200, HEADERS), b"one two ", b"three", "finish"]
    assert entry.followers == 0


def test_a_comment_is_no_part_of_the_answer() -> None:
    """Those that follow hear it when it is told; it is not kept for who comes later."""
    memory = Memory()
    entry = led(memory)
    follower, late = Follower(), Follower()
    entry.subscribe(follower)
    entry.head(200, HEADERS)
    before = memory.bytes
    entry.comment(b": keep-alive")
    entry.subscribe(late)
    assert follower.heard == [(200, HEADERS), ("comment", b": keep-alive")]
    assert (late.heard, memory.bytes) == ([(200, HEADERS)], before)


def test_a_finished_answer_is_heard_again() -> None:
    """Any number of times, without anybody at work."""
    memory = Memory()
    entry = finished(memory, body=b"answer")
    for _ in range(2):
        follower = Follower()
        assert memory.lookup("owner", b"key", ASKED, 1.0) == Found("finished", entry)
        entry.subscribe(follower)
        assert follower.heard == [(200, HEADERS), b"answer", "finish"]
    assert entry.followers == 0


def test_a_key_stands_for_one_request_of_one_client() -> None:
    """The same key with other words is a conflict, while it runs and afterwards."""
    memory = Memory()
    other = fingerprint("/v1/chat/completions", b"{}")
    entry = led(memory)
    assert memory.lookup("owner", b"key", other, 0.0) == Found("conflict", None)
    entry.head(200, HEADERS)
    entry.finish()
    assert memory.lookup("owner", b"key", other, 0.0) == Found("conflict", None)
    assert memory.lookup("another", b"key", other, 0.0).state == "new"


@pytest.mark.parametrize("status", [400, 429, 503, 302])
def test_only_a_success_is_kept(status: int) -> None:
    """Who follows hears a refusal too; who asks after that begins anew."""
    memory = Memory()
    entry = led(memory)
    follower = Follower()
    entry.subscribe(follower)
    entry.head(status, HEADERS)
    assert state(memory) == "running"
    entry.piece(b"no")
    entry.finish()
    assert follower.heard == [(status, HEADERS), b"no", "finish"]
    assert (len(memory), memory.bytes) == (0, 0)


def test_an_answer_that_fails_is_not_kept() -> None:
    """Those that follow hear of it; a second end is nothing."""
    memory = Memory()
    entry = led(memory)
    follower = Follower()
    entry.subscribe(follower)
    entry.head(200, HEADERS)
    entry.fail()
    entry.finish()
    entry.fail()
    assert follower.heard == [(200, HEADERS), "fail"]
    assert (len(memory), memory.bytes) == (0, 0)


def test_an_end_after_the_end_takes_nothing_back() -> None:
    """A leader may end it once more for safety."""
    memory = Memory()
    finished(memory).fail()
    assert state(memory) == "finished"


def test_a_leader_learns_that_it_is_alone() -> None:
    """When the last one that followed has left while it runs, and never after its end."""
    memory = Memory()
    entry = led(memory)
    alone: list[int] = []
    entry.on_alone = lambda: alone.append(entry.followers)
    one, two = Follower(), Follower()
    entry.subscribe(one)
    entry.subscribe(two)
    entry.unsubscribe(one)
    entry.unsubscribe(one)
    assert alone == []
    entry.unsubscribe(two)
    assert alone == [0]
    entry.subscribe(one)
    entry.on_alone = None
    entry.unsubscribe(one)
    entry.on_alone = lambda: alone.append(entry.followers)
    entry.subscribe(one)
    entry.head(200, HEADERS)
    entry.finish()
    entry.unsubscribe(one)
    assert alone == [0]


def test_a_leader_waits_while_nobody_takes_it() -> None:
    """It goes on for the first that takes it again, or that joins; who has left is not slow."""
    entry = led(Memory())
    told: list[str] = []
    one, two, three = Follower(), Follower(), Follower()
    entry.subscribe(one)
    entry.pause(one)
    assert entry.waits
    entry.resume(one)
    entry.on_pause, entry.on_resume = (lambda: told.append("pause")), (lambda: told.append("go"))
    for each in (one, two):
        entry.subscribe(each)
    entry.resume(one)
    entry.pause(one)
    assert (told, entry.waits) == ([], False)
    entry.pause(two)
    entry.pause(three)
    assert (told, entry.waits) == (["pause"], True)
    entry.resume(two)
    entry.unsubscribe(two)
    assert told == ["pause", "go", "pause"]
    entry.subscribe(three)
    assert told == ["pause", "go", "pause", "go"]


def test_a_leader_of_what_is_too_large_waits_for_the_slowest() -> None:
    """Nobody that has waited for it is left behind."""
    entry = led(Memory())
    told: list[str] = []
    one, two = Follower(), Follower()
    for each in (one, two):
        entry.subscribe(each)
    entry.on_pause, entry.on_resume = (lambda: told.append("pause")), (lambda: told.append("go"))
    entry.head(200, HEADERS, held=True)
    entry.piece(bytes(ENTRY_BYTES))
    assert one.heard == []
    entry.piece(b"more")
    entry.pause(one)
    entry.pause(two)
    entry.resume(one)
    assert told == ["pause"]
    entry.unsubscribe(two)
    assert told == ["pause", "go"]
    entry.finish()
    assert one.heard == [(200, HEADERS), bytes(ENTRY_BYTES), b"more", "finish"]


def test_what_was_let_go_can_be_joined_while_it_is_kept() -> None:
    """Whoever comes then gets all of it, as it comes."""
    entry = led(Memory(entry_bytes=2 * ENTRY_BYTES))
    late = Follower()
    entry.head(200, HEADERS, held=True)
    entry.piece(bytes(ENTRY_BYTES))
    entry.piece(b"more")
    entry.subscribe(late)
    entry.finish()
    assert late.heard == [(200, HEADERS), bytes(ENTRY_BYTES), b"more", "finish"]


def test_what_is_held_is_heard_when_it_is_whole() -> None:
    """In one piece, by those that wait and those that come later, though it is kept no longer."""
    for memory in (Memory(), Memory(most_bytes=OVERHEAD_BYTES)):
        entry = led(memory)
        early, late, last = Follower(), Follower(), Follower()
        entry.subscribe(early)
        entry.head(200, HEADERS, held=True)
        entry.piece(b"one ")
        entry.subscribe(late)
        entry.piece(b"two")
        assert (early.heard, late.heard) == ([], [])
        entry.finish()
        if len(memory):
            entry.subscribe(last)
            assert last.heard == early.heard
        assert early.heard == late.heard == [(200, HEADERS, b"one two")]
    entry = led(Memory())
    entry.subscribe(early)
    entry.head(200, HEADERS, held=True)
    entry.piece(b"half of")
    entry.whole(502, HEADERS, b"an error", "upstream_failed")
    assert (early.heard[1:], entry.error) == ([(502, HEADERS, b"an error")], "upstream_failed")


def test_a_spoiled_answer_is_not_kept() -> None:
    """Those that follow hear what it ends with, and who asks after that begins anew."""
    memory = Memory()
    entry = led(memory)
    follower = Follower()
    entry.subscribe(follower)
    entry.head(200, HEADERS)
    entry.spoil(b"error", "stream_interrupted")
    entry.spoil(b"again", "")
    assert follower.heard == [(200, HEADERS), ("spoil", b"error")]
    assert (entry.error, len(memory), memory.bytes) == ("stream_interrupted", 0, 0)


def test_a_kept_answer_keeps_no_leader() -> None:
    """Nothing of its exchange stays in memory for ten minutes."""

    class Leader:
        def left(self) -> None: ...

    memory, leader = Memory(), Leader()
    entry = led(memory)
    entry.on_alone = entry.on_pause = entry.on_resume = leader.left
    gone = weakref.ref(leader)
    del leader
    entry.head(200, HEADERS)
    entry.finish()
    assert gone() is None


@pytest.mark.parametrize("heard", [1, 2, 3])
def test_who_leaves_hears_no_more(heard: int) -> None:
    """Not even what is being told just now: at its head, its body or its end."""
    memory = Memory()
    entry = finished(memory, body=b"answer")
    whole = [(200, HEADERS), b"answer", "finish"]
    follower = Follower()

    def leave() -> None:
        if len(follower.heard) == heard:
            entry.unsubscribe(follower)

    follower.then = leave
    entry.subscribe(follower)
    assert follower.heard == whole[:heard]


def test_one_that_leaves_may_take_others_along() -> None:
    """A follower may end another while both are being told."""
    entry = led(Memory())
    second = Follower()
    first = Follower(lambda: entry.unsubscribe(second))
    entry.subscribe(first)
    entry.subscribe(second)
    entry.head(200, HEADERS)
    entry.piece(b"one")
    entry.finish()
    assert first.heard == [(200, HEADERS), b"one", "finish"]
    assert second.heard == []


def test_an_answer_is_kept_for_its_time() -> None:
    """It counts from when it was asked first; what still runs then can be joined for longer."""
    memory = Memory(seconds=600)
    running = led(memory, b"runs", 0.0)
    finished(memory, now=10.0)
    finished(memory, b"later", now=20.0)
    assert state(memory, now=609.9) == "finished"
    memory.expire(610.0)
    assert len(memory) == 2
    assert state(memory, b"runs", 700.0) == "running"
    assert len(memory) == 1
    running.head(200, HEADERS)
    running.finish()
    assert state(memory, b"runs", 700.0) == "new"


def test_an_answer_that_is_too_long_is_not_kept() -> None:
    """Those that follow hear all of it; who asks after that begins anew, and it is no conflict."""
    memory = Memory(entry_bytes=OVERHEAD_BYTES + 100)
    entry = led(memory)
    follower = Follower()
    entry.subscribe(follower)
    entry.head(200, HEADERS)
    entry.piece(b"a" * 60)
    assert state(memory) == "running"
    entry.piece(b"b" * 60)
    assert (len(memory), memory.bytes) == (0, 0)
    second = led(memory)
    entry.piece(b"c")
    entry.finish()
    assert follower.heard[1:] == [b"a" * 60, b"b" * 60, b"c", "finish"]
    assert memory.lookup("owner", b"key", ASKED, 0.0) == Found("running", second)


def test_the_oldest_finished_answers_make_room() -> None:
    """What runs is kept longer than what is finished; where all run, the one that grows goes."""
    one = OVERHEAD_BYTES + 200
    memory = Memory(most_bytes=3 * one)
    runs = led(memory, b"runs")
    finished(memory, b"a", b"x" * 50)
    finished(memory, b"b", b"x" * 50)
    led(memory, b"c").piece(b"x" * 50)
    assert [state(memory, key) for key in (b"runs", b"b", b"c")] == [
        "running", "finished", "running",
    ]  # fmt: skip
    led(memory, b"a")
    runs.piece(b"x" * 600)
    assert [state(memory, key) for key in (b"c", b"a")] == ["running", "running"]
    assert len(memory) == 2


def test_what_does_not_even_begin_to_fit_is_led_without_memory() -> None:
    """A new key always has a leader."""
    memory = Memory(most_bytes=OVERHEAD_BYTES)
    assert finished(memory).state == "finished"
    assert (len(memory), memory.bytes) == (0, 0)


class Shared(RuleBasedStateMachine):
    """Entries led, joined, ended and forgotten in any order, in a memory that is too small."""

    KEYS = st.sampled_from((b"a", b"b", b"c"))

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(
            seconds=60, most_bytes=4 * OVERHEAD_BYTES, entry_bytes=2 * OVERHEAD_BYTES
        )
        self.now = 0.0
        self.led: list[tuple[Entry, list[Any]]] = []  # with what was told
        self.followed: list[tuple[Follower, list[Any]]] = []

    @rule(key=KEYS)
    def ask(self, key: bytes) -> None:
        found, entry = self.memory.lookup("owner", key, ASKED, self.now)
        assert entry is not None
        if found == "new":
            self.led.append((entry, []))
            return
        ((_, told),) = [pair for pair in self.led if pair[0] is entry]
        follower = Follower()
        entry.subscribe(follower)
        self.followed.append((follower, told))

    @rule(data=st.data(), size=st.sampled_from((1, 500, 1500, 3000)))
    def tell(self, data: st.DataObject, size: int) -> None:
        running = [pair for pair in self.led if pair[0].state == "running"]
        if not running:
            return
        entry, told = data.draw(st.sampled_from(running))
        if not told:
            told.append((200, HEADERS))
            entry.head(200, HEADERS)
        piece = bytes([len(told) % 256]) * size
        told.append(piece)
        entry.piece(piece)

    @rule(data=st.data(), whole=st.booleans())
    def end(self, data: st.DataObject, whole: bool) -> None:
        running = [pair for pair in self.led if pair[0].state == "running" and pair[1]]
        if running:
            entry, told = data.draw(st.sampled_from(running))
            told.append("finish" if whole else "fail")
            entry.finish() if whole else entry.fail()

    @rule(seconds=st.sampled_from((1, 30, 61)))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.memory.expire(self.now)

    @invariant()
    def all_hear_what_was_told(self) -> None:
        """Whenever one joined, it has heard everything, in order."""
        for follower, told in self.followed:
            assert flat(follower.heard) == flat(told)

    @invariant()
    def memory_is_bounded(self) -> None:
        kept = [pair[0] for pair in self.led if pair[0]._memory is not None]
        assert len(self.memory) == len(kept)
        assert self.memory.bytes == sum(entry.bytes for entry in kept) <= 4 * OVERHEAD_BYTES


def flat(heard: list[Any]) -> list[Any]:
    """Return the same with the pieces as one, as late followers hear some at once."""
    return [
        *(word for word in heard if not isinstance(word, bytes)),
        b"".join(word for word in heard if isinstance(word, bytes)),
    ]


TestShared = Shared.TestCase
