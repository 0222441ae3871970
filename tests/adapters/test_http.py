"""Probes of real sockets on loopback, each server saying exactly the bytes of its script."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.http import HttpProber
from gpuctl.model import ProbeResult, ProbeSpec
from tests.adapters.http_bench import (
    LATE_SECONDS,
    METRICS,
    OK,
    Clock,
    Script,
    Serve,
    answer,
    by_path,
    clock,
    resets,
    says,
    serve,
    silent,
    spec,
)

__all__ = ["clock", "serve"]


@pytest.mark.parametrize(
    ("script", "outcome", "status", "detail"),
    [
        pytest.param(says(OK), "ok", 200, "", id="200"),
        pytest.param(says(b"HTTP/1.1 204 No Content\r\n\r\n"), "ok", 204, "", id="204"),
        pytest.param(
            says(answer("503 Busy", b"Loading model\n")),
            "loading",
            503,
            "HTTP 503 Loading model",
            id="503",
        ),
        pytest.param(says(answer("500 Oops")), "dead", 500, "HTTP 500", id="500"),
        pytest.param(says(answer("404 Not Found")), "error", 404, "HTTP 404", id="404"),
        pytest.param(
            says(answer("302 Found", head="Location: /x\r\n")), "error", 302, "HTTP 302", id="302"
        ),
        pytest.param(says(b""), "refused", None, "closed without an answer", id="an empty close"),
        pytest.param(
            says(OK[:-5]), "reset", None, "closed in the middle of an answer", id="half a body"
        ),
        pytest.param(resets, "refused", None, "closed without an answer", id="a reset"),
        pytest.param(says(b"SSH-2.0-x\r\n"), "reset", None, "SSH-2.0-x\r\n", id="not HTTP"),
    ],
)
def test_every_answer_has_its_outcome(
    serve: Serve, script: Script, outcome: str, status: int | None, detail: str
) -> None:
    """What the other side says decides the outcome, and is told."""
    result = HttpProber().probe(spec(serve(script)))
    assert (result.outcome, result.status, result.detail) == (outcome, status, detail)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\xff" * 70_000, id="a line without end"),
        pytest.param(b"x" * 5_000 + b"\r\n\r\n", id="a long line"),
        pytest.param(b"HTTP/1.1 \xff00 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 -20 OK\r\n\r\n", id="a negative status"),
        pytest.param(b"HTTP/9.9 200 OK\r\n\r\n", id="another version"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", id="many headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="no chunk"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="half a chunk"
        ),
    ],
)
def test_whatever_is_said_a_probe_never_raises(serve: Serve, said: bytes) -> None:
    """Garbage is never an answer that counts as good, and its words fit in an event."""
    result = HttpProber().probe(spec(serve(says(said)), metrics=True))
    assert result.outcome in ("reset", "error", "dead")
    assert 0 < len(result.detail) <= 220
    assert result.metrics is None
    assert not HttpProber().canary(spec(serve(says(said))))


def test_a_port_nobody_listens_on_refuses() -> None:
    """Nothing is listening, which is known at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = HttpProber().probe(spec(unused.getsockname()[1], metrics=True))
    assert (result.outcome, result.status, result.metrics) == ("refused", None, None)


def test_a_reset_in_the_middle_of_an_answer(serve: Serve, clock: Clock) -> None:
    """What was read before it shows that the engine had begun to answer."""

    def script(connection: socket.socket, request: bytes) -> None:
        clock.drips(OK[:-5])(connection, request)  # a reset drops what was not read yet
        resets(connection, request)

    result = HttpProber().probe(spec(serve(script)))
    assert (result.outcome, result.detail) == ("reset", "closed in the middle of an answer")


def test_the_deadline_covers_a_server_that_says_nothing(serve: Serve) -> None:
    """A probe ends with its deadline, and not much later."""
    result = HttpProber().probe(spec(serve(silent), timeout_seconds=LATE_SECONDS))
    assert (result.outcome, result.detail) == ("timeout", "no answer within 0.3 s")
    assert LATE_SECONDS <= result.latency_seconds < LATE_SECONDS + 0.5


