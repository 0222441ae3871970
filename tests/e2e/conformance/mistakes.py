"""What a client does wrong, and how it is told."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conformance.cases import QUESTION, Target, case, gateway_case
from tests.e2e.conformance.chat import content

LONG: Any = [{"role": "user", "content": "word " * 3000}]
OWN_WORDS = "the engine has errors of its own"


def refused(target: Target, **changes: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        target.ask(**changes)
    return caught.value


def raw(target: Target, body: bytes, kind: str = "application/json") -> openai.APIStatusError:
    """Send bytes as they are; return the error."""
    with pytest.raises(openai.APIStatusError) as caught:
        target.client.post(
            "/chat/completions",
            content=body,
            cast_to=object,
            options={"headers": {"content-type": kind}},
        )
    return caught.value


@case
def messages_of_another_type(target: Target) -> None:
    """Messages that are no list are the client's mistake."""
    assert "messages" in refused(target, messages="no list").message


@case
def no_messages(target: Target) -> None:
    """So is a request without any."""
    error = raw(target, b'{"model": "%s", "max_tokens": 1}' % target.model.encode())
    assert error.status_code == 400


@case
def message_without_content(target: Target) -> None:
    """So is a message that says nothing."""
    refused(target, messages=[{"role": "user"}])


@case
def limit_of_another_type(target: Target) -> None:
    """So is a limit that is no number."""
    assert "max_tokens" in refused(target, max_tokens="many").message


@case
def temperature_of_another_type(target: Target) -> None:
    """So is a temperature that is none."""
    refused(target, temperature="hot")


@case
def stream_of_another_type(target: Target) -> None:
    """So is a `stream` that is neither true nor false."""
    refused(target, extra_body={"stream": "yes"})


@case
def too_many_choices(target: Target) -> None:
    """So are more choices than the engine can make at once."""
    refused(target, n=100)


@case
def no_choice(target: Target) -> None:
    """So are none at all."""
    refused(target, n=0)


@case
def unknown_format(target: Target) -> None:
    """So is a format of answers that there is not."""
    refused(target, response_format={"type": "xml"})


@case
def no_grammar(target: Target) -> None:
    """So is a grammar that is none, which the engine finds out late."""
    refused(target, extra_body={"grammar": "root :: bad"})


@case
def no_json(target: Target) -> None:
    """So is a body that is no JSON."""
    assert raw(target, b'{"model": ').status_code == 400


@case
def a_list(target: Target) -> None:
    """So is a body that is no object."""
    assert raw(target, b"[]").status_code == 400


@case
def too_long(target: Target) -> None:
    """A prompt that does not fit is the client's mistake, and the message has the figures."""
    message = refused(target, messages=LONG).message
    assert "1024" in message


@case
def too_long_streamed(target: Target) -> None:
    """So is one of a stream, which does not begin."""
    with pytest.raises(openai.BadRequestError):
        target.stream(messages=LONG)


@case
def too_long_text(target: Target) -> None:
    """So is a text that is to be carried on."""
    with pytest.raises(openai.BadRequestError):
        target.client.completions.create(model=target.model, prompt="word " * 3000, max_tokens=1)


@gateway_case(OWN_WORDS)
def too_long_code(target: Target) -> None:
    """It has the code that clients shorten their prompts by."""
    error = refused(target, messages=LONG)
    assert (error.code, error.type) == ("context_length_exceeded", "invalid_request_error")


@gateway_case(OWN_WORDS)
def empty_messages(target: Target) -> None:
    """No message in the list is told by the engine or before it; no replica is the worse for it."""
    answer: Any = None
    try:
        answer = target.ask(messages=[], max_tokens=1)
    except openai.BadRequestError as error:
        answer = error
    assert answer is not None
    assert content(target.ask())


@case
def no_such_endpoint(target: Target) -> None:
    """An endpoint that is not there is not found."""
    with pytest.raises(openai.NotFoundError):
        target.client.moderations.create(input="x")


@case
def vectors_of_a_chat(target: Target) -> None:
    """What chats makes no vectors, and says so."""
    with pytest.raises(openai.APIStatusError):
        target.client.embeddings.create(model=target.model, input="x")


@gateway_case(OWN_WORDS)
def shape(target: Target) -> None:
    """Every error has OpenAI's four fields, with the status's class and a request id."""
    for error in (refused(target, messages="x"), raw(target, b"{"), raw(target, b"[]")):
        body: Any = error.response.json()
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["type"] == "invalid_request_error"
        assert error.request_id


@gateway_case("the engine ends its service for nobody")
def bad_requests_close_no_gate(target: Target) -> None:
    """
    Requests that the engine answers with a 500 take no replica out of service.

    llama.cpp does so where a message lacks its role: that is the client's mistake.
    """
    bad: Any = [{"content": "nobody says this"}]
    for _ in range(12):
        with pytest.raises(openai.APIStatusError):
            target.ask(messages=bad)
    assert content(target.ask(messages=QUESTION))


@gateway_case("the engine would fetch it")
def remote_url(target: Target) -> None:
    """A picture that a server of somebody else's would be asked for is refused."""
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
    error = refused(target, messages=[{"role": "user", "content": [part]}])
    assert error.code == "remote_url_not_allowed"
