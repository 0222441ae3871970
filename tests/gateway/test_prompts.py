"""How many tokens a prompt has, by the engine that was at work on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.gateway import estimate, gateway, prompts
from gpuctl.gateway.replica import Replica
from gpuctl.model import GatewaySettings, TimeoutSettings
from tests.gateway.desk import replica
from tests.gateway.inside import STREAM, Inside, request, upstream, with_stub
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

EXACT, TEXT = "/v1/chat/completions/input_tokens", "/tokenize"
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HANG = with_stub(STREAM, fault="hang_stream", after=3)


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as started:
        yield started


def at(engine: StubEngine) -> Replica:
    made = replica("chat-0")
    made.host, made.port = "127.0.0.1", engine.port
    made.authorization = b"authorization: Bearer inner\r\n"
    return made


def counted(engine: StubEngine, endpoint: str, **body: Any) -> int | None:
    async def ask() -> int | None:
        known = at(engine)
        found = await prompts.count(known, endpoint, json.dumps(body).encode())
        for connection in tuple(known.idle):
            connection.drop()
        await asyncio.sleep(0)
        return found

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("counts", "endpoint", "tokens", "asked"),
    [
        pytest.param(EXACT, CHAT, 7, [EXACT], id="llama.cpp, messages"),
        pytest.param(TEXT, CHAT, 8, [EXACT, TEXT], id="vLLM, messages"),
        pytest.param(TEXT, COMPLETION, 8, [TEXT], id="a text"),
        pytest.param("", CHAT, None, [EXACT, TEXT], id="an engine without"),
        pytest.param(TEXT, "/v1/responses", None, [], id="another endpoint"),
    ],
)
def test_count(
    engine: StubEngine, counts: str, endpoint: str, tokens: int | None, asked: list[str]
) -> None:
    """The engine's word, from wherever it has one."""
    engine.orders["counts"] = counts
    assert counted(engine, endpoint, prompt="abc") == tokens
    assert [seen.path for seen in engine.counted] == asked
    assert {seen.headers["authorization"] for seen in engine.counted} <= {"Bearer inner"}


def test_a_text_has_the_names_of_both_engines(engine: StubEngine) -> None:
    """vLLM reads `prompt`, llama.cpp `content`; what else there is stays."""
    counted(engine, COMPLETION, model="chat", prompt="abc")
    assert engine.counted[0].asked == {"model": "chat", "prompt": "abc", "content": "abc"}


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        pytest.param(b'{"tokens":[1,2,{"id":3,"piece":"c"}]}', 3, id="llama.cpp's list"),
        pytest.param(b'{"tokens":[]}', 0, id="nothing in it"),
        pytest.param(b'{"count":"many"}', 0, id="another type"),
        pytest.param(b"<html>", 0, id="no JSON"),
    ],
)
def test_answers(answer: bytes, tokens: int) -> None:
    """What is no count is none, not an error."""
    assert prompts._read(answer) == tokens


def test_nobody_there(engine: StubEngine) -> None:
    """A replica that has died is not waited for."""
    engine.refuse()
    assert counted(engine, CHAT) is None


def test_an_engine_that_is_stuck(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time, and its connection is closed then."""
    monkeypatch.setattr(prompts, "SECONDS", 0.05)
    engine.orders["counts"] = "hang"
    assert counted(engine, CHAT) is None
    wait_for(lambda: engine.connections == 0, "its connection to end")


def test_an_engine_that_answers_instead() -> None:
    """What comes is not waited for, and its connection ends: it would generate a whole answer."""
    ended: list[bool] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n")
        while await reader.read(1000):
            pass  # the rest of the request
        ended.append(True)
        writer.close()

    async def ask() -> int | None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            made = replica("chat-0")
            made.host, made.port = server.sockets[0].getsockname()
            found = await prompts.count(made, COMPLETION, b'{"prompt":"abc"}')
            while not ended:
                await asyncio.sleep(0)
            return found

    assert asyncio.run(ask()) is None


def leave(inside: Inside, body: dict[str, Any] = HANG) -> None:
    """Ask for a stream, and leave after its third word."""
    with inside.connect() as client:
        client.sendall(request(body))
        wait_for(lambda: b"w2" in client.recv(4096), "its third word")


def test_who_left(engine: StubEngine) -> None:
    """A stream that broke off has its prompt counted, before it is told of."""
    engine.orders["counts"] = EXACT
    with Inside([upstream(engine)]) as inside:
        leave(inside)
        record = inside.record
        assert (record.end, record.prompt_tokens, record.completion_tokens) == ("client_gone", 7, 2)


def test_the_engine_comes_before_an_estimate(engine: StubEngine) -> None:
    """An operator's tokenizer is for what no engine counts."""
    seen: list[bytes] = []

    def guess(body: bytes) -> int:
        seen.append(body)
        return 99

    known: estimate.Estimate = guess
    with Inside([upstream(engine)]) as inside:
        inside.gateway.estimate = known
        leave(inside)
        assert inside.record.prompt_tokens == 99
        engine.orders["counts"] = EXACT
        leave(inside)
        told = wait_for(lambda: inside.log.records[1:], "its end")[0]
        assert (told.prompt_tokens, len(seen)) == (7, 1)


def test_an_estimate_that_fails(engine: StubEngine) -> None:
    """The request is told of all the same."""

    def broken(body: bytes) -> int:
        raise RuntimeError("a tokenizer's fault")

    with Inside([upstream(engine)]) as inside:
        inside.gateway.estimate = broken
        leave(inside)
        assert inside.record.prompt_tokens is None


def test_no_more_than_so_many(engine: StubEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd that leaves at once is no load on the engine."""
    monkeypatch.setattr(gateway, "_COUNTING", 1)
    engine.orders["counts"] = "hang"
    settings = GatewaySettings(timeouts=TimeoutSettings(drain_seconds=0.0))
    with Inside([upstream(engine, slots=4)], settings) as inside:
        leave(inside)
        wait_for(lambda: engine.counted, "the first question")
        leave(inside)
        assert inside.record.prompt_tokens is None
        assert len(engine.counted) == 1
