"""Functions that the model may call."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
from pydantic import BaseModel

from tests.e2e.conformance.cases import Target, case

WEATHER: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Paris", "Rome"]}},
                "required": ["city"],
            },
        },
    }
]


def calls(*cities: str) -> dict[str, Any]:
    """Return the assistant's message that calls for the weather of these."""
    made = [{"name": "weather", "arguments": json.dumps({"city": city})} for city in cities]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call-{index}", "type": "function", "function": call}
            for index, call in enumerate(made)
        ],
    }


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def tool(text: str, index: int = 0) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call-{index}", "content": text}


#: The model is small: it does what it has seen done.
SHOWN = [
    *(user("Weather in Rome?"), calls("Rome"), tool("rain")),
    *({"role": "assistant", "content": "Rain."}, user("Weather in Paris?")),
]
# Shown twice: after one showing, the last bits of a sum decide whether it calls twice.
_ASKED_FOR_TWO = user("Weather in Rome and Paris?")
_SHOWN_TWO = [_ASKED_FOR_TWO, calls("Rome", "Paris"), tool("rain"), tool("sun", 1)]
TWO = [*_SHOWN_TWO, *_SHOWN_TWO, _ASKED_FOR_TWO]


def asked(**changes: Any) -> dict[str, Any]:
    return {"messages": SHOWN, "tools": WEATHER, "max_tokens": 60, **changes}


def called(target: Target, **changes: Any) -> list[tuple[str, Any]]:
    """Return the name and the arguments of each call in the answer."""
    choice = target.ask(**asked(**changes)).choices[0]
    made: Any = choice.message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in made]


@case
def call(target: Target) -> None:
    """A call comes in place of an answer, with an id and arguments in JSON."""
    choice = target.ask(**asked()).choices[0]
    assert choice.finish_reason == "tool_calls"
    made: Any = choice.message.tool_calls
    assert [(each.type, each.function.name) for each in made] == [("function", "weather")]
    assert json.loads(made[0].function.arguments) == {"city": "Paris"}
    assert made[0].id


@case
def required(target: Target) -> None:
    """A call that is required is made."""
    assert called(target, tool_choice="required") == [("weather", {"city": "Paris"})]


@case
def named(target: Target) -> None:
    """The function that is named is called."""
    name = {"type": "function", "function": {"name": "weather"}}
    assert called(target, tool_choice=name) == [("weather", {"city": "Paris"})]


@case
def none(target: Target) -> None:
    """Where no call is wanted, there is none."""
    choice = target.ask(**asked(tool_choice="none", max_tokens=4)).choices[0]
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "length")
    assert choice.message.content


@case
def result(target: Target) -> None:
    """The answer takes up what a function gave."""
    past = [*SHOWN, calls("Paris"), tool("sun")]
    choice = target.ask(**asked(messages=past, max_tokens=6)).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Sun.", "stop")


@case
def streamed(target: Target) -> None:
    """A call streams as an index, an id and a name, and then its arguments in pieces."""
    chunks = list(target.stream(**asked()))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert {piece.index for piece in pieces} == {0}
    assert (pieces[0].function.name, bool(pieces[0].id)) == ("weather", True)
    assert all(piece.id is None for piece in pieces[1:])
    arguments = "".join(piece.function.arguments for piece in pieces)
    assert (json.loads(arguments), len(pieces) > 3) == ({"city": "Paris"}, True)


@case
def parallel(target: Target) -> None:
    """Two calls in one answer stay two, in their order."""
    two = {"messages": TWO, "parallel_tool_calls": True}
    assert called(target, **two) == [("weather", {"city": "Rome"}), ("weather", {"city": "Paris"})]


@case
def parallel_streamed(target: Target) -> None:
    """Streamed, two calls are told apart by their index."""
    chunks = list(target.stream(**asked(messages=TWO, parallel_tool_calls=True)))
    arguments: dict[int, str] = {}
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or []:
            arguments[piece.index] = arguments.get(piece.index, "") + piece.function.arguments
    cities = {index: json.loads(text)["city"] for index, text in arguments.items()}
    assert cities == {0: "Rome", 1: "Paris"}


class Weather(BaseModel):
    city: Literal["Paris", "Rome"]


@case
def parsed(target: Target) -> None:
    """The client's own helper reads the arguments into a type."""
    made = target.client.chat.completions.parse(
        **target.asked(**asked(tools=[openai.pydantic_function_tool(Weather, name="weather")]))
    )
    found: Any = made.choices[0].message.tool_calls
    assert found[0].function.parsed_arguments == Weather(city="Paris")


@case
def streamed_helper(target: Target) -> None:
    """The client's own helper puts a streamed call together."""
    with target.client.chat.completions.stream(**target.asked(**asked())) as stream:
        kinds = {event.type for event in stream}
        final: Any = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.done" in kinds
    assert json.loads(final[0].function.arguments) == {"city": "Paris"}