@pytest.mark.parametrize(
    ("text", "after"),
    [
        pytest.param(OK, b"", id="its answer"),
        pytest.param(b"x" * 100, answer("200 OK", b"x" * 100)[:-100], id="its body"),
    ],
)
def test_the_deadline_covers_the_whole_exchange(
    serve: Serve, clock: Clock, text: bytes, after: bytes
) -> None:
    """A server that drips does not hold a probe beyond its deadline."""
    port = serve(clock.drips(text, after=after))
    result = HttpProber().probe(spec(port, timeout_seconds=1.0))
    assert (result.outcome, result.detail) == ("timeout", "no answer within 1 s")
    assert 1.0 <= result.latency_seconds < 1.5


def test_the_deadline_covers_a_connection_that_is_never_accepted() -> None:
    """A listener with a full queue leaves a connection unanswered; that is late as well."""
    with socket.socket() as full, ExitStack() as held:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        result = HttpProber().probe(spec(full.getsockname()[1], timeout_seconds=LATE_SECONDS))
    assert result.outcome == "timeout"


def test_metrics_come_with_the_health(serve: Serve) -> None:
    """The text is handed on as it is, whatever way its end is told."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    until_closed = b"HTTP/1.1 200 OK\r\n\r\n" + METRICS
    for text in (answer("200 OK", METRICS), chunked % (len(METRICS), METRICS), until_closed):
        port = serve(by_path(health=says(OK), metrics=says(text)))
        result = HttpProber().probe(spec(port, metrics=True))
        assert (result.outcome, result.metrics) == ("ok", METRICS.decode())


def test_metrics_are_read_while_the_health_is_late(serve: Serve) -> None:
    """Tokens may move while /health is late: that is what tells busy from dead."""
    port = serve(by_path(health=silent, metrics=says(answer("200 OK", METRICS))))
    result = HttpProber().probe(spec(port, metrics=True, timeout_seconds=LATE_SECONDS))
    assert (result.outcome, result.metrics) == ("timeout", METRICS.decode())
    assert result.latency_seconds < LATE_SECONDS + 0.2, "the metrics are not part of it"


@pytest.mark.parametrize(
    ("script", "late"),
    [
        pytest.param(says(answer("404 Not Found", b"none here")), False, id="404"),
        pytest.param(says(b""), False, id="an empty close"),
        pytest.param(resets, False, id="a reset"),
        pytest.param(silent, True, id="late"),
    ],
)
def test_metrics_never_change_the_outcome(serve: Serve, script: Script, late: bool) -> None:
    """A good health check stays good when the metrics cannot be had; only silence is late."""
    port = serve(by_path(health=says(OK), metrics=script))
    result = HttpProber().probe(spec(port, metrics=True, timeout_seconds=LATE_SECONDS))
    assert (result.outcome, result.metrics, result.metrics_late) == ("ok", None, late)


def test_endless_metrics_are_cut_at_a_line(serve: Serve) -> None:
    """Of a body without bounds the first MiB is read, and no number in it is cut short."""
    line = b"tokens_total 1234567\n"
    port = serve(by_path(health=says(OK), metrics=says(b"HTTP/1.1 200 OK\r\n\r\n" + line * 80_000)))
    result = HttpProber().probe(spec(port, metrics=True))
    assert result.metrics is not None
    assert len(result.metrics) == 1024 * 1024 // len(line) * len(line)
    assert result.metrics.endswith(line.decode())


def test_a_canary_asks_for_one_token(serve: Serve) -> None:
    """The question goes out as the engine wants it, and an answer with a body is a token."""
    asked: list[bytes] = []

    def script(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(answer("200 OK", b'{"choices": []}'))

    port = serve(script)
    assert HttpProber().canary(spec(port))
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.splitlines() == [
        b"POST /v1/completions HTTP/1.1",
        b"Host: 127.0.0.1:%d" % port,
        b"Accept: */*",
        b"Connection: close",
        b"Content-Type: application/json",
        b"Content-Length: 17",
    ]
    assert body == b'{"max_tokens": 1}'


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(answer("500 Oops", b"CUDA error")), id="an error"),
        pytest.param(says(answer("200 OK")), id="no body"),
        pytest.param(says(b""), id="an empty close"),
        pytest.param(silent, id="late"),
    ],
)
def test_a_canary_without_a_token_is_not_good(serve: Serve, script: Script) -> None:
    """Only a token in time is one."""
    prober = HttpProber(canary_seconds=LATE_SECONDS)
    assert not prober.canary(spec(serve(script), timeout_seconds=LATE_SECONDS))


@pytest.mark.parametrize(
    ("written", "header"),
    [
        pytest.param("sk-1\n", [b"Authorization: Bearer sk-1"], id="a key"),
        pytest.param("sk\r\nX: y", [], id="two lines"),
        pytest.param("schl\u00fcssel", [], id="not ASCII"),
        pytest.param("", [], id="empty"),
        pytest.param(None, [], id="no file"),
    ],
)
def test_every_question_shows_the_engines_key(
    serve: Serve, tmp_path: Path, written: str | None, header: list[bytes]
) -> None:
    """The key is read from its file each time, so it may change; what is no key is not sent."""
    asked: list[bytes] = []

    def script(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(answer("200 OK", b"{}"))

    file = tmp_path / "key"
    keyed = replace(spec(serve(script), metrics=True), key_file=str(file))
    if written is not None:
        file.write_text(written)
    HttpProber().probe(keyed)
    HttpProber().canary(keyed)
    found = [
        [line for line in request.splitlines() if line.startswith((b"Auth", b"X"))]
        for request in asked
    ]
    assert found == [header] * 3


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_canary_that_is_not_let_in_tells_nothing(serve: Serve, status: str) -> None:
    """A key that is missing or wrong is no fault of the engine's."""
    assert HttpProber().canary(spec(serve(says(answer(status, b"no"))))) is None


