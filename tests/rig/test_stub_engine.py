"""The stub engine: what it answers, the faults it has on order, and what it has seen."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

WORDS = "w0 w1 w2 w3 "


@pytest.fixture
def stub() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


def asked(connection: http.client.HTTPConnection, **body: Any) -> bytes:
    """Ask for a chat over *connection*; return the answer's body."""
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "chat", **body}))
    return connection.getresponse().read()


def opened(stub: StubEngine) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", stub.port, timeout=5)


def test_answers_on_one_connection(stub: StubEngine) -> None:
    """Answers follow one another on a connection that is kept."""
    connection = opened(stub)
    texts = [json.loads(asked(connection))["choices"][0]["message"]["content"] for _ in range(2)]
    connection.close()
    assert texts == [WORDS, WORDS]
    wait_for(lambda: len(stub.ended("answered")) == 2, "it to know of both")
    assert (stub.accepted, stub.pipelined) == (1, 0)


def test_streams(stub: StubEngine) -> None:
    """A stream has an event a token, one that says why it ended, usage if asked, and its end."""
    connection = opened(stub)
    body = asked(connection, stream=True, stream_options={"include_usage": True})
    connection.close()
    *events, done = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    chunks = [json.loads(event) for event in events]
    words = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert ("".join(words), chunks[-2]["choices"][0]["finish_reason"]) == (WORDS, "stop")
    assert (chunks[-1]["usage"]["completion_tokens"], done) == (4, b"[DONE]")


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        pytest.param("close_empty", b"", id="close_empty"),
        pytest.param("close_head", b"HTTP/1.1 200 OK\r\nContent-Ty", id="close_head"),
        pytest.param("nonsense", b"\x16\x03\x01 this is no HTTP\r\n\r\n", id="nonsense"),
    ],
)
def test_no_answer(stub: StubEngine, fault: str, answer: bytes) -> None:
    """A fault before the answer's body leaves the client without one."""
    body = json.dumps({"stub": {"fault": fault}}).encode()
    with socket.create_connection(("127.0.0.1", stub.port), 5) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.sendall(body)
        assert b"".join(iter(lambda: client.recv(1000), b"")) == answer
    assert len(wait_for(lambda: stub.ended("faulted"), "the end")) == 1


@pytest.mark.parametrize(
    "asking",
    [
        pytest.param({"stub": {"fault": "close_body"}}, id="close_body"),
        pytest.param({"stub": {"fault": "close_stream"}, "stream": True}, id="close_stream"),
    ],
)
def test_half_an_answer(stub: StubEngine, asking: dict[str, Any]) -> None:
    """A fault within the body leaves it unfinished."""
    connection = opened(stub)
    with pytest.raises(http.client.IncompleteRead):
        asked(connection, **asking)
    connection.close()


@pytest.mark.parametrize("fault", ["hang_head", "hang_stream"])
def test_a_client_that_leaves_is_seen(stub: StubEngine, fault: str) -> None:
    """A request whose client closes is cut, wherever it hangs."""
    connection = opened(stub)
    document = {"stream": True, "stub": {"fault": fault}}
    connection.request("POST", "/v1/chat/completions", json.dumps(document))
    wait_for(lambda: stub.running, "the request")
    connection.close()
    wait_for(lambda: stub.ended("cut"), "the cut")
    wait_for(lambda: not stub.connections, "the end of the connection")


def test_orders_for_all_and_a_status(stub: StubEngine) -> None:
    """An order of the engine's own holds for every request."""
    stub.orders["fault"] = "503"
    connection = opened(stub)
    connection.request("POST", "/v1/completions", "{}")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (503, 503)
    connection.close()


def test_refuses_and_listens_again(stub: StubEngine) -> None:
    """One that refuses is not there, and is again on the same port."""
    stub.refuse()
    with pytest.raises(ConnectionRefusedError):
        opened(stub).connect()
    stub.listen()
    connection = opened(stub)
    connection.request("GET", "/health")
    assert connection.getresponse().read() == b'{"status": "ok"}'
    connection.close()
