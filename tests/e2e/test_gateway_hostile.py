"""
Clients that mean harm, or are broken: raw bytes at the real gateway in front of stub engines.

Each is told by a status, or finds its connection closed; and whatever it does, another client is
served meanwhile. What may not reach an engine does not.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings
from tests.e2e.one_stub import gateway, process, stub
from tests.rig.gateway_process import GatewayProcess
from tests.rig.raw_client import CHAT, Closed, RawClient, head, request
from tests.rig.stub_engine import StubEngine

# They are started as programs, and share a machine with what measures nothing.
pytestmark = pytest.mark.program

__all__ = ["gateway", "process", "stub"]

BODY_BYTES = 256 * 1024
SETTINGS = GatewaySettings(
    timeouts=TimeoutSettings(head_seconds=1.0, body_seconds=1.0),
    limits=LimitSettings(body_bytes=BODY_BYTES),
)


def raw(gateway: GatewayProcess) -> RawClient:
    return RawClient(gateway.port)


LENGTH = "Content-Length: 2"
CHUNKED = "Transfer-Encoding: chunked"
POST = ("POST /v1/chat/completions HTTP/1.1", "Host: gateway")
JSON = "Content-Type: application/json"


def post(*lines: str) -> bytes:
    return head(*POST, JSON, *lines)


#: Where one server reads another request than the next, a second one can be smuggled in.
SMUGGLED = b"0\r\n\r\n" + request(CHAT, "x-request-id: smuggled")
AMBIGUOUS = [
    pytest.param(post(LENGTH, CHUNKED) + SMUGGLED, id="length and chunked"),
    pytest.param(post(CHUNKED, LENGTH) + SMUGGLED, id="chunked and length"),
    pytest.param(post(LENGTH, LENGTH) + b"{}", id="length twice"),
    pytest.param(post(LENGTH, "Content-Length: 3") + b"{}x", id="two lengths"),
    pytest.param(post("Content-Length: 2, 2") + b"{}", id="list of lengths"),
    pytest.param(post("Content-Length: +2") + b"{}", id="length with a sign"),
    pytest.param(post("Content-Length: -2") + b"{}", id="length below zero"),
    pytest.param(post("Content-Length: 0x2") + b"{}", id="length in hex"),
    pytest.param(post("Content-Length: 2 2") + b"{}", id="length with a space"),
    pytest.param(post("Content-Length:") + b"{}", id="empty length"),
    pytest.param(post("Content-Length: 99999999999999999999999") + b"{}", id="length overflows"),
    pytest.param(post("Transfer-Encoding: xchunked") + SMUGGLED, id="unknown coding"),
    pytest.param(post("Transfer-Encoding: identity") + SMUGGLED, id="identity"),
    pytest.param(post("Transfer-Encoding: gzip, chunked") + SMUGGLED, id="gzip"),
    pytest.param(post("Transfer-Encoding: chunked, identity") + SMUGGLED, id="not chunked last"),
    pytest.param(post(CHUNKED, CHUNKED) + SMUGGLED, id="chunked twice"),
    pytest.param(post("Transfer-Encoding: \x0bchunked", LENGTH) + SMUGGLED, id="vertical tab"),
    pytest.param(post("Transfer-Encoding : chunked", LENGTH) + SMUGGLED, id="space before colon"),
    pytest.param(post("Content-Length : 2") + b"{}", id="space before colon of the length"),
    pytest.param(post("X-Folded: a", " b", LENGTH) + b"{}", id="folded line"),
    pytest.param(post(LENGTH, " Transfer-Encoding: chunked") + SMUGGLED, id="folded coding"),
    pytest.param(post("X: a\nTransfer-Encoding: chunked", LENGTH) + SMUGGLED, id="bare LF"),
    pytest.param(post("X: a\rTransfer-Encoding: chunked", LENGTH) + SMUGGLED, id="bare CR"),
    pytest.param(post("X: a\x00b", LENGTH) + b"{}", id="NUL"),
    pytest.param(post("X@Y: a", LENGTH) + b"{}", id="name of other characters"),
    pytest.param(post(": a", LENGTH) + b"{}", id="no name"),
    pytest.param(post("no colon", LENGTH) + b"{}", id="no colon"),
    pytest.param(post("Host: other", LENGTH) + b"{}", id="two hosts"),
    pytest.param(head(POST[0], JSON, LENGTH) + b"{}", id="no host"),
    pytest.param(
        head("POST /v1/chat/completions HTTP/1.0", CHUNKED) + SMUGGLED, id="chunked in HTTP/1.0"
    ),
    pytest.param(head("POST /v1/chat/completions", LENGTH) + b"{}", id="HTTP/0.9"),
    pytest.param(head("POST /v1/chat/completions HTTP/3.1", LENGTH) + b"{}", id="HTTP/3.1"),
    pytest.param(head("POST  /v1/chat/completions  HTTP/1.1", LENGTH) + b"{}", id="two spaces"),
    pytest.param(head("PO ST /v1/models HTTP/1.1", "Host: x"), id="method with a space"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), id="TLS"),
    pytest.param(bytes(range(256)) * 4, id="every byte"),
    pytest.param(request(CHAT).replace(b"\r\n", b"\n"), id="LF alone"),
]


@pytest.mark.parametrize("data", AMBIGUOUS)
def test_ambiguous(data: bytes, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A request that can be read in two ways is refused, its connection closed, no engine asked."""
    with raw(gateway) as client:
        client.send(data)
        assert client.outcome() in (0, 400, 411, 413, 501, 505)
        assert client.ended() == b""
    assert stub.seen == []


