"""
A proxy in front of an engine's socket that loses, delays and falsifies answers, and keeps a record.

One connection carries one request: the proxy asks the engine to close after its answer, so every
client opens a new one, and a stream is relayed until either side ends it.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it arrived, before any rule."""

    at: float  # Unix seconds
    method: str
    path: str  # with the query, without the API version

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")


@dataclass(kw_only=True)
class Rule:
    """What to do with requests whose `METHOD /path` matches; the first that applies is used."""

    match: str  # a regular expression, such as "POST /containers/create"
    do: Literal["drop_reply", "delay", "answer"]
    seconds: float = 0.0  # delay: before the request is forwarded
    status: int = 500  # answer: without asking the engine
    body: object = field(default_factory=lambda: {"message": "the rig says no"})
    times: int | None = None  # None: always


class SocketProxy:
    """A context manager; `host` is its address, `calls` what came through."""

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self._folder = tempfile.TemporaryDirectory(prefix="gp", dir="/tmp")
        self.socket = Path(self._folder.name) / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.calls: list[Call] = []
        self.refuse_streams = False  # True: a new event stream ends at once
        self._rules: list[Rule] = []
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> SocketProxy:
        self._listener.bind(str(self.socket))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        self.cut_streams()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host}

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Forget every rule and every recorded call."""
        with self._lock:
            self._rules.clear()
            self.calls.clear()
            self.refuse_streams = False

    def clear_calls(self) -> None:
        """Forget every recorded call; the rules stay."""
        self.calls.clear()

    def cut_streams(self) -> None:
        """End every event stream that is open now."""
        with self._lock:
            streams = tuple(self._streams)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def first_write(self, since: float) -> Call | None:
        """Return the first call from *since* (Unix seconds) on that changes something."""
        return next((call for call in tuple(self.calls) if call.at >= since and call.writes), None)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head, body = _read_request(client)
            if not head:
                return
            method, target = head.split(b"\r\n")[0].decode().split(" ")[:2]
            path = re.sub(r"^/v\d+\.\d+", "", target)
            self.calls.append(Call(at=time.time(), method=method, path=path))
            rule = self._rule(f"{method} {path}")
            if rule is not None and rule.do == "answer":
                client.sendall(_answer(rule))
                return
            if rule is not None and rule.do == "delay":
                time.sleep(rule.seconds)
            self._forward(client, head, body, path, drop=rule is not None and rule.do != "delay")
            # Closing alone would not end it while another thread waits to read from it.
            client.shutdown(socket.SHUT_RDWR)

    def _rule(self, call: str) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.times != 0 and re.search(rule.match, call):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None

    def _forward(
        self, client: socket.socket, head: bytes, body: bytes, path: str, *, drop: bool
    ) -> None:
        streaming = path.startswith("/events")
        if streaming and self.refuse_streams:
            return
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(self.upstream))
            with self._open_stream(engine if streaming else None):
                engine.sendall(_closing(head) + body)
                if streaming:
                    # A client that leaves must end the engine's side too.
                    threading.Thread(target=_end_with, args=(client, engine), daemon=True).start()
                while data := engine.recv(65536):
                    if not drop:
                        client.sendall(data)

    @contextlib.contextmanager
    def _open_stream(self, stream: socket.socket | None):  # type: ignore[no-untyped-def]
        if stream is None:
            yield
            return
        with self._lock:
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(stream)


def _end_with(client: socket.socket, engine: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1):
            pass
    with contextlib.suppress(OSError):
        engine.shutdown(socket.SHUT_RDWR)


def _read_request(client: socket.socket) -> tuple[bytes, bytes]:
    """Return head (up to and with the empty line) and body of the connection's request."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    length = int(found[1]) if found else 0
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n", body


def _closing(head: bytes) -> bytes:
    """Return the head asking for the connection to be closed after the answer."""
    kept = re.sub(rb"(?im)^connection:[^\r\n]*\r\n", b"", head)
    return kept.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"


def _answer(rule: Rule) -> bytes:
    body = json.dumps(rule.body).encode()
    head = f"HTTP/1.1 {rule.status} Rig\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
