"""
The openai client, unmodified, at one real llama.cpp and at the gateway in front of two of them.

Every case holds at both, or says why it is the gateway's alone: so no case that passes at the bare
engine fails through the gateway.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gpuctl.model import GatewaySettings
from tests.e2e.conformance import GROUPS, documents, texts, tools
from tests.e2e.conformance.cases import CASES, Case, Target, client
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.llama_server import MODEL, LlamaServer

pytestmark = [pytest.mark.engine, pytest.mark.program]

for group in GROUPS:
    importlib.import_module(f"tests.e2e.conformance.{group}")

CHAT, EMBED = "smollm2/135m", "smollm2-embed"


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[LlamaServer, LlamaServer, LlamaServer]]:
    """Two that chat, and one that embeds, with two slots of 1,024 tokens each."""
    assert MODEL.exists(), f"{MODEL} is missing: run `make dev-setup`"
    size = ("-c", "2048", "-np", "2")
    pooled = ("--embeddings", "--pooling", "mean")
    with (
        LlamaServer(CHAT, *size) as one,
        LlamaServer(CHAT, *size) as two,
        LlamaServer(EMBED, *size, *pooled) as three,
    ):
        for engine in (one, two, three):
            engine.ready()
        yield one, two, three


def _target(stack: ExitStack, name: Any, url: str, embedding_url: str) -> Target:
    # llama.cpp closes a connection that is idle for 5 s, at times as the client sends on it.
    headers = {"Connection": "close"} if name == "bare" else {}
    return Target(
        name=name,
        model=CHAT,
        embedding_model=EMBED,
        base_url=f"{url}/v1",
        client=stack.enter_context(client(f"{url}/v1", **headers)),
        embedder=stack.enter_context(client(f"{embedding_url}/v1", **headers)),
    )


@pytest.fixture(scope="module")
def bare(engines: tuple[LlamaServer, ...]) -> Iterator[Target]:
    one, _, three = engines
    with ExitStack() as stack:
        yield _target(stack, "bare", one.url, three.url)


@pytest.fixture(scope="module")
def gateway(engines: tuple[LlamaServer, ...]) -> Iterator[Target]:
    with ExitStack() as stack:
        process = stack.enter_context(GatewayProcess(_upstreams(engines), GatewaySettings()))
        yield _target(stack, "gateway", process.url, process.url)


def _upstreams(engines: tuple[LlamaServer, ...]) -> list[Upstream]:
    chats = [
        Upstream(
            name=f"chat-{index}",
            address=engine.address,
            model=CHAT,
            aliases=("gpt-4",),
            container=f"c{index}",
            slots=2,
            collect_streams=True,
        )
        for index, engine in enumerate(engines[:2])
    ]
    embed = Upstream(
        name="embed-0", address=engines[2].address, model=EMBED, kind="embedding", slots=2
    )
    return [*chats, embed]


def _each(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=f"{case.group}-{case.name}") for case in cases]


@pytest.mark.parametrize("case", _each([case for case in CASES if not case.gateway_only]))
def test_bare(case: Case, bare: Target) -> None:
    """What is asked of the gateway is what the engine does."""
    case.run(bare)


@pytest.mark.parametrize("case", _each(CASES))
def test_gateway(case: Case, gateway: Target) -> None:
    """The gateway does what the engine does, and what is asked of it alone."""
    case.run(gateway)


#: What makes the last bits of an answer those of every time.
EXACT = {"cache_prompt": False}
#: Endpoint and body, at temperature 0.
SAME = [
    pytest.param("/chat/completions", {}, id="chat"),
    pytest.param("/chat/completions", {"max_tokens": 1}, id="one token"),
    pytest.param(
        "/chat/completions", {"logprobs": True, "top_logprobs": 2, **EXACT}, id="logprobs"
    ),
    pytest.param("/chat/completions", {"n": 2, **EXACT}, id="two choices"),
    pytest.param("/chat/completions", {"stop": ["The"]}, id="nothing"),
    pytest.param("/chat/completions", tools.asked(), id="call"),
    pytest.param("/chat/completions", tools.asked(messages=tools.TWO), id="two calls"),
    pytest.param("/chat/completions", {"response_format": documents.CITY}, id="schema"),
    pytest.param("/completions", {"prompt": texts.PROMPT}, id="text"),
    pytest.param("/completions", {"prompt": texts.PROMPT, "logprobs": 1}, id="text logprobs"),
    pytest.param("/completions", {"prompt": ["One", "Two"]}, id="two texts"),
    pytest.param("/embeddings", {"input": "hello"}, id="vector"),
    pytest.param("/responses", {"input": "hello", "max_output_tokens": 4}, id="response"),
]


@pytest.mark.parametrize(("endpoint", "body"), SAME)
def test_the_same_answer(
    endpoint: str, body: dict[str, Any], bare: Target, gateway: Target
) -> None:
    """The gateway's answer is the engine's own, field by field, but for its id and its times."""
    asked = {"temperature": 0, "max_tokens": 24, **body}
    if endpoint == "/chat/completions":
        asked = {**gateway.asked(), **asked}
    of = "embedding_model" if endpoint == "/embeddings" else "model"
    found = [_raw(target, of, endpoint, asked) for target in (bare, gateway)]
    assert found[1] == _nearly(found[0])


def _raw(target: Target, of: str, endpoint: str, asked: dict[str, Any]) -> Any:
    asker = target.embedder if of == "embedding_model" else target.client
    body = {**asked, "model": getattr(target, of)}
    return _settled(asker.post(endpoint, body=body, cast_to=object))


#: What differs from one answer to the next; the details tell how much of the prompt was cached.
_OWN = {
    *("id", "created", "created_at", "completed_at", "timings"),
    *("prompt_tokens_details", "input_tokens_details"),
}


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items() if key not in _OWN}
    if isinstance(value, list):
        return [_settled(item) for item in value]
    return value


def _nearly(value: Any) -> Any:
    """The last bits of a probability hang on what else the engine computes in the same batch."""
    if isinstance(value, float):
        return pytest.approx(value, abs=0.05)
    if isinstance(value, dict):
        return {key: _nearly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nearly(item) for item in value]
    return value


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"stream_options": {"include_usage": True}}, id="usage"),
        pytest.param(tools.asked(), id="call"),
        pytest.param({"logprobs": True, "extra_body": EXACT}, id="logprobs"),
    ],
)
def test_the_same_stream(changes: dict[str, Any], bare: Target, gateway: Target) -> None:
    """The gateway's stream is the engine's own, event by event."""
    found = [_events(target, changes) for target in (bare, gateway)]
    assert found[1] == _nearly(found[0])


def _events(target: Target, changes: dict[str, Any]) -> list[Any]:
    asked = target.asked(stream=True, **changes)
    with target.client.chat.completions.with_streaming_response.create(**asked) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    return [_settled(json.loads(line)) for line in lines if line.startswith("{")] + lines[-1:]


def test_there_are_enough() -> None:
    """At least 60 cases run at both, and no two have the same name."""
    names = [(case.group, case.name) for case in CASES]
    assert len(names) == len(set(names))
    assert len([case for case in CASES if not case.gateway_only]) >= 60
