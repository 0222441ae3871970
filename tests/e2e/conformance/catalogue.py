"""The models there are."""

from __future__ import annotations

import openai
import pytest

from tests.e2e.conformance.cases import Target, case, gateway_case

ONE_LIST = "the engine lists its own model, and has no page of one"


@case
def listed(target: Target) -> None:
    """The list has the model that chats, in OpenAI's shape."""
    rows = [model for model in target.client.models.list() if model.id == target.model]
    assert len(rows) == 1
    assert (rows[0].object, rows[0].created > 0, bool(rows[0].owned_by)) == ("model", True, True)


@case
def list_ends(target: Target) -> None:
    """The list is one page."""
    page = target.client.models.list()
    assert (page.object, page.has_next_page()) == ("list", False)


@gateway_case(ONE_LIST)
def all_listed(target: Target) -> None:
    """Every model of the profile is there once, and the other names of them too."""
    names = [model.id for model in target.client.models.list()]
    assert {target.model, target.embedding_model, "gpt-4"} <= set(names)
    assert len(names) == len(set(names))


@gateway_case(ONE_LIST)
def retrieved(target: Target) -> None:
    """A model is found by its name, which the client writes with `%2F` for its slash."""
    assert "/" in target.model
    assert target.client.models.retrieve(target.model).id == target.model


@gateway_case(ONE_LIST)
def retrieved_with_a_slash(target: Target) -> None:
    """And with the slash as it is."""
    found = target.client.get(f"/models/{target.model}", cast_to=openai.types.Model)
    assert (found.id, found.object) == (target.model, "model")


@gateway_case(ONE_LIST)
def alias_retrieved(target: Target) -> None:
    """So is a model by its other name, which stays the name that was asked for."""
    assert target.client.models.retrieve("gpt-4").id == "gpt-4"


@case
def not_there(target: Target) -> None:
    """A model that is not there is not found."""
    with pytest.raises(openai.NotFoundError):
        target.client.models.retrieve("no-such-model")


@gateway_case("the engine answers by any name")
def unknown_model(target: Target) -> None:
    """A request for a model that is not there says so, by its name and with OpenAI's code."""
    with pytest.raises(openai.NotFoundError) as caught:
        target.ask(model="no-such-model")
    assert caught.value.code == "model_not_found"
    assert "no-such-model" in caught.value.message


@gateway_case("the engine answers by any name")
def unknown_model_everywhere(target: Target) -> None:
    """So does one at any other endpoint."""
    name = "no-such-model"
    with pytest.raises(openai.NotFoundError):
        target.client.completions.create(model=name, prompt="x", max_tokens=1)
    with pytest.raises(openai.NotFoundError):
        target.embedder.embeddings.create(model=name, input="x")
    with pytest.raises(openai.NotFoundError):
        target.client.responses.create(model=name, input="x", max_output_tokens=1)
