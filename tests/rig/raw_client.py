"""A client that sends bytes as they are given, and reads an answer as far as it comes."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any


class Closed(Exception):
    """The other side closed before there was a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """A context manager; every wait ends after *seconds* with a `TimeoutError`."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", seconds: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it. A server that has closed already is found out by who reads."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def pieces(self, data: bytes, size: int = 1) -> None:
        """Send it in pieces of *size* bytes, each a packet of its own."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])

    def reset(self) -> None:
        """Close as a client does that died: with a RST."""
        # SO_LINGER of 0 s. Source: socket(7), tcp(7).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def answer(self, *, without_body: bool = False) -> Answer:
        """Read one answer. Raises `Closed`."""
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        status = int(first.split(" ")[1])
        body = b"" if without_body or status < 200 else self._body(headers)
        return Answer(status=status, headers=headers, body=body)

    def outcome(self) -> int:
        """Return the status of the answer, 0 when the connection was closed without one."""
        try:
            return self.answer().status
        except Closed:
            return 0

    def ended(self) -> bytes:
        """Return what else comes until the other side closes."""
        try:
            while True:
                self._more()
        except Closed:
            left, self._left = self._left, b""
            return left

    def line(self) -> bytes:
        """Read up to and with the next line feed."""
        while b"\n" not in self._left:
            self._more()
        line, _, self._left = self._left.partition(b"\n")
        return line + b"\n"

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self.ended()
        body = b""
        while size := int(self.line(), 16):
            body += self._exactly(size)
            self.line()
        self.line()
        return body

    def _exactly(self, size: int) -> bytes:
        while len(self._left) < size:
            self._more()
        found, self._left = self._left[:size], self._left[size:]
        return found

    def _more(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError as error:
            raise Closed from error
        if not data:
            raise Closed
        self._left += data


#: A request that is answered.
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def served(port: int) -> bool:
    """Return whether another client, from another address, is served at once."""
    with RawClient(port, source="127.0.0.2") as other:
        other.send(request(CHAT))
        return other.outcome() == 200


def request(
    body: Any = None,
    *headers: str,
    method: str = "POST",
    target: str = "/v1/chat/completions",
    version: str = "HTTP/1.1",
) -> bytes:
    """Return a request as a proper client makes it; *body* is JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} {version}", "Host: gateway", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join((*lines, "", "")).encode() + data


def head(*lines: str) -> bytes:
    """Return these lines as a head, each as it is."""
    return "\r\n".join((*lines, "", "")).encode("latin-1")
