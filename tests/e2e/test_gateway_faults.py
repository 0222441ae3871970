"""
Engines that fail, as the openai client sees it: the real gateway in front of stub engines.

What was not begun is answered by a sibling; what was begun ends with an error that the client
raises; and what nobody can answer says when to come again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from gpuctl.model import GatewaySettings, QueueSettings, TimeoutSettings
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.program

WORDS = "w0 w1 w2 w3 "
SETTINGS = GatewaySettings(
    routing="round_robin",
    timeouts=TimeoutSettings(attempt_seconds=1.0, idle_seconds=1.0, batch_seconds=10.0),
    queue=QueueSettings(size=2, timeout_seconds=5.0),
)


@pytest.fixture(scope="module")
def bad() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def good() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture
def gateway(bad: StubEngine, good: StubEngine) -> Iterator[GatewayProcess]:
    """One of its own for each test: retries are a share of the requests of the last ten seconds."""
    upstreams = [
        Upstream(name="chat-0", address=bad.address, slots=2),
        Upstream(name="chat-1", address=good.address, slots=2),
    ]
    with GatewayProcess(upstreams, SETTINGS) as started:
        yield started
        assert not started.broke


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with asking(gateway) as made:
        yield made


@contextmanager
def asking(gateway: GatewayProcess, retries: int = 0) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=gateway.base_url, api_key="none", max_retries=retries, timeout=20
    ) as made:
        yield made


def ask(client: openai.OpenAI, *, stream: bool = False, **orders: Any) -> str:
    """Return the answer's words, streamed or not."""
    asked: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
    made: Any = client.chat.completions.create(**asked, stream=stream, extra_body={"stub": orders})
    if not stream:
        return made.choices[0].message.content or ""
    return "".join(chunk.choices[0].delta.content or "" for chunk in made)


@pytest.fixture(autouse=True)
def well_again(bad: StubEngine, good: StubEngine) -> Iterator[None]:
    """Have both engines well before a test, whatever the one before has made of them."""
    yield
    bad.orders = {}
    bad.refuse()
    bad.listen()
    bad.seen.clear()
    good.seen.clear()


def fail(bad: StubEngine, fault: str) -> None:
    if fault == "refuse":
        bad.refuse()
    else:
        bad.orders = {"fault": fault}


EARLY = ["refuse", "close_empty", "close_head", "close_body", "nonsense", "503", "502", "hang_head"]


@pytest.mark.parametrize("fault", EARLY)
def test_a_sibling_answers(
    fault: str, gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI
) -> None:
    """No request fails of which no byte was passed on, whatever its replica does."""
    fail(bad, fault)
    assert [ask(client) for _ in range(4)] == [WORDS] * 4
    assert fault == "refuse" or bad.seen


@pytest.mark.parametrize("fault", [fault for fault in EARLY if fault != "close_body"])
def test_a_sibling_streams(
    fault: str, gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI
) -> None:
    """Nor does a stream that had not begun."""
    fail(bad, fault)
    assert [ask(client, stream=True) for _ in range(4)] == [WORDS] * 4


@pytest.mark.parametrize("fault", ["close_stream", "hang_stream", "close_head"])
def test_a_sibling_answers_what_was_collected(
    fault: str, gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI
) -> None:
    """An answer in one piece that its engine streams is begun again when that breaks off."""
    gateway.told(replace(each, collect_streams=True) for each in gateway.upstreams)
    fail(bad, fault)
    assert [ask(client) for _ in range(4)] == [WORDS] * 4
    assert bad.seen[0].asked["stream"]


def test_killed_with_requests_running(
    gateway: GatewayProcess, bad: StubEngine, good: StubEngine
) -> None:
    """A replica that dies with requests running costs none of them."""
    with asking(gateway) as client, ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask, client, delay_seconds=0.4) for _ in range(4)]
        wait_for(lambda: bad.running == 2, "it to be busy")
        bad.refuse()
        assert [each.result() for each in found] == [WORDS] * 4
    assert not good.running


