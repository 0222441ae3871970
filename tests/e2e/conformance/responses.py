"""The Responses API, as far as the engine has it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import ANSWER, QUESTION, Target, case


def responded(target: Target, **changes: Any) -> Any:
    plain = {"input": QUESTION, "max_output_tokens": 12, "temperature": 0}
    return target.client.responses.create(**{"model": target.model, **plain, **changes})


@case
def responds(target: Target) -> None:
    """A question is answered."""
    answer = responded(target)
    assert (answer.output_text, answer.object) == (ANSWER, "response")
    assert answer.id.startswith("resp_")


@case
def text_input(target: Target) -> None:
    """The question may be a text alone."""
    assert responded(target, input=QUESTION[0]["content"]).output_text == ANSWER


@case
def instructions(target: Target) -> None:
    """Instructions come before it."""
    longer = responded(target, instructions="Be brief and say it in one sentence.")
    assert longer.usage.input_tokens > responded(target).usage.input_tokens


@case
def usage(target: Target) -> None:
    """The tokens are counted, and add up."""
    found = responded(target, max_output_tokens=2).usage
    assert found.output_tokens == 2
    assert found.total_tokens == found.input_tokens + 2


@case
def streams(target: Target) -> None:
    """Streamed, it is named events from `created` to `completed`, whose pieces are the answer."""
    events = list(responded(target, stream=True))
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == ANSWER
    assert events[-1].response.usage.output_tokens > 3


@case
def no_memory(target: Target) -> None:
    """An earlier answer that is nowhere kept cannot be gone on from."""
    with pytest.raises(openai.APIStatusError) as caught:
        responded(target, previous_response_id="resp_1")
    assert caught.value.status_code in (400, 404)
