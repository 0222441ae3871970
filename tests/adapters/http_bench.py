"""Servers on loopback that say exactly the bytes of their script, and a clock to say them by."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gpuctl.adapters import http
from gpuctl.model import ProbeSpec

Script = Callable[[socket.socket, bytes], None]
Serve = Callable[[Script], int]

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
METRICS = b"tokens_total 42\nrequests 1\n"
#: Long enough for a loaded machine, short enough to wait for.
LATE_SECONDS = 0.3


def answer(status: str, body: bytes = b"", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def says(text: bytes) -> Script:
    return lambda connection, request: connection.sendall(text)


def by_path(**scripts: Script) -> Script:
    """Return a script that does what its named path asks for."""

    def script(connection: socket.socket, request: bytes) -> None:
        scripts[request.split()[1].decode().strip("/")](connection, request)

    return script


def silent(connection: socket.socket, request: bytes) -> None:
    """Say nothing until the other side has gone away."""
    connection.recv(1)


class Clock:
    """Time that passes by 50 ms at every look of the prober, and servers that go by it."""

    def __init__(self) -> None:
        self.looks = threading.Semaphore(0)
        self._seconds = itertools.count(step=0.05)

    def monotonic(self) -> float:
        self.looks.release()
        return next(self._seconds)

    def drips(self, text: bytes, *, after: bytes = b"") -> Script:
        """Return a script that sends a byte at every look, so that no read has to wait."""

        def script(connection: socket.socket, request: bytes) -> None:
            connection.sendall(after)
            for byte in text:
                assert self.looks.acquire(timeout=10)
                connection.sendall(bytes([byte]))

        return script


def resets(connection: socket.socket, request: bytes) -> None:
    # Closing with a linger time of 0 sends RST instead of FIN (socket(7)).
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server on a port of its own for each script, one connection after another."""
    with ExitStack() as open_ones:

        def start(script: Script) -> int:
            listener = socket.create_server(("127.0.0.1", 0))
            thread = threading.Thread(target=_serve, args=(listener, script))
            thread.start()
            open_ones.callback(thread.join)
            # A shutdown wakes the accept; a close alone would not.
            open_ones.callback(listener.shutdown, socket.SHUT_RDWR)
            return int(listener.getsockname()[1])

        yield start


@pytest.fixture
def clock(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The prober's clock; servers that still drip at the end have their way."""
    made = Clock()
    monkeypatch.setattr(http, "time", made)
    yield made
    made.looks.release(1000)


def _serve(listener: socket.socket, script: Script) -> None:
    with listener:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    script(connection, _request(connection))
                except OSError:
                    continue  # the prober has gone away, as it should


def _request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    return request


def spec(port: int, *, metrics: bool = False, timeout_seconds: float = 5.0) -> ProbeSpec:
    return ProbeSpec(
        port=port,
        health_path="/health",
        metrics_path="/metrics" if metrics else None,
        timeout_seconds=timeout_seconds,
        canary_path="/v1/completions",
        canary_body='{"max_tokens": 1}',
    )