@pytest.mark.parametrize("fault", ["close_stream", "hang_stream", "error_stream"])
def test_a_broken_stream_is_raised(
    fault: str, gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI
) -> None:
    """A stream that breaks off after its beginning raises in the client, after what had come."""
    made = client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_body={"stub": {"fault": fault}},
    )
    words: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        words.extend(chunk.choices[0].delta.content for chunk in made)
    assert words[:2] == ["w0 ", "w1 "]
    assert caught.value.message
    assert "127.0.0.1" not in caught.value.message


def test_too_many_of_the_engine(
    gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI
) -> None:
    """A 429 is the client's to hear, and is held against no replica."""
    for _ in range(12):
        with pytest.raises(openai.RateLimitError):
            ask(client, fault="429")
    assert ask(client) == WORDS


def test_a_long_prompt(gateway: GatewayProcess, bad: StubEngine, client: openai.OpenAI) -> None:
    """A prompt that does not fit has OpenAI's code, is tried once, and closes no gate."""
    for _ in range(12):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, fault="context")
        assert caught.value.code == "context_length_exceeded"
    assert len(bad.seen) <= 12
    assert ask(client) == WORDS


def test_a_request_that_every_engine_fails(gateway: GatewayProcess, bad: StubEngine) -> None:
    """A request that fails everywhere ends with an error, soon, and is not tried for ever."""
    with asking(gateway) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, fault="503")
        assert caught.value.status_code in (502, 503)
        assert len(bad.seen) <= 3
        body: Any = caught.value.response.json()
        assert set(body["error"]) == {"message", "type", "param", "code"}


def test_out_of_time(gateway: GatewayProcess, bad: StubEngine) -> None:
    """A request that no engine answers in time is told so, with the whole time and no more."""
    with asking(gateway) as client:
        began = time.monotonic()
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, fault="hang_head")
        assert caught.value.status_code in (503, 504)
        assert time.monotonic() - began < 12


def test_the_client_comes_again(gateway: GatewayProcess, bad: StubEngine) -> None:
    """With no replica a 503 says when to come again, and openai's client does, and is answered."""
    there = gateway.upstreams
    gateway.told(replace(each, phase="failed") for each in there)
    with asking(gateway) as client, pytest.raises(openai.InternalServerError) as caught:
        ask(client)
    headers = caught.value.response.headers
    assert (caught.value.status_code, caught.value.code) == (503, "no_replica")
    assert (headers["x-should-retry"], 1 <= int(headers["retry-after"]) <= 120) == (
        "true",
        True,
    )
    with asking(gateway, retries=4) as patient, ThreadPoolExecutor(1) as pool:
        refused = refusals(gateway)
        answer = pool.submit(ask, patient)
        wait_for(lambda: refusals(gateway) > refused, "the first refusal")
        gateway.told(there)
        assert answer.result() == WORDS


def refusals(gateway: GatewayProcess) -> int:
    return sum(line.get("status") == 503 for line in gateway.lines)


def test_a_full_queue(bad: StubEngine) -> None:
    """What neither runs nor may wait is refused at once, and says when to come again."""
    settings = replace(SETTINGS, timeouts=TimeoutSettings())
    only = [Upstream(name="chat-0", address=bad.address, slots=2)]
    with (
        GatewayProcess(only, settings) as gateway,
        asking(gateway) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        found = [pool.submit(ask, client, delay_seconds=2.0) for _ in range(4)]
        wait_for(lambda: gateway.document["queued"] == 2, "the queue to be full")
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client)
        assert (caught.value.status_code, caught.value.code) == (503, "queue_full")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert [each.result() for each in found] == [WORDS] * 4


def test_a_silent_stream_is_kept_alive(bad: StubEngine) -> None:
    """A stream that is long in coming is committed to with comments, and then comes."""
    settings = replace(SETTINGS, keep_alive_interval_seconds=0.2, timeouts=TimeoutSettings())
    only = [Upstream(name="chat-0", address=bad.address)]
    with GatewayProcess(only, settings) as gateway, asking(gateway) as client:
        asked: dict[str, Any] = {
            "model": "chat",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }
        with client.chat.completions.with_streaming_response.create(
            **asked, extra_body={"stub": {"delay_seconds": 1.0}}
        ) as answer:
            assert next(answer.iter_lines()).startswith(":")
        assert ask(client, stream=True, delay_seconds=1.0) == WORDS
        with pytest.raises(openai.APIError):
            ask(client, stream=True, delay_seconds=0.5, fault="503")
