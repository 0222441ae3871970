"""Health, metrics and one-token questions over HTTP on loopback. The Prober port."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpuctl.model import Outcome, ProbeResult, ProbeSpec

#: A metrics page of vLLM is some 60 KiB; what is longer is cut off.
_BODY_BYTES = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_CANARY_SECONDS = 30.0
_DETAIL_CHARACTERS = 200


class HttpProber:
    """
    One connection a question, closed after it: a probe must notice that nobody listens.

    Every question has one deadline over connecting, sending and the whole answer, so a server
    that drips a byte a second does not hold it.
    """

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Ask for health, then for metrics; those are read also where health is late."""
        began = time.monotonic()
        outcome, status, detail = _health(spec)
        latency = time.monotonic() - began
        metrics = None
        if spec.metrics_path is not None and outcome in ("ok", "timeout"):
            metrics = _metrics(spec)
        return ProbeResult(
            outcome=outcome,
            status=status,
            latency_seconds=latency,
            detail=detail,
            metrics=metrics,
        )

    def canary(self, spec: ProbeSpec) -> bool:
        """Return whether one token came within 30 s."""
        assert spec.canary_path is not None
        body = spec.canary_body.encode()
        try:
            status, answer = _asked(spec, "POST", spec.canary_path, body, _CANARY_SECONDS)
        except (OSError, ValueError):
            return False
        return status == 200 and bool(answer)


def _health(spec: ProbeSpec) -> tuple[Outcome, int | None, str]:
    try:
        status, body = _asked(spec, "GET", spec.health_path, b"", spec.timeout_seconds)
    except TimeoutError:
        return "timeout", None, f"no answer within {spec.timeout_seconds:g} s"
    except ConnectionRefusedError:
        return "refused", None, "connection refused"
    except _EmptyClose:
        # docker-proxy accepts before the engine listens, and then closes without a word.
        return "refused", None, "closed without an answer"
    except (OSError, ValueError) as error:
        return "reset", None, str(error)[:_DETAIL_CHARACTERS]
    if 200 <= status < 300:
        return "ok", status, ""
    detail = f"HTTP {status} {body.decode(errors='replace')[:_DETAIL_CHARACTERS]}".strip()
    if status == 503:
        return "loading", status, detail
    return ("dead" if status >= 500 else "error"), status, detail


def _metrics(spec: ProbeSpec) -> str | None:
    assert spec.metrics_path is not None
    try:
        status, body = _asked(spec, "GET", spec.metrics_path, b"", spec.timeout_seconds)
    except (OSError, ValueError):
        return None
    return body.decode(errors="replace") if status == 200 else None


class _EmptyClose(ConnectionError):
    """The other side closed without a byte."""


def _asked(
    spec: ProbeSpec, method: str, path: str, body: bytes, seconds: float
) -> tuple[int, bytes]:
    """
    Ask one question in HTTP/1.0, which is answered unchunked and ends with the connection.

    Raises `TimeoutError`, `OSError`, or `ValueError` for an answer that is not HTTP.
    """
    deadline = time.monotonic() + seconds
    head = f"{method} {path} HTTP/1.0\r\nHost: {spec.host}\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with _connected(spec, deadline) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        return _answer(connection, deadline)


@contextmanager
def _connected(spec: ProbeSpec, deadline: float) -> Iterator[socket.socket]:
    connection = socket.create_connection((spec.host, spec.port), timeout=_left(deadline))
    try:
        yield connection
    finally:
        connection.close()


def _answer(connection: socket.socket, deadline: float) -> tuple[int, bytes]:
    """Read status and body up to Content-Length or the end, whichever comes first."""
    received = bytearray()
    end: int | None = None
    start = 0
    while end is None or len(received) < end:
        connection.settimeout(_left(deadline))
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
        if not start and (found := received.find(b"\r\n\r\n")) >= 0:
            start = found + 4
            length = _content_length(received[:found])
            end = start + min(_BODY_BYTES if length is None else length, _BODY_BYTES)
        if not start and len(received) > _HEAD_BYTES:
            raise ValueError("its head is too long")
    if not received:
        raise _EmptyClose("closed without an answer")
    return _status(received), bytes(received[start:end])


def _status(received: bytearray) -> int:
    first = bytes(received.split(b"\r\n", 1)[0]).split()
    if len(first) < 2 or not first[0].startswith(b"HTTP/") or not first[1].isdigit():
        raise ValueError("the answer is not HTTP")
    return int(first[1])


def _content_length(head: bytearray) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("past its deadline")
    return left
