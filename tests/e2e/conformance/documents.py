"""Answers that are JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.conformance.cases import Target, case
from tests.e2e.conformance.chat import content
from tests.e2e.conformance.streams import text


class City(BaseModel):
    city: Literal["Paris", "Rome"]


def schema(schema: dict[str, Any]) -> dict[str, Any]:
    named = {"name": "city", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


CITY = schema(
    {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
)


@case
def json_object(target: Target) -> None:
    """In JSON mode the answer begins as an object."""
    answer = target.ask(response_format={"type": "json_object"}, max_tokens=40)
    assert content(answer).lstrip().startswith("{")


@case
def json_schema(target: Target) -> None:
    """The answer is held to the schema."""
    answer = target.ask(response_format=CITY, max_tokens=40)
    assert (json.loads(content(answer)), answer.choices[0].finish_reason) == (
        {"city": "Paris"},
        "stop",
    )


@case
def json_schema_streamed(target: Target) -> None:
    """So is a stream of it."""
    chunks = list(target.stream(response_format=CITY, max_tokens=40))
    assert json.loads(text(chunks)) == {"city": "Paris"}


@case
def parsed(target: Target) -> None:
    """The client's own helper reads it into a type."""
    answer = target.client.chat.completions.parse(
        **target.asked(response_format=City, max_tokens=40)
    )
    assert answer.choices[0].message.parsed == City(city="Paris")


@case
def plain_text(target: Target) -> None:
    """The format `text` is the plain answer."""
    assert content(target.ask(response_format={"type": "text"}, max_tokens=2)) == "The capital"


@case
def no_schema(target: Target) -> None:
    """A schema that is none is the client's mistake."""
    with pytest.raises(openai.BadRequestError):
        target.ask(response_format=schema({"type": "nonsense"}))