CHUNKS = [
    pytest.param(b"zz\r\n{}\r\n0\r\n\r\n", id="no number"),
    pytest.param(b"-2\r\n{}\r\n0\r\n\r\n", id="below zero"),
    pytest.param(b"0x2\r\n{}\r\n0\r\n\r\n", id="prefix"),
    pytest.param(b"\r\n{}\r\n0\r\n\r\n", id="nothing"),
    pytest.param(b"FFFFFFFFFFFFFFFFF\r\n{}\r\n", id="overflows"),
    pytest.param(b"2\r\n{}X\r\n0\r\n\r\n", id="longer than told"),
    pytest.param(b"2\n{}\n0\n\n", id="LF alone"),
    pytest.param(b"%x\r\n" % (BODY_BYTES + 1) + b"x" * 100, id="larger than a body may be"),
    pytest.param((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 65, id="together larger"),
]


@pytest.mark.parametrize("body", CHUNKS)
def test_chunks(body: bytes, gateway: GatewayProcess, stub: StubEngine) -> None:
    """Chunks that are none, or too many, are refused or waited for in vain, and it is closed."""
    with raw(gateway) as client:
        client.send(post(CHUNKED) + body)
        assert client.outcome() in (0, 400, 408, 413, 431)
        assert client.ended() == b""
    assert stub.seen == []


TOO_MUCH = [
    pytest.param(post("X: " + "x" * 17_000, LENGTH), {431}, id="header"),
    pytest.param(post(*(f"X-{i}: y" for i in range(101)), LENGTH), {431}, id="101 headers"),
    pytest.param(post(*(["X:"] * 5000)), {431}, id="empty headers"),
    pytest.param(request(method="GET", target="/" + "x" * 17_000), {414, 431}, id="target"),
    pytest.param(post("X: " + "x" * 300_000), {431}, id="more than a read"),
    pytest.param(post(f"Content-Length: {BODY_BYTES + 1}"), {413}, id="body as told"),
    pytest.param(request(b"x" * (BODY_BYTES + 1)), {413}, id="body as sent"),
    pytest.param(post("Content-Length: 99999999999"), {413}, id="100 GB"),
]


@pytest.mark.parametrize(("data", "statuses"), TOO_MUCH)
def test_too_much(
    data: bytes, statuses: set[int], gateway: GatewayProcess, stub: StubEngine
) -> None:
    """What is larger than it may be is told so, and the connection closed."""
    with raw(gateway) as client:
        client.send(data)
        answer = client.answer()
        assert answer.status in statuses
        assert set(answer.document["error"]) == {"message", "type", "param", "code"}
        assert client.ended() == b""
    assert stub.seen == []


def test_just_enough(gateway: GatewayProcess) -> None:
    """What is as large as it may be is served."""
    fill = BODY_BYTES - len(request({**CHAT, "x": ""}).partition(b"\r\n\r\n")[2])
    with raw(gateway) as client:
        client.send(request({**CHAT, "x": "x" * fill}, *(f"X-{i}: y" for i in range(90))))
        assert client.answer().status == 200
        client.send(request(CHAT, "X: " + "x" * 15_000))
        assert client.answer().status == 200


PATHS = [
    *("/v1/chat/completions/", "/v1/chat/completions/..", "/v1/../slots", "/v1/%2e%2e/slots"),
    *("//v1/models", "/v1//models", "/v1/models/%00", "\\v1\\models", "/v1\\models"),
    *("/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2fslots", "/v1/chat%2fcompletions"),
    *("/v1/models;x=1", "/v1/models#x", "/V1/models", "/v1/models/", "/v1/models/ä", "*"),
    *("/slots", "/props", "/completion", "/tokenize", "/sleep", "/lora-adapters", "/v1", "/"),
    *("/v1/load_lora_adapter", "/collective_rpc", "/v1/engines/chat/completions", "v1/models"),
    *("http://127.0.0.1/slots", "http://example.com/v1/models", "ftp://x/y", "127.0.0.1:80"),
    *("/v1/models/a b", "/v1/models?/../slots\x7f", "/admin", "/debug", "/v1/chat/completions%20"),
]


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths(method: str, target: str, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A path that is in no table reaches no engine, however it is written."""
    data = CHAT if method == "POST" else None
    with raw(gateway) as client:
        client.send(request(data, method=method, target=target))
        assert client.outcome() in (0, 400, 404, 405)
    assert stub.seen == []


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"])
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/health", "127.0.0.1:22"])
def test_methods(method: str, target: str, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A method that nothing here has opens no tunnel and echoes nothing."""
    with raw(gateway) as client:
        client.send(request(None, "X-Secret: s3cret", method=method, target=target))
        try:
            answer = client.answer()
        except Closed:
            return
    assert answer.status in (400, 404, 405, 501)
    assert b"s3cret" not in answer.body
    assert stub.seen == []


DEEP = b"[" * 100_000 + b"]" * 100_000
PLAIN = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]'
BODIES = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"{", id="half"),
    pytest.param(b"null", id="null"),
    pytest.param(b'"chat"', id="a text"),
    pytest.param(PLAIN + b"}}", id="too many braces"),
    pytest.param(PLAIN + b',"x":NaN}', id="no number"),
    pytest.param(PLAIN + b',"x":\xff}', id="no text"),
    pytest.param(PLAIN + b',"x":"\xff\xfe"}', id="no UTF-8"),
    pytest.param(PLAIN + b',"x":"\xed\xa0\x80"}', id="half a pair of surrogates"),
    pytest.param(PLAIN + b',"x":"\xc0\xaf"}', id="more bytes than needed"),
    pytest.param(PLAIN + b',"x":"a\nb"}', id="line break in a text"),
    pytest.param(PLAIN + b',"x":' + DEEP + b"}", id="deep"),
    pytest.param(PLAIN + b',"x":' + b"[" * 70 + b"]" * 70 + b"}", id="70 deep"),
    pytest.param(PLAIN + b',"x":' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}", id="70 objects deep"),
    pytest.param(DEEP, id="deep and no object"),
    pytest.param('{"model":"chat"}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b'{"model":["chat"],"messages":[]}', id="model is a list"),
    pytest.param(b'{"model":null,"messages":[]}', id="model is null"),
    pytest.param(b'{"model":1e999,"messages":[]}', id="model is infinite"),
    pytest.param(b'{"model":"../../etc/passwd","messages":[]}', id="model is a path"),
    pytest.param(b'{"model":"chat\\u0000","messages":[]}', id="model with a NUL"),
    pytest.param(b'{"model":"' + b"x" * 100_000 + b'"}', id="long model"),
    pytest.param(b'{"model":"chat","model":"other","messages":[]}', id="two models"),
    pytest.param(PLAIN + b',"stream":"yes"}', id="stream is a text"),
]


