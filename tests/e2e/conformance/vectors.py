"""Embeddings."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import Target, case

#: Of the model: `n_embd`.
WIDTH = 576


def embedded(target: Target, text: Any = "hello", **changes: Any) -> Any:
    return target.embedder.embeddings.create(model=target.embedding_model, input=text, **changes)


def raw(target: Target, **body: Any) -> dict[str, Any]:
    """Ask without the client's own handling of base64."""
    asked = {"model": target.embedding_model, "input": "hello", **body}
    found: Any = target.embedder.post("/embeddings", body=asked, cast_to=object)
    return dict(found)


@case
def base64_by_default(target: Target) -> None:
    """The client asks for base64 by itself, and gives back numbers."""
    (row,) = embedded(target).data
    assert (len(row.embedding), row.index, row.object) == (WIDTH, 0, "embedding")
    assert sum(number**2 for number in row.embedding) == pytest.approx(1, abs=1e-3)


@case
def base64_on_the_wire(target: Target) -> None:
    """In base64 a vector is float32, the lowest byte first."""
    coded = raw(target, encoding_format="base64")["data"][0]["embedding"]
    plain = raw(target, encoding_format="float")["data"][0]["embedding"]
    found = struct.unpack(f"<{WIDTH}f", base64.b64decode(coded))
    assert list(found) == pytest.approx(plain, abs=1e-5)


@case
def floats(target: Target) -> None:
    """Asked for numbers, they are numbers."""
    assert len(embedded(target, encoding_format="float").data[0].embedding) == WIDTH


@case
def several(target: Target) -> None:
    """Several texts keep their order."""
    rows = embedded(target, ["hello", "goodbye", "hello"]).data
    assert [row.index for row in rows] == [0, 1, 2]
    assert rows[0].embedding == pytest.approx(rows[2].embedding, abs=0.02)
    assert rows[0].embedding != pytest.approx(rows[1].embedding, abs=0.02)


@case
def many(target: Target) -> None:
    """Twenty texts are answered in one."""
    assert len(embedded(target, ["a"] * 20).data) == 20


@case
def tokens(target: Target) -> None:
    """A text may be tokens."""
    assert [row.index for row in embedded(target, [[504, 3575], [504]]).data] == [0, 1]


@case
def usage(target: Target) -> None:
    """The tokens are counted."""
    found = embedded(target).usage
    assert 0 < found.prompt_tokens == found.total_tokens


@case
def dimensions(target: Target) -> None:
    """A width that the engine cannot give is not made up: it gives its own."""
    assert len(embedded(target, dimensions=8).data[0].embedding) == WIDTH


@case
def empty_list(target: Target) -> None:
    """Nothing to embed is the client's mistake."""
    with pytest.raises(openai.BadRequestError):
        embedded(target, [])


@case
def empty_text(target: Target) -> None:
    """So is an empty text."""
    with pytest.raises(openai.BadRequestError):
        embedded(target, "")


@case
def unknown_format(target: Target) -> None:
    """So is a format that there is not."""
    with pytest.raises(openai.BadRequestError):
        raw(target, encoding_format="hex")


@case
def no_input(target: Target) -> None:
    """So is a request without anything."""
    with pytest.raises(openai.BadRequestError):
        target.embedder.post("/embeddings", body={"model": target.embedding_model}, cast_to=object)
