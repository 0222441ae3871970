"""What becomes of a replica's answer: the tokens of a stream, told or counted."""

from __future__ import annotations

import json

import pytest

from gpuctl.gateway.heads import Given
from gpuctl.gateway.readers import Streamed
from gpuctl.gateway.sink import Sink
from tests.gateway.records import record as recorded

EVENTS = [(b"content-type", b"text/event-stream")]
DONE = b"data: [DONE]\n\n"


class Kept(Sink):
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def whole(self, status: int, headers: Given, body: bytes) -> None:
        self.data += body

    def head(self, status: int, headers: Given, length: bytes | None = None) -> None:
        self.begun = True

    def piece(self, data: bytes) -> None:
        self.sent = True
        self.data += data

    comment = spoil = piece

    def cut(self) -> None: ...
    def finish(self) -> None: ...


def event(**told: object) -> bytes:
    return b"data: " + json.dumps({"id": "c1", **told}).encode() + b"\n\n"


def words(count: int) -> bytes:
    """Return the event that begins, and one for each token."""
    texts = [None, *(f'data: {{"w{index}" ' for index in range(count))]
    return b"".join(event(choices=[{"delta": {"content": text}}]) for text in texts)


USAGE = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 8})


@pytest.mark.parametrize(
    ("endpoint", "pieces", "told"),
    [
        pytest.param("chat/completions", [words(5)], (None, 5), id="broken off"),
        pytest.param("completions", [words(1), words(2)], (None, 4), id="in pieces"),
        pytest.param("chat/completions", [words(0)], (None, None), id="begun"),
        pytest.param("chat/completions", [words(5), USAGE, DONE], (9, 8), id="told"),
        pytest.param("chat/completions", [words(5) + USAGE, words(2)], (9, 8), id="told early"),
        pytest.param("responses", [words(5)], (None, None), id="events of another kind"),
    ],
)
def test_tokens_of_a_stream(
    endpoint: str, pieces: list[bytes], told: tuple[int | None, int | None]
) -> None:
    """The engine's own count, or that of its events where it did not come to it."""
    record = recorded(endpoint=f"/v1/{endpoint}")
    sink = Kept()
    streamed = Streamed(sink, record, strip=True)
    streamed.headed(200, EVENTS)
    for piece in pieces:
        streamed.body(piece)
    assert (record.prompt_tokens, record.completion_tokens) == told
    assert sink.data == b"".join(pieces).replace(USAGE, b"")