@pytest.mark.parametrize("body", BODIES)
def test_bodies(body: bytes, gateway: GatewayProcess, stub: StubEngine) -> None:
    """A body that cannot be meant is refused, and the connection may be used again."""
    with raw(gateway) as client:
        client.send(request(body))
        answer = client.answer()
        assert answer.status in (400, 404, 422)
        assert set(answer.document["error"]) == {"message", "type", "param", "code"}
        assert len(answer.body) < 2000
        client.send(request(CHAT))
        assert client.answer().status == 200
    assert len(stub.seen) == 1


def test_other_hosts_are_not_asked(gateway: GatewayProcess, stub: StubEngine) -> None:
    """No field of a body and no header names where a request goes."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, raw(gateway) as client:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1"
        there: dict[str, Any] = {"api_base": url, "base_url": url, "user_config": {"base_url": url}}
        client.send(
            request({**CHAT, **there}, f"X-Forwarded-Host: {url}", f"Forwarded: host={url}")
        )
        assert client.answer().status == 200
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    (seen,) = stub.seen
    assert not seen.asked.keys() & there.keys()
    assert not {"forwarded", "x-forwarded-host"} & seen.headers.keys()


def test_secrets_stay(gateway: GatewayProcess, stub: StubEngine) -> None:
    """The client's key and cookies reach no engine, and no hop's own header does."""
    headers = ("Authorization: Bearer s3cret", "X-API-Key: s3cret", "Cookie: s3cret")
    with raw(gateway) as client:
        client.send(request(CHAT, *headers, "Connection: keep-alive, x-own", "x-own: s3cret"))
        assert client.answer().status == 200
    (seen,) = stub.seen
    assert "s3cret" not in str(seen.headers)
    assert seen.headers["host"] == stub.address
