"""Chat completions in one piece."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletion

from tests.e2e.conformance.cases import ANSWER, QUESTION, Target, case, gateway_case

#: A character of one, two, three and four bytes.
UNICODE = "aé☃𝄞"
ONLY_UNICODE = {"grammar": f'root ::= "{UNICODE}"'}


def content(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


@case
def answers(target: Target) -> None:
    """A question is answered by the assistant, in one choice, which says why it ended."""
    answer = target.ask()
    (choice,) = answer.choices
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "stop")
    assert (choice.message.content, answer.object) == (ANSWER, "chat.completion")


@case
def identity(target: Target) -> None:
    """Each answer has an id of its own, its time and the model's name."""
    one, other = target.ask(max_tokens=1), target.ask(max_tokens=1)
    assert one.id.startswith("chatcmpl-")
    assert one.id != other.id
    assert (one.model, one.created > 1_700_000_000) == (target.model, True)


@case
def system_message(target: Target) -> None:
    """A system message comes before the question."""
    longer = target.ask(messages=[{"role": "system", "content": "Be brief."}, *QUESTION])
    plain = target.ask()
    assert content(longer)
    assert longer.usage
    assert plain.usage
    assert longer.usage.prompt_tokens > plain.usage.prompt_tokens


@case
def turns(target: Target) -> None:
    """A conversation of several turns is taken as it stands."""
    past = [
        *QUESTION,
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    answer = target.ask(messages=past)
    assert content(answer) == ANSWER
    assert answer.usage
    assert answer.usage.prompt_tokens > 30


@case
def content_parts(target: Target) -> None:
    """A message may be a list of parts."""
    part = {"type": "text", "text": QUESTION[0]["content"]}
    assert content(target.ask(messages=[{"role": "user", "content": [part]}])) == ANSWER


@case
def unicode_out(target: Target) -> None:
    """Characters of any length in bytes come as they were made."""
    assert content(target.ask(extra_body=ONLY_UNICODE)) == UNICODE


@case
def unicode_in(target: Target) -> None:
    """Characters of any length in bytes arrive as they were sent: the same number of tokens."""
    asked: Any = [{"role": "user", "content": UNICODE * 5}]
    plain = target.ask(messages=[{"role": "user", "content": "a" * 5}], max_tokens=1)
    answer = target.ask(messages=asked, max_tokens=1)
    assert answer.usage
    assert plain.usage
    assert answer.usage.prompt_tokens >= plain.usage.prompt_tokens + 15


@case
def long_prompt(target: Target) -> None:
    """A prompt of a hundred tokens and more is read to its end."""
    words = "word " * 150
    answer = target.ask(messages=[{"role": "user", "content": words}], max_tokens=1)
    assert answer.usage
    assert answer.usage.prompt_tokens > 150


@case
def long_field(target: Target) -> None:
    """A body of a megabyte is taken: most of it is a field that the engine ignores."""
    assert content(target.ask(metadata={"much": "x" * 1_000_000})) == ANSWER


@case
def max_tokens(target: Target) -> None:
    """No more tokens than asked for, and the reason says so."""
    answer = target.ask(max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 3


@case
def max_completion_tokens(target: Target) -> None:
    """The newer name of that limit holds as well."""
    answer = target.client.chat.completions.create(
        model=target.model, messages=QUESTION, max_completion_tokens=2
    )
    assert answer.usage
    assert answer.usage.completion_tokens == 2


@case
def stop_word(target: Target) -> None:
    """The answer ends before the stop word."""
    answer = target.ask(stop=" Paris")
    assert content(answer) == ANSWER.partition(" Paris")[0]
    assert answer.choices[0].finish_reason == "stop"


@case
def stop_words(target: Target) -> None:
    """The first of several stop words ends it."""
    assert content(target.ask(stop=[" Paris", " of"])) == "The capital"


@case
def the_same_again(target: Target) -> None:
    """At temperature 0 the answer is the same each time."""
    assert {content(target.ask()) for _ in range(3)} == {ANSWER}


@case
def seed(target: Target) -> None:
    """With a seed, chance falls the same way again."""
    chance = {"temperature": 1, "seed": 7, "extra_body": {"cache_prompt": False}}
    assert content(target.ask(**chance)) == content(target.ask(**chance))


@case
def logprobs(target: Target) -> None:
    """Each token comes with its probability, and the most likely ones beside it."""
    found = target.ask(max_tokens=2, logprobs=True, top_logprobs=3).choices[0].logprobs
    assert found
    assert found.content
    assert [token.token for token in found.content] == ["The", " capital"]
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in found.content)


@case
def no_logprobs(target: Target) -> None:
    """Nobody gets probabilities who has not asked for them."""
    assert target.ask(max_tokens=1).choices[0].logprobs is None


@case
def several_choices(target: Target) -> None:
    """Two choices come with the indexes 0 and 1."""
    answer = target.ask(n=2, max_tokens=3, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


@case
def logit_bias(target: Target) -> None:
    """A token that was forbidden does not come. 7042 is ` Paris` in the model's vocabulary."""
    assert "Paris" not in content(target.ask(logit_bias={"7042": -100}))


@case
def usage(target: Target) -> None:
    """The tokens are counted, and add up."""
    found = target.ask(max_tokens=4).usage
    assert found
    assert (found.completion_tokens, found.prompt_tokens > 4) == (4, True)
    assert found.total_tokens == found.prompt_tokens + found.completion_tokens


@case
def unknown_fields_in(target: Target) -> None:
    """A field that is no part of OpenAI's API reaches the engine."""
    assert content(target.ask(extra_body={"grammar": 'root ::= "no"'})) == "no"


@case
def unknown_fields_out(target: Target) -> None:
    """A field that the engine adds reaches the client: here llama.cpp's `timings`."""
    extra = target.ask(max_tokens=1).model_extra
    assert extra
    assert extra["timings"]["predicted_n"] == 1


@case
def fields_without_effect(target: Target) -> None:
    """What only OpenAI's own service uses does no harm."""
    about = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    assert content(target.ask(**about)) == ANSWER


@case
def null_fields(target: Target) -> None:
    """A field that is null is one that was not given."""
    assert content(target.ask(stop=None, logprobs=None, stream=None)) == ANSWER


@gateway_case("the engine has the one name")
def alias(target: Target) -> None:
    """A model answers to its other name, as `gpt-4`."""
    assert content(target.ask(model="gpt-4")) == ANSWER
