"""
How many tokens a prompt has, asked of the replica that was at work on it.

An engine tells at an answer's end. Of one that broke off before, `Gateway` asks for the count here:
with the request's own body, which takes no slot. `estimate` is for engines that have no such thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from gpuctl.gateway import heads, upstream
from gpuctl.gateway.counts import read_count
from gpuctl.gateway.fields import read_fields, read_pairs
from gpuctl.gateway.replica import Replica

#: Endpoint → where engines count its prompts, the exact count first.
#: Source: llama.cpp, tools/server/README.md, `POST /v1/chat/completions/input_tokens` and
#: `POST /tokenize`; vLLM, entrypoints/openai, `TokenizeRequest`, which takes messages as well.
_PATHS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "/v1/chat/completions": (b"/v1/chat/completions/input_tokens", b"/tokenize"),
    "/v1/completions": (b"/tokenize",),
}
#: A tokenizer takes milliseconds; nobody waits for the count but a line of the log.
SECONDS: Final = 2.0
#: An answer with the tokens themselves, of a prompt of some 100,000.
_MOST_BYTES: Final = 1024 * 1024


class _Question(upstream.Taker):
    """Takes an answer whole."""

    __slots__ = ("_data", "_status", "answer", "over")

    def __init__(self) -> None:
        #: Its body; `None` where it is an error, too large, or none came.
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.over = False  # nothing more comes
        self._status = 0
        self._data = bytearray()

    def headed(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        kind = heads.content_type(headers)
        if kind and not kind[0][1].startswith(b"application/json"):
            self._tell(None)  # it answers the prompt, instead of counting it

    def body(self, data: bytes) -> None:
        if len(self._data) <= _MOST_BYTES:
            self._data += data

    def ended(self) -> None:
        self.over = True
        good = self._status == 200 and len(self._data) <= _MOST_BYTES
        self._tell(bytes(self._data) if good else None)

    def lost(self, why: str, *, empty: bool, reused: bool) -> None:
        self.over = True
        self._tell(None)

    def _tell(self, answer: bytes | None) -> None:
        if not self.answer.done():  # else nobody waits for it any more
            self.answer.set_result(answer)


async def count(replica: Replica, endpoint: str, body: bytes) -> int | None:
    """
    Return the tokens of the prompt in a request's *body*; `None` where the engine does not say.

    Args:
        replica: where the request was.
        endpoint: as the route table has it.
        body: as the engine got it.
    """
    try:
        async with asyncio.timeout(SECONDS):
            for path in _PATHS.get(endpoint, ()):
                answer = await _post(replica, path, _asked(body) if path == b"/tokenize" else body)
                if answer is not None and (tokens := _read(answer)):
                    return tokens
    except TimeoutError:
        pass
    return None


def _asked(body: bytes) -> bytes:
    """Return a body with its prompt under llama.cpp's name too."""
    prompt = read_fields(body).prompt
    if not bytes(prompt):
        return body
    return msgspec.json.encode({**read_pairs(body), "content": prompt})


def _read(answer: bytes) -> int:
    try:
        told = read_count(answer)
    except msgspec.DecodeError:
        return 0
    return told.input_tokens or told.count or len(told.tokens)


async def _post(replica: Replica, path: bytes, body: bytes) -> bytes | None:
    opened: list[upstream.Connection] = []
    kept = upstream.idle(replica)
    if kept is not None:
        opened.append(kept)
    else:
        await upstream.connect(replica, SECONDS, opened.append, lambda why: None)
    if not opened:
        return None
    question = _Question()
    head = b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n%s" % (
        path,
        replica.authority,
        replica.authorization,
    )
    opened[0].send(question, b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
    try:
        return await question.answer
    finally:
        if not question.over:
            opened[0].drop()
