"""
An engine that computes nothing: OpenAI's answers at a settable pace, and every fault on order.

Orders stand in the request's own body, `{"stub": {"fault": "hang_head"}}`, which a gateway passes
on as a field it does not know; or in `StubEngine.orders`, for every request that has none. It runs
in a thread, so that a test looks straight at what it has seen.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Ended = Literal["", "answered", "cut", "faulted"]

#: What `fault` may be, beside an HTTP status in digits.
FAULTS = (
    "close_empty",  # the connection ends without an answer
    "close_head",  # in the middle of the answer's head
    "close_body",  # in the middle of a body that has a length
    "close_stream",  # after `after` events of a stream, its framing unfinished
    "hang_head",  # no byte, for ever
    "hang_stream",  # none after `after` events
    "context",  # llama.cpp's error of a prompt that is too long
    "error_stream",  # an error event after `after` events
    "hang_stream_end",  # all events, and its framing unfinished
    "nonsense",  # no HTTP
)
#: Where engines count a prompt's tokens, and what each answers; 404 unless `counts` names it.
COUNTING: dict[str, dict[str, Any]] = {
    "/v1/chat/completions/input_tokens": {"input_tokens": 7},
    "/tokenize": {"count": 8, "tokens": [1, 2, 3]},
}


@dataclass(slots=True)
class Seen:
    """One request, as the engine saw it."""

    path: str
    headers: dict[str, str]
    body: bytes
    began: float = field(default_factory=time.monotonic)
    ended: Ended = ""
    ended_at: float | None = None  # monotonic seconds
    sent_bytes: int = 0

    @property
    def asked(self) -> dict[str, Any]:
        """The JSON of its body; empty where that is something else."""
        found: dict[str, Any] = json.loads(self.body) if self.body.startswith(b"{") else {}
        return found


class Gone(Exception):
    """The client closed before its answer was complete."""


class StubEngine:
    """
    A context manager. Orders: fault, after, tokens, interval_seconds, delay_seconds, bytes.

    Its own alone: counts, the path of COUNTING that it has; "hang": it answers none of them.
    """

    def __init__(self, model: str = "chat", port: int = 0, **orders: Any) -> None:
        self.model = model
        self.port = port
        self.orders: dict[str, Any] = orders
        self.seen: list[Seen] = []
        self.counted: list[Seen] = []  # requests of COUNTING, which are not among these
        self.connections = 0  # open now
        self.accepted = 0
        self.pipelined = 0  # bytes of a second request before the first was answered
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> StubEngine:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        asyncio.run_coroutine_threadsafe(self._cancel_rest(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> int:
        """Requests that have neither been answered nor cut."""
        return sum(not seen.ended for seen in self.seen)

    def ended(self, how: Ended) -> list[Seen]:
        return [seen for seen in self.seen if seen.ended == how]

    def listen(self) -> None:
        """Accept connections, again after `refuse` on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def refuse(self) -> None:
        """Refuse new connections and reset those there are, as a killed engine does."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            # What is accepted while a server closes is never closed itself (CPython before 3.12,
            # an assertion in Server._attach): accept no more first, and let that become something.
            for listener in self._server.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _cancel_rest(self) -> None:
        for _ in range(5):  # what was accepted last is served some turns of the loop later
            await asyncio.sleep(0)
            for writer in list(self._writers):
                writer.transport.abort()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.accepted += 1
        self._writers.add(writer)
        try:
            while (seen := await _request(reader)) is not None:
                (self.counted if seen.path in COUNTING else self.seen).append(seen)
                if not await self._answer(seen, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # closed between two requests, or within one
        finally:
            self.connections -= 1
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(
        self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Return whether the connection may be used again."""
        gone = asyncio.ensure_future(reader.read(1))
        work = asyncio.ensure_future(Answer(self.model, self.orders, seen, writer).give())
        try:
            await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not work.done():
                self.pipelined += 0 if gone.exception() else len(gone.result())
                seen.ended = "cut"
                return False
            kept = await work
            seen.ended = "answered" if kept else "faulted"
            return kept
        except (OSError, Gone):
            seen.ended = "cut"
            return False
        finally:
            seen.ended = seen.ended or "cut"
            seen.ended_at = time.monotonic()
            await _ended(gone, work)


async def _ended(*futures: asyncio.Future[Any]) -> None:
    """Cancel what still runs of them, and look at how each ended."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    """Read one request; `None` when the connection ends instead."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join([piece async for piece in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(path=first.split(" ")[1], headers=headers, body=body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