def test_a_late_canary_of_an_engine_that_is_mute_at_work_tells_nothing(serve: Serve) -> None:
    """It may stand behind somebody's request; that of another engine would have been answered."""
    prober = HttpProber(canary_seconds=LATE_SECONDS)
    asked = spec(serve(silent), timeout_seconds=LATE_SECONDS)
    assert prober.canary(replace(asked, mute_at_work=True)) is None
    assert prober.canary(asked) is False
    refused = replace(spec(serve(says(answer("500 Oops")))), mute_at_work=True)
    assert prober.canary(refused) is False


@pytest.mark.parametrize(
    ("script", "outcome", "status", "detail"),
    [
        pytest.param(says(answer("200 OK", b"{}")), "ok", 200, "", id="answered"),
        pytest.param(
            says(answer("400 Bad", b"no template")), "error", 400, "HTTP 400 no template", id="400"
        ),
        pytest.param(says(answer("500 Oops")), "dead", 500, "HTTP 500", id="500"),
        pytest.param(silent, "timeout", None, "no answer within 0.3 s", id="late"),
    ],
)
def test_a_warm_up_request(
    serve: Serve, script: Script, outcome: str, status: int | None, detail: str
) -> None:
    """It is posted as the engine wants it, and has its own deadline."""
    asked: list[bytes] = []

    def recorded(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        script(connection, request)

    warm = replace(spec(serve(recorded)), warmup_path="/v1/embeddings", warmup_body='{"input": 1}')
    found = HttpProber().warm_up(warm, LATE_SECONDS)
    assert (found.outcome, found.status, found.detail) == (outcome, status, detail)
    assert asked[0].startswith(b"POST /v1/embeddings HTTP/1.1\r\n")
    assert asked[0].endswith(b'\r\n\r\n{"input": 1}')


def test_an_engine_without_a_warm_up_is_warm() -> None:
    """Where nothing can be asked, nothing is waited for."""
    found = HttpProber().warm_up(ProbeSpec(port=1, health_path="/health"), 1.0)
    assert found == ProbeResult(outcome="ok")


def test_a_canary_waits_longer_than_a_health_check(serve: Serve, clock: Clock) -> None:
    """A prefill takes its time: the canary's own deadline holds, not the health check's."""
    port = serve(clock.drips(answer("200 OK", b"{}")))
    assert HttpProber().canary(spec(port, timeout_seconds=0.5))
    assert clock.monotonic() > 0.5


def test_an_engine_without_a_canary_has_none() -> None:
    """Where nothing can be asked, nothing is good."""
    assert not HttpProber().canary(ProbeSpec(port=1, health_path="/health"))
