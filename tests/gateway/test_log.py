"""The gateway's log: whole lines of JSON, none that forges another, none that holds anybody up."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuctl.gateway.log import Lines
from gpuctl.gateway.record import Record
from tests.gateway.records import record

ROOT = Path(__file__).parents[2]
AT = 1_750_000_000.25
RECORD = record(
    id="r-1", at=AT, began=12.5, ip="127.0.0.1", key="k_1", endpoint="/v1/chat/completions",
    model="chat", stream=True, status=200, end="answered", replica="chat-0", container="c0ffee",
    attempts=1, request_bytes=300, response_bytes=5000, queued_seconds=0.5,
    first_byte_seconds=1.0, seconds=3.0, prompt_tokens=20, completion_tokens=11,
    timeline=[("received", 0.0), ("sent chat-0", 0.5), ("first_byte", 1.0), ("done", 3.0)],
)  # fmt: skip


class Pipe:
    """A pipe whose far end a test reads when it likes."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.open = {self.reader, self.writer}

    def close(self, fd: int) -> None:
        self.open.discard(fd)
        os.close(fd)

    def read(self) -> list[bytes]:
        """Return the lines that were written, once nobody can write any more."""
        self.close(self.writer)
        with os.fdopen(self.reader, "rb") as file:
            self.open.discard(self.reader)
            return file.read().splitlines(keepends=True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for fd in set(made.open):
        made.close(fd)


def lines(pipe: Pipe, **settings: Any) -> Lines:
    return Lines(pipe.writer, clock=lambda: AT, **settings)


def test_a_request_is_one_line_with_its_timeline(pipe: Pipe) -> None:
    """Everything that its record has, and nothing else: no prompt is in that."""
    log = lines(pipe)
    log.finished(RECORD)
    assert log.close()
    [line] = pipe.read()
    assert json.loads(line) == {
        "event": "request", "id": "r-1", "at": AT, "ip": "127.0.0.1", "key": "k_1",
        "method": "POST", "endpoint": "/v1/chat/completions", "model": "chat", "stream": True,
        "status": 200, "error": "", "end": "answered", "replica": "chat-0",
        "container": "c0ffee", "attempts": 1, "request_bytes": 300, "response_bytes": 5000,
        "queued_seconds": 0.5, "first_byte_seconds": 1.0, "seconds": 3.0, "prompt_tokens": 20,
        "completion_tokens": 11, "cached_tokens": None,
        "timeline": [["received", 0.0], ["sent chat-0", 0.5], ["first_byte", 1.0], ["done", 3.0]],
    }  # fmt: skip


def test_the_page_has_every_field(pipe: Pipe) -> None:
    """And no other."""
    log = lines(pipe)
    log.finished(RECORD)
    assert log.close()
    fields = {*json.loads(pipe.read()[0])} - {"event"}
    assert documented("field | is") == sorted(fields)
    # Of no clock of a reader's; and who answered once more, as its answer says it.
    assert {*Record.__slots__} - fields == {"began", "signature"}


def test_the_page_has_every_event() -> None:
    """Each that the gateway writes, and none that it does not."""
    found: set[str] = set()
    named = ast.Attribute
    for module in (ROOT / "gpuctl" / "gateway").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(
                    # What goes on failing is told by `Outages`.
                    func=named(attr="event") | named(value=named(attr="_outages"), attr="failed"),
                    args=[ast.Constant(value=str(name))],
                ):
                    found.add(name)
    assert documented("event | says") == sorted(found)


def documented(heading: str) -> list[str]:
    """Return the names in the first column of the table with that heading."""
    page = (ROOT / "docs" / "gateway.md").read_text()
    table = page.partition(f"\n| {heading} |\n")[2].partition("\n\n")[0].splitlines()[1:]
    return sorted(name for row in table for name in re.findall(r"`(\w+)`", row.split("|")[1]))


def test_an_event_has_its_name_and_time(pipe: Pipe) -> None:
    """And what belongs to it; lines come in the order they were added."""
    log = lines(pipe)
    log.event("started", listen="127.0.0.1:4000")
    log.event("gate_opened", replica="chat-0", failures=5)
    assert log.close()
    assert pipe.read() == [
        b'{"event":"started","at":1750000000.25,"listen":"127.0.0.1:4000"}\n',
        b'{"event":"gate_opened","at":1750000000.25,"replica":"chat-0","failures":5}\n',
    ]


def test_what_json_does_not_have_is_told_in_words(pipe: Pipe) -> None:
    """An exception, say: a line in a log is no reason to fail."""
    log = lines(pipe)
    log.event("failed", error=ValueError("no such thing"))
    log.event("failed", error=ValueError("\ud800"))
    assert log.close()
    told = [json.loads(line)["error"] for line in pipe.read()]
    assert told == ["no such thing", "\ud800"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param('a"\n{"event":"forged"}', rb"a\"\n{\"event\":\"forged\"}", id="a line"),
        pytest.param("a\x1b[2Jb", rb"a\u001b[2Jb", id="ANSI"),
        pytest.param("a\x7fb", rb"a\u007fb", id="delete"),
        pytest.param("a\x9b2Jb", rb"a\u009b2Jb", id="ANSI in one character"),
        pytest.param("a\u2028b", rb"a\u2028b", id="a line separator"),
        pytest.param("a\u202eb", rb"a\u202eb", id="right to left"),
        pytest.param("a\ud800b", rb"a\ud800b", id="half of a pair"),
        pytest.param("a\U0001f600b", rb"a\ud83d\ude00b", id="a whole pair"),
    ],
)
def test_what_a_client_sent_forges_nothing(pipe: Pipe, text: str, written: bytes) -> None:
    """A line is plain ASCII: it moves no cursor, and ends where it ends."""
    log = lines(pipe)
    log.event("odd", text=text)
    log.finished(record(id=text, at=AT))
    assert log.close()
    odd, request = pipe.read()
    assert odd == b'{"event":"odd","at":1750000000.25,"text":"' + written + b'"}\n'
    assert (b'"id":"' + written + b'"') in request
    assert json.loads(request)["id"] == text