class Answer:
    """What is sent for one request."""

    def __init__(
        self, model: str, orders: Mapping[str, Any], seen: Seen, writer: asyncio.StreamWriter
    ) -> None:
        self.model, self.seen, self.writer = model, seen, writer
        self.asked = seen.asked
        self.engine = orders
        self.orders: dict[str, Any] = {**orders, **self.asked.get("stub", {})}
        self.chat = seen.path != "/v1/completions"

    async def give(self) -> bool:
        """Send it; return whether the connection may be used again."""
        if self.seen.path in COUNTING:
            return await self.counting(str(self.engine.get("counts", "")))
        if self.seen.path == "/health":
            await self.json(200, {"status": "ok"})
            return True
        await asyncio.sleep(self.orders.get("delay_seconds", 0.0))
        fault = str(self.orders.get("fault", ""))
        if fault and "stream" not in fault:
            return await self.faulted(fault)
        # As engines do, it passes the field over where there is nothing to stream.
        whole = self.seen.path in ("/v1/embeddings", "/v1/rerank")
        if self.asked.get("stream") and not whole:
            return await self.stream(fault)
        await asyncio.sleep(self.tokens * self.interval)
        await self.json(200, self.document())
        return True

    async def counting(self, path: str) -> bool:
        if path == "hang":
            await asyncio.Event().wait()
        known = path == self.seen.path
        await self.json(200 if known else 404, COUNTING[path] if known else {"error": "none"})
        return True

    @property
    def tokens(self) -> int:
        return int(self.orders.get("tokens", 4))

    @property
    def interval(self) -> float:
        """Seconds that a token takes."""
        return float(self.orders.get("interval_seconds", 0.0))

    async def faulted(self, fault: str) -> bool:
        if fault.isdigit():
            error = {"code": int(fault), "message": "as ordered", "type": "server_error"}
            await self.json(int(fault), {"error": error})
            return True
        if fault == "context":
            await self.json(400, _CONTEXT)
            return True
        if fault == "hang_head":
            await asyncio.Event().wait()
        elif fault == "close_head":
            await self.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
        elif fault == "close_body":
            await self.send(_head(200, "application/json", length=1000) + b'{"id": "half')
        elif fault == "nonsense":
            await self.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        elif fault != "close_empty":
            raise ValueError(f"there is no fault {fault!r}: {FAULTS}")
        return False

    async def stream(self, fault: str) -> bool:
        """Send an event a token, and what belongs after them."""
        await self.send(_head(200, "text/event-stream", length=None))
        within = fault not in ("", "hang_stream_end")
        after = int(self.orders.get("after", 2)) if within else None
        for index in range(self.tokens):
            if index == after:
                return await self.broken(fault)
            await self.event(self.chunk(_word(index, self.orders), None, first=index == 0))
            await asyncio.sleep(self.interval)
        await self.event(self.chunk("", "stop"))
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            await self.event({**self.chunk("", None), "choices": [], "usage": self.usage()})
        done = b"e\r\ndata: [DONE]\n\n\r\n"
        if fault == "hang_stream_end":
            await self.send(done)
            await asyncio.Event().wait()
        await self.send(done + b"0\r\n\r\n")
        return True

    async def broken(self, fault: str) -> bool:
        if fault == "hang_stream":
            await asyncio.Event().wait()
        if fault == "error_stream":
            await self.event({"error": {"code": 500, "message": "as ordered", "type": "x"}})
            await self.send(b"0\r\n\r\n")
            return True
        return False

    def chunk(self, text: str, finish: str | None, *, first: bool = False) -> dict[str, Any]:
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        part = {"delta": delta if text else {}} if self.chat else {"text": text}
        return {
            **self.identity("chat.completion.chunk" if self.chat else "text_completion"),
            "choices": [{"index": 0, **part, "finish_reason": finish}],
        }

    def document(self) -> dict[str, Any]:
        if self.seen.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return {"object": "list", "model": self.model, "data": data, "usage": usage}
        text = "".join(_word(index, self.orders) for index in range(self.tokens))
        part = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {
            **self.identity("chat.completion" if self.chat else "text_completion"),
            "choices": [{"index": 0, **part, "finish_reason": "stop"}],
            "usage": self.usage(),
        }

    def identity(self, kind: str) -> dict[str, Any]:
        return {"id": f"stub-{id(self.seen):x}", "object": kind, "created": 1, "model": self.model}

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": 3,
            "completion_tokens": self.tokens,
            "total_tokens": 3 + self.tokens,
        }

    async def json(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        await self.send(_head(status, "application/json", length=len(body)) + body)

    async def event(self, document: Mapping[str, Any]) -> None:
        data = b"data: " + json.dumps(document).encode() + b"\n\n"
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise Gone
        self.writer.write(data)
        await self.writer.drain()
        self.seen.sent_bytes += len(data)


#: As llama.cpp words it (tools/server/server-context.cpp, 2026).
_CONTEXT = {
    "error": {
        "code": 400,
        "message": "request (3031 tokens) exceeds the available context size (1024 tokens), try "
        "increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 3031,
        "n_ctx": 1024,
    }
}


def _word(index: int, orders: Mapping[str, Any]) -> str:
    """Return the text of one token: `bytes` long where that is ordered."""
    size = int(orders.get("bytes", 0))
    return "x" * size if size else f"w{index} "


def _head(status: int, kind: str, *, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = (f"HTTP/1.1 {status} Stub", f"Content-Type: {kind}", "Server: stub-engine", framing)
    return "\r\n".join((*lines, "", "")).encode()
