"""The OpenAPI document: true of the route table, of the settings and of what bodies are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.gateway import bodies, endpoints, openai_errors, openapi
from gpuctl.gateway.bodies import Ask
from gpuctl.gateway.openapi import document

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


def made(**settings: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "version": "1.2.3", "keys": True, "metrics_key": False, "pass_through": (),
    }  # fmt: skip
    return document(**{**usual, **settings})


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in found["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def test_it_has_what_the_route_table_has() -> None:
    """Every path with every method, and nothing that is not served."""
    served = {
        (path.decode(), method.decode().lower())
        for path, methods in endpoints.EXACT.items()
        for method in methods
    }
    one = {("/v1/models/{id}", "get"), ("/v1/models/{id}", "head")}
    assert {(path, method) for path, method, _ in operations(made())} == served | one


def test_it_is_what_the_standard_asks_for() -> None:
    """Every reference leads somewhere, every operation has a name of its own and its answers."""
    found = made(pass_through=("/ocr",))
    assert found["openapi"] == "3.1.0"
    for reference in re.findall(rb'"\$ref":"#/([^"]+)"', msgspec.json.encode(found)):
        at: Any = found
        for word in reference.decode().split("/"):
            at = at[word]
        assert at
    names = [operation["operationId"] for _, _, operation in operations(found)]
    assert len(names) == len(set(names))
    for _, _, operation in operations(found):
        for answer in operation["responses"].values():
            assert "$ref" in answer or answer["description"]


def test_every_schema_is_one() -> None:
    """As JSON Schema 2020-12 has it, which OpenAPI 3.1 takes over."""
    for path, method, operation in operations(made()):
        contents = [answer.get("content", {}) for answer in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        schemas = [each["schema"] for content in contents for each in content.values() if each]
        assert schemas or method == "head", path
        for schema in schemas:
            jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("keys", "metrics_key", "asks"),
    [
        pytest.param(True, False, False, id="open metrics"),
        pytest.param(True, True, True, id="metrics with a key"),
    ],
)
def test_who_needs_a_key_is_told(keys: bool, metrics_key: bool, asks: bool) -> None:
    """All but the endpoints that probes use, and /metrics as the profile says."""
    found = made(keys=keys, metrics_key=metrics_key)
    assert found["security"] == [{"bearer": []}, {"key": []}]
    open_paths = {path for path, _, one in operations(found) if one.get("security") == []}
    always = {"/health", "/ready", "/readyz", "/openapi.json"}
    assert open_paths == (always if asks else always | {"/metrics"})
    assert set(found["components"]["securitySchemes"]) == {"bearer", "key"}


def test_without_keys_nobody_needs_one() -> None:
    """A gateway on loopback that was given none."""
    assert made(keys=False)["security"] == []


def test_what_is_passed_through_is_there() -> None:
    """With every method, and no promise of what it answers."""
    item = made(pass_through=("/ocr",))["paths"]["/ocr"]
    assert set(item) == set(METHODS)
    assert item["post"]["responses"] == {
        "default": {"description": "As that answers", "content": {"*/*": {}}}
    }
    assert item["post"]["summary"] == "Passed on, with every path below"


def test_every_status_of_an_error_is_described() -> None:
    """All that the gateway answers by itself."""
    described = {int(name[5:]) for name in made()["components"]["responses"]}
    assert {fault.status for fault in openai_errors.FAULTS.values()} <= described


@pytest.mark.parametrize("code", sorted(openai_errors.FAULTS))
def test_every_error_is_as_it_is_described(code: str) -> None:
    """Its body, and the headers that are named."""
    answer = openai_errors.answer(code)
    told = made()["components"]["responses"][f"Error{answer.status}"]
    jsonschema.validate(msgspec.json.decode(answer.body), openapi._ERROR)
    sent = {name.decode(): value.decode() for name, value in answer.headers}
    assert sent.pop("content-type") in told["content"]
    assert sent.keys() <= told["headers"].keys()
    assert sent["x-should-retry"] in told["headers"]["x-should-retry"]["schema"]["enum"]


_CHAT = endpoints.EXACT[b"/v1/chat/completions"][b"POST"]
_ASKED = jsonschema.Draft202012Validator(
    made()["paths"][_CHAT.name]["post"]["requestBody"]["content"]["application/json"]["schema"]
)
#: Anything that JSON has, with the fields that are looked at more often than chance has them.
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["include_usage", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
_BODIES = _VALUES | st.fixed_dictionaries(
    {},
    optional={
        name: _VALUES for name in ("model", "stream", "stream_options", "messages", "prompt")
    },
)


@given(_BODIES)
def test_a_body_is_taken_if_and_only_if_the_schema_has_it(body: object) -> None:
    """What the document says of a body is what `bodies` does with it."""
    found = bodies.read(_CHAT, b"application/json", msgspec.json.encode(body))
    assert _ASKED.is_valid(body) == isinstance(found, Ask), found


_WORDS = st.lists(st.tuples(st.sampled_from(".:/"), st.text("aZ0_-", min_size=1, max_size=3)))


@given(_WORDS.filter(bool))
def test_every_id_that_fits_is_looked_up(parts: list[tuple[str, str]]) -> None:
    """The path of one model, with its slashes as they are and encoded."""
    model = "".join(mark + word for mark, word in parts)[1:129].rstrip(".:/")
    assert re.fullmatch(openapi._NAME, model)
    for text in (model, model.replace("/", "%2F")):
        found = endpoints.find(b"GET", b"/v1/models/" + text.encode())
        assert isinstance(found, endpoints.Endpoint)
        assert found.model == model


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading of the page."""
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    section = page.partition(f"\n{heading}\n")[2]
    table = section.partition("|---")[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_the_page_has_every_error() -> None:
    """With its status, and whether a client should try again."""
    assert [row[:3] for row in rows("### Errors")] == [
        [f"`{code}`", str(fault.status), "yes" if fault.retry else "no"]
        for code, fault in openai_errors.FAULTS.items()
    ]


def test_the_page_has_every_endpoint() -> None:
    """With its method, and whether it asks for a key."""
    told = {
        (path, method, key != "no")
        for paths, method, key, _ in rows("## Endpoints")
        for path in re.findall(r"`(.+?)`", paths)
    }
    assert told == {
        (path, method.upper(), operation.get("security") != [])
        for path, method, operation in operations(made(metrics_key=True))
        if method != "head"
    }
