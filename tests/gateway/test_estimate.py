"""Tokens of prompts that no engine counted."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.gateway import estimate
from tests.gateway.inside import ASKED, STREAM, Inside, request, upstream, with_stub
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

#: Every byte is a token, and so is one word with what stands before it.
TOKENS = [*(bytes([byte]) for byte in range(256)), b"ab", b"abc", b" abc"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    """A file in tiktoken's format."""
    path = tmp_path / "tokenizer.model"
    rows = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(TOKENS)]
    path.write_bytes(b"".join(rows) + b"\n")
    return str(path)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        pytest.param({"prompt": "abc abc"}, 2, id="text"),
        pytest.param({"prompt": ["abc", "xy"]}, 4, id="texts"),
        pytest.param({"prompt": [1, 2, 3]}, None, id="numbers"),
        pytest.param({"messages": [{"role": "user", "content": "abc"}]}, 1, id="message"),
        pytest.param({"messages": [{"content": None}, {"content": "abc"}]}, 1, id="empty message"),
        pytest.param(
            {"messages": [{"content": [{"type": "text", "text": "abc"}, {"image_url": {}}]}]},
            1,
            id="parts",
        ),
        pytest.param({"model": "chat"}, None, id="nothing"),
        pytest.param({"prompt": "x" * 300_000}, None, id="a great deal"),
        pytest.param("{", None, id="no JSON"),
    ],
)
def test_estimate(tokenizer: str, body: Any, tokens: int | None) -> None:
    """The words of a prompt, and nothing else of a body."""
    content = body if isinstance(body, str) else json.dumps(body)
    assert estimate.load(tokenizer)(content.encode()) == tokens


@pytest.mark.parametrize("content", [b"", b"no tokenizer at all\n", b"\xff 1\n"])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    """It is named, and no tokenizer is made of it."""
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(GpuctlError, match="other: no tokenizer in tiktoken's format"):
        estimate.load(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is fetched in its place."""
    with pytest.raises(GpuctlError, match="none: No such file"):
        estimate.load(str(tmp_path / "none"))


def test_without_tiktoken(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra, and what is missing is said."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(GpuctlError, match="tiktoken is missing"):
        estimate.load(tokenizer)


def test_a_stream_that_broke_off(first: StubEngine, tokenizer: str) -> None:
    """Its prompt is counted before it is told of; one that the engine counted is left alone."""
    with Inside([upstream(first)]) as inside:
        inside.gateway.estimate = estimate.load(tokenizer)
        body = {**with_stub(STREAM, fault="hang_stream", after=3), "messages": [{"content": "abc"}]}
        with inside.connect() as client:
            client.sendall(request(body))
            wait_for(lambda: b"w2" in client.recv(4096), "its third word")
        record = inside.record
        assert (record.end, record.prompt_tokens) == ("client_gone", 1)
        inside.post(ASKED)
        answered = wait_for(lambda: inside.log.records[1:], "its end")[0]
        assert (answered.end, answered.prompt_tokens) == ("answered", 3)