def test_a_line_is_written_without_another(pipe: Pipe) -> None:
    """Nothing waits for the buffer to fill: a quiet gateway's log is read as it is written."""
    log = lines(pipe, flush_seconds=0.0)
    log.event("started")
    assert os.read(pipe.reader, 100) == b'{"event":"started","at":1750000000.25}\n'
    assert log.close()


def test_a_full_batch_is_written_at_once(pipe: Pipe) -> None:
    """However long a batch may wait else: here for longer than the test may take."""
    log = lines(pipe, flush_seconds=3600.0, flush_bytes=100)
    for _ in range(3):
        log.event("x" * 40)
    line = b'{"event":"' + b"x" * 40 + b'","at":1750000000.25}\n'
    with os.fdopen(os.dup(pipe.reader), "rb") as file:
        assert [file.readline() for _ in range(2)] == [line, line]
    assert log.close()


def test_a_full_buffer_drops_what_comes_and_counts_it(pipe: Pipe) -> None:
    """What was there before is kept, whole; memory stays bounded."""
    log = lines(pipe, flush_seconds=3600.0, most_bytes=100)
    for number in range(5):
        log.event("some", number=number)
    assert (log.dropped, log.pending_bytes) == (3, 94)
    assert log.close()
    assert [json.loads(line)["number"] for line in pipe.read()] == [0, 1]
    assert (log.dropped, log.pending_bytes) == (3, 0)


def test_what_comes_after_the_end_is_counted(pipe: Pipe) -> None:
    """Nobody would write it."""
    log = lines(pipe)
    assert log.close()
    log.event("late")
    assert (log.dropped, pipe.read()) == (1, [])


def hung(pipe: Pipe) -> Lines:
    """A log with more to write than a pipe holds, and nobody who reads."""
    log = lines(pipe, flush_seconds=0.01)
    for _ in range(40):
        log.event("x" * 10_000)
    return log


def test_a_reader_that_hangs_holds_up_no_end(pipe: Pipe) -> None:
    """A shutdown gives up at its deadline, and says so, even while a write blocks."""
    log = hung(pipe)
    assert not log.close(0.05)
    pipe.close(pipe.reader)
    assert log.close(10)
    assert log.dropped > 0


def test_a_descriptor_that_would_block_is_given_up_at_the_deadline(pipe: Pipe) -> None:
    """What it did not take is counted."""
    os.set_blocking(pipe.writer, False)
    log = hung(pipe)
    log.close(0.05)
    assert log.close(10)
    assert log.dropped > 0


def test_a_reader_that_left_costs_lines_only(pipe: Pipe) -> None:
    """Its pipe is broken: what cannot be written is counted, the rest goes on."""
    pipe.close(pipe.reader)
    log = lines(pipe)
    log.event("one")
    log.event("two")
    assert log.close()
    assert log.dropped == 2


def test_a_slow_reader_gets_every_line(pipe: Pipe) -> None:
    """A descriptor that would block is tried again, from where it stood."""
    os.set_blocking(pipe.writer, False)
    log = lines(pipe, flush_seconds=0.001)
    for number in range(40):
        log.event("x" * 10_000, number=number)
    with os.fdopen(os.dup(pipe.reader), "rb") as file:
        read = [json.loads(file.readline())["number"] for _ in range(40)]
    assert read == list(range(40))
    assert log.close()
    assert log.dropped == 0
