"""Completions of a text."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import Target, case

PROMPT = "The capital of France is"


def completed(target: Target, **changes: Any) -> Any:
    plain = {"prompt": PROMPT, "max_tokens": 2, "temperature": 0}
    return target.client.completions.create(**{"model": target.model, **plain, **changes})


@case
def completes(target: Target) -> None:
    """A text is carried on."""
    answer = completed(target)
    (choice,) = answer.choices
    assert (choice.text, choice.index, choice.finish_reason) == (" Paris.", 0, "length")
    assert (answer.object, answer.model) == ("text_completion", target.model)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


@case
def streams(target: Target) -> None:
    """Streamed, it comes in pieces of one id."""
    chunks = list(completed(target, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == " Paris."
    assert (len({chunk.id for chunk in chunks}), len(chunks) > 2) == (1, True)
    assert chunks[-1].choices[0].finish_reason == "length"


@case
def stop_word(target: Target) -> None:
    """It ends before the stop word."""
    assert completed(target, stop=["."], max_tokens=9).choices[0].text == " Paris"


@case
def several_prompts(target: Target) -> None:
    """Of several texts each is carried on, by its index."""
    answer = completed(target, prompt=[PROMPT, "One two three"])
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text == " Paris."


@case
def tokens(target: Target) -> None:
    """A prompt may be tokens."""
    answer = completed(target, prompt=[504, 3575, 282])
    assert (answer.usage.prompt_tokens, bool(answer.choices[0].text)) == (3, True)


@case
def several_tokens(target: Target) -> None:
    """And several prompts may."""
    assert len(completed(target, prompt=[[504, 3575], [504]]).choices) == 2


@case
def several_choices(target: Target) -> None:
    """Two choices come with the indexes 0 and 1."""
    assert [choice.index for choice in completed(target, n=2).choices] == [0, 1]


@case
def logprobs(target: Target) -> None:
    """Probabilities come where they were asked for."""
    found = completed(target, logprobs=1).choices[0].logprobs
    assert found is not None
    assert completed(target).choices[0].logprobs is None


@case
def echo_and_suffix(target: Target) -> None:
    """What this engine does nothing with is no mistake."""
    assert " Paris" in completed(target, echo=True, suffix=" end").choices[0].text


@case
def empty_prompt(target: Target) -> None:
    """No prompt at all is the client's mistake."""
    with pytest.raises(openai.BadRequestError):
        completed(target, prompt=[])
