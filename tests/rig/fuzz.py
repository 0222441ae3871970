"""
What a client may send that no client should: bytes at random, and requests that are almost good.

Every case follows from a seed and its number, so that what went wrong can be sent again:
`case(seed, number)`.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Literal

from tests.rig.raw_client import CHAT, request
from tests.rig.stub_engine import FAULTS

End = Literal["read", "close", "reset", "half", "leave"]

#: What servers have been fooled with, put anywhere.
SPICE = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b":", b" ", b"\t", b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Expect: 100-continue\r\n", b"Host: x\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"HTTP/1.1", b"HTTP/2.0", b"GET / HTTP/1.1\r\n"),
    *(b"../", b"%2e%2e%2f", b"%00", b"//", b"?a=b", b"#", b"\\", b"http://127.0.0.1:1/"),
    *(b'"', b"{", b"}", b"[" * 80, b"]", b",", b'"stream":true,', b'"model":1,', b"NaN", b"1e999"),
    *(b"\xed\xa0\x80", b"\xc0\xaf", b"\\ud800", b"-0", b"\xef\xbb\xbf", b"x" * 5000),
)
ASKED = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank"),
    "/v1/audio/transcriptions",
)
TARGETS = (
    *(
        "/v1/models",
        "/v1/models/chat",
        "/v1/models/a%2Fb",
        "/health",
        "/ready",
        "/readyz?level=all",
    ),
    *("/metrics", "/admin/status", "/debug/runtime", "/openapi.json", "/", "*", "/v1/models/../x"),
)
OTHER_METHODS = ("HEAD", "OPTIONS", "PUT", "CONNECT", "TRACE", "X")
FIELDS = (
    *("model", "messages", "prompt", "input", "stream", "stream_options", "max_tokens", "tools"),
    *("prompt_cache_key", "previous_response_id", "api_base", "user", "n", "documents", "query"),
)
HEADERS = (
    *("Idempotency-Key", "Authorization", "X-API-Key", "X-Request-Id", "X-Session-Id", "Cookie"),
    *("X-Gpuctl-Priority", "X-Gpuctl-Admin", "Accept-Encoding", "Connection", "Range", "TE"),
    *("Content-Encoding", "Expect", "Upgrade", "Trailer", "X-Forwarded-For", "Content-Type"),
)
TEXTS = (
    "",
    "chat",
    "1",
    "-1",
    "keep-alive",
    "close",
    "gzip",
    "100-continue",
    "x" * 300,
    "ä",
    "\x7f",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent on one connection, and how that ends."""

    pieces: tuple[bytes, ...]
    end: End


def case(seed: int, number: int) -> Case:
    """Return one case; the same arguments give the same one."""
    dice = random.Random(f"{seed}/{number}")
    data = b"".join(_data(dice) for _ in range(dice.choice((1, 1, 1, 2, 4))))
    if dice.random() < 0.2:
        data = data[: dice.randrange(len(data) + 1)]
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 3))))
    pieces = (data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))
    return Case(
        pieces=tuple(pieces),
        end=dice.choice(("read", "read", "read", "close", "reset", "half", "leave")),
    )


def _data(dice: random.Random) -> bytes:
    kind = dice.random()
    if kind < 0.05:
        return dice.randbytes(dice.randrange(1, 3000))
    if kind < 0.35:
        return _mutated(dice, _request(dice))
    return _request(dice)


def _request(dice: random.Random) -> bytes:
    """Return a request whose framing is right, and whose content may be anything."""
    target = dice.choice(ASKED if dice.random() < 0.8 else TARGETS)
    method = "POST" if target in ASKED else "GET"
    if dice.random() < 0.05:
        method = dice.choice(OTHER_METHODS)
    count = dice.choice((0, 0, 0, 1, 3))
    headers = [f"{dice.choice(HEADERS)}: {dice.choice(TEXTS)}" for _ in range(count)]
    body: Any = _body(dice) if method == "POST" else None
    if body is not None and dice.random() < 0.2:
        return _chunked(dice, target, headers, body)
    if target.endswith("transcriptions") and body is not None:
        return _multipart(dice, target, headers)
    return request(body, *headers, method=method, target=target)


def _body(dice: random.Random) -> bytes:
    kind = dice.random()
    if kind < 0.05:
        return dice.randbytes(dice.randrange(200))
    body: dict[str, Any] = {**CHAT, "stream": dice.random() < 0.4}
    for _ in range(dice.choice((0, 0, 1, 3))):
        body[dice.choice(FIELDS)] = _value(dice, 0)
    if dice.random() < 0.2:
        body["stub"] = {"fault": dice.choice((*FAULTS, "500", "429", "404")), "after": 1}
    if dice.random() < 0.05:
        body["stub"] = {"tokens": 300, "bytes": 5000}
    return json.dumps(body, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")


def _value(dice: random.Random, depth: int) -> Any:
    kinds: list[Any] = [None, True, 0, -1, 1e300, 10**30, *TEXTS, "\ud800", "chat", "data:,x"]
    if depth > 3 or dice.random() < 0.6:
        return dice.choice(kinds)
    inner = [_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return inner if dice.random() < 0.5 else {dice.choice(FIELDS): each for each in inner}


def _chunked(dice: random.Random, target: str, headers: list[str], body: bytes) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: gateway", *headers, "Content-Type: application/json"]
    sent = "\r\n".join((*lines, "Transfer-Encoding: chunked", "", "")).encode()
    size = dice.choice((1, 7, 1000))
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        told = len(piece) if dice.random() < 0.97 else dice.randrange(1 << 40)
        sent += b"%x\r\n%s\r\n" % (told, piece)
    return sent + b"0\r\n\r\n"


def _multipart(dice: random.Random, target: str, headers: list[str]) -> bytes:
    edge = dice.choice(("x", "edge", "a b", "x" * 80))
    parts = ""
    for _ in range(dice.randrange(4)):
        name = dice.choice(("model", "file", "stream", "", 'a"b'))
        parts += f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += f"{dice.choice(TEXTS)}\r\n"
    body = (parts + dice.choice((f"--{edge}--\r\n", f"--{edge}", ""))).encode()
    lines = [f"POST {target} HTTP/1.1", "Host: gateway", *headers]
    lines += [f"Content-Type: multipart/form-data; boundary={edge}", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


def _mutated(dice: random.Random, data: bytes) -> bytes:
    """Return it with some bytes changed, left out, said twice, or put in."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        at = dice.randrange(len(found) + 1)
        size = dice.choice((1, 2, 10, 100))
        match dice.randrange(4):
            case 0:
                found[at : at + 1] = dice.randbytes(1)
            case 1:
                del found[at : at + size]
            case 2:
                found[at:at] = found[at : at + size]
            case _:
                found[at:at] = dice.choice(SPICE)
    return bytes(found)
