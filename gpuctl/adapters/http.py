"""
Asks an engine over HTTP whether it is well, under a deadline that covers the whole exchange.

A socket's own timeout starts afresh with every byte, so an engine that drips would hold a probe
for ever; here each read is given what is left of the deadline. Called by the probe samplers,
from any thread; a new connection for every question, so a dead one is never mistaken for news.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gpuctl.model import Outcome, ProbeResult, ProbeSpec

# vLLM's /metrics is about 60 KiB; what is longer than this is not an engine's.
_BODY_BYTES = 1024 * 1024
_DETAIL_CHARACTERS = 200


class HttpProber:
    """
    Implements `ports.Prober`.

    *canary_seconds* is the least deadline of a one-token question: it must wait for a prefill,
    which a health deadline need not.
    """

    def __init__(self, canary_seconds: float = 30.0) -> None:
        self._canary_seconds = canary_seconds

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Ask for health, then for metrics (a deadline of its own each); never raises."""
        began = time.monotonic()
        outcome, status, detail = _outcome_of(spec, spec.health_path, spec.timeout_seconds)
        latency_seconds = time.monotonic() - began
        # A time-out does not skip the metrics: tokens may move while /health is late. Where the
        # connection itself failed there is nobody to ask.
        metrics, late = (None, False) if outcome in ("refused", "reset") else _metrics(spec)
        return ProbeResult(
            outcome=outcome,
            status=status,
            latency_seconds=latency_seconds,
            detail=detail,
            metrics=metrics,
            metrics_late=late,
        )

    def canary(self, spec: ProbeSpec) -> bool | None:
        """
        Ask for one token; True for a 200 with a body within the deadline. Never raises.

        `None` for a key that the engine does not accept, or that cannot be read here, and where
        the question may wait behind another's answer, for a late one.
        """
        if spec.canary_path is None:
            return False
        seconds = max(spec.timeout_seconds, self._canary_seconds)
        try:
            answer = _ask(spec, spec.canary_path, seconds, body=spec.canary_body.encode())
        except TimeoutError:
            return None if spec.mute_at_work else False
        except (OSError, http.client.HTTPException, ValueError):
            return False
        if answer.status in (401, 403):
            return None
        return answer.status == 200 and bool(answer.body)

    def warm_up(self, spec: ProbeSpec, seconds: float) -> ProbeResult:
        """Have one warm-up request answered within *seconds*; `ok` for a 2xx. Never raises."""
        if spec.warmup_path is None:
            return ProbeResult(outcome="ok")
        began = time.monotonic()
        body = spec.warmup_body.encode()
        outcome, status, detail = _outcome_of(spec, spec.warmup_path, seconds, body)
        latency_seconds = time.monotonic() - began
        return ProbeResult(
            outcome=outcome, status=status, latency_seconds=latency_seconds, detail=detail
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes  # at most _BODY_BYTES
    complete: bool  # False: there was more


def _outcome_of(
    spec: ProbeSpec, path: str, seconds: float, body: bytes | None = None
) -> tuple[Outcome, int | None, str]:
    """
    Return what became of a question, the HTTP status and the words for people.

    An empty close is a refusal: docker-proxy accepts before the engine listens, and closes, which
    arrives as an end or, when the request was on its way, as a reset.
    """
    try:
        answer = _ask(spec, path, seconds, body)
    except TimeoutError:
        return "timeout", None, f"no answer within {seconds:g} s"
    except ConnectionRefusedError:
        return "refused", None, "connection refused"
    except http.client.RemoteDisconnected:
        return "refused", None, "closed without an answer"
    except (http.client.IncompleteRead, ConnectionResetError):
        return "reset", None, "closed in the middle of an answer"
    except http.client.BadStatusLine as error:
        return "reset", None, str(error)[:_DETAIL_CHARACTERS]
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "error", None, (str(error) or type(error).__name__)[:_DETAIL_CHARACTERS]
    if 200 <= answer.status < 300:
        return "ok", answer.status, ""
    said = answer.body.decode("utf-8", "replace").strip()[:_DETAIL_CHARACTERS]
    return _outcome(answer.status), answer.status, f"HTTP {answer.status} {said}".strip()


def _outcome(status: int) -> Outcome:
    """Return `loading` for any 503: an engine that was ready and is dead is told by the sampler."""
    if status == 503:
        return "loading"
    return "dead" if status >= 500 else "error"


def _metrics(spec: ProbeSpec) -> tuple[str | None, bool]:
    """Return the text of the metrics, `None` for anything but a 200, and whether it was late."""
    if spec.metrics_path is None:
        return None, False
    try:
        answer = _ask(spec, spec.metrics_path, spec.timeout_seconds)
    except TimeoutError:
        return None, True
    except (OSError, http.client.HTTPException, ValueError):
        return None, False
    if answer.status != 200:
        return None, False
    text = answer.body.decode("utf-8", "replace")
    # A line that was cut off would give a counter that jumps backwards.
    return (text if answer.complete else text[: text.rfind("\n") + 1]), False


def _ask(spec: ProbeSpec, path: str, seconds: float, body: bytes | None = None) -> _Answer:
    """
    Send one request and read its answer within *seconds*; a POST when there is a *body*.

    Raises TimeoutError, OSError, HTTPException or ValueError (a path that is not ASCII).
    """
    ends = time.monotonic() + seconds
    with socket.create_connection((spec.host, spec.port), timeout=seconds) as connection:
        connection.settimeout(_left(ends))
        try:
            connection.sendall(_request(spec, path, body))
        except (ConnectionResetError, BrokenPipeError) as error:
            raise http.client.RemoteDisconnected("closed before the question") from error
        # HTTPResponse asks its socket for nothing but `makefile`.
        stream = cast("socket.socket", _Stream(connection, ends))
        with http.client.HTTPResponse(stream, method="GET" if body is None else "POST") as response:
            response.begin()
            content = response.read(_BODY_BYTES)
            _refuse_truncated(response, content)
            return _Answer(
                status=response.status, body=content, complete=len(content) < _BODY_BYTES
            )


def _refuse_truncated(response: http.client.HTTPResponse, content: bytes) -> None:
    # HTTPResponse.read(n) takes an early close for the end of a body; what is still owed of its
    # Content-Length is in `length`.
    if len(content) < _BODY_BYTES and response.length:
        raise http.client.IncompleteRead(content, response.length)


def _request(spec: ProbeSpec, path: str, body: bytes | None) -> bytes:
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        f"Host: {spec.host}:{spec.port}",
        "Accept: */*",
        "Connection: close",
    ]
    if key := _key(spec):
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


def _key(spec: ProbeSpec) -> str:
    """Return the engine's key, "" where none can be read: the engine's answer tells."""
    if spec.key_file is None:
        return ""
    try:
        key = Path(spec.key_file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return key if key.isprintable() else ""  # a second line would be a header of its own


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Stream(io.RawIOBase):
    """The receiving half of a socket, of which no read outlives the deadline."""

    def __init__(self, connection: socket.socket, ends: float) -> None:
        self._connection = connection
        self._ends = ends
        self._answered = False

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._connection.settimeout(_left(self._ends))
        try:
            received = self._connection.recv_into(buffer)
        except ConnectionResetError:
            if self._answered:
                raise
            return 0  # a reset before the first byte says no more than an end does
        self._answered = True
        return received
