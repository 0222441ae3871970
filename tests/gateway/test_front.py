"""What is looked at before a request goes to a replica, and how it goes there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpuctl.gateway.keyring import Key, Keyring, digest
from gpuctl.model import GatewaySettings
from tests.gateway.inside import ASKED, STREAM, Answered, Inside, answered, request, upstream
from tests.gateway.inside import with_stub as stub
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as started:
        yield started


def sent(inside: Inside, data: bytes) -> Answered:
    with inside.connect() as client:
        client.sendall(data)
        return answered(client)


def ask(inside: Inside, line: str, *lines: str) -> Answered:
    return sent(inside, "\r\n".join((f"{line} HTTP/1.1", "host: a", *lines, "", "")).encode())


@pytest.mark.parametrize("told", ["a-1", "A.b:c_d-9", "x" * 128])
def test_its_own_name(engine: StubEngine, told: str) -> None:
    """A proper request id is kept, and told to the engine."""
    with Inside([upstream(engine)]) as inside:
        assert inside.post(ASKED, x_request_id=told).headers["x-request-id"] == told
        assert engine.seen[-1].headers["x-request-id"] == told


@pytest.mark.parametrize("told", ["", "a b", "x" * 129, "a\tb", "<script>"])
def test_a_name_that_is_none(engine: StubEngine, told: str) -> None:
    """Anything else is not repeated anywhere."""
    with Inside([upstream(engine)]) as inside:
        first, second = (inside.post(ASKED, x_request_id=told) for _ in range(2))
        made = [answer.headers["x-request-id"] for answer in (first, second)]
        assert made[0] != made[1]
        assert all(name.startswith("req-") for name in made)


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        pytest.param("GET /v1/chat/completions", 405, "method_not_allowed", id="method"),
        pytest.param("GET /v1/nothing", 404, "unknown_url", id="unknown"),
        pytest.param("GET /v1/models/", 404, "unknown_url", id="slash"),
        pytest.param("GET /slots", 404, "unknown_url", id="of the engine's own"),
        pytest.param("GET /v1/../slots", 400, "invalid_url", id="dots"),
        pytest.param("GET http://other/v1/models", 400, "invalid_url", id="of another host"),
        pytest.param("GET /v1/models/none", 404, "model_not_found", id="model"),
    ],
)
def test_refused(engine: StubEngine, line: str, status: int, code: str) -> None:
    """What is not in the table goes nowhere."""
    with Inside([upstream(engine)]) as inside:
        answer = ask(inside, line)
        assert (answer.status, answer.code) == (status, code)
        assert engine.seen == []
        assert (inside.record.end, inside.record.error) == ("refused", code)


def test_allow(engine: StubEngine) -> None:
    with Inside([upstream(engine)]) as inside:
        assert ask(inside, "GET /v1/chat/completions").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b"{", "invalid_json", None, id="no JSON"),
        pytest.param({"messages": []}, "missing_required_parameter", "model", id="no model"),
        pytest.param({**ASKED, "model": "none"}, "model_not_found", "model", id="another model"),
        pytest.param({**ASKED, "stream": "yes"}, "invalid_type", "stream", id="a wrong type"),
    ],
)
def test_body_refused(engine: StubEngine, body: Any, code: str, param: str | None) -> None:
    with Inside([upstream(engine)]) as inside:
        answer = inside.post(body)
        assert (answer.code, answer.json["error"]["param"]) == (code, param)
        assert engine.seen == []


def test_models(engine: StubEngine) -> None:
    """Every name that a client may use, and whose alias it is."""
    with Inside([upstream(engine, aliases=("gpt-4", "org/m"))]) as inside:
        listed = ask(inside, "GET /v1/models").json["data"]
        assert [(entry["id"], entry.get("parent")) for entry in listed] == [
            *(("chat", None), ("gpt-4", "chat"), ("org/m", "chat")),
        ]
        for target in ("org/m", "org%2Fm"):
            assert ask(inside, f"GET /v1/models/{target}").json == listed[2]


def test_head(engine: StubEngine) -> None:
    """The head of what GET gives, on a connection that goes on."""
    with Inside([upstream(engine)]) as inside, inside.connect() as client:
        get = ask(inside, "GET /v1/models")
        client.sendall(b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        head = client.recv(10_000)
        assert head.endswith(b"content-length: %d\r\n\r\n" % len(get.body))
        client.sendall(request(ASKED))
        assert answered(client).status == 200


def test_http10(engine: StubEngine) -> None:
    """A stream that HTTP/1.0 asked for ends with its connection, and has no chunks."""
    with Inside([upstream(engine)]) as inside, inside.connect() as client:
        client.sendall(request(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = answered(client)
        assert "transfer-encoding" not in answer.headers
        assert (answer.headers["connection"], answer.events[-1]) == ("close", "[DONE]")


def test_draining(engine: StubEngine) -> None:
    """Whoever ends takes no new work; whether it lives is told to the last."""
    with Inside([upstream(engine)]) as inside:
        inside.call(inside.gateway.operator_begun.set)
        inside.call(lambda: setattr(inside.gateway, "draining", True))
        refused = inside.post(ASKED)
        assert (refused.status, refused.code) == (503, "draining")
        assert refused.headers["x-should-retry"] == "true"
        assert ask(inside, "GET /health").code == "upstream_failed"  # nobody is behind it here


def test_multipart(engine: StubEngine) -> None:
    """A form goes on as it came, but for the model's own name."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff\r\n'
        b"--b--\r\n"
    )
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: a\r\n"
        b"content-type: multipart/form-data; boundary=b\r\ncontent-length: %d\r\n\r\n" % len(form)
    )
    with Inside([upstream(engine, aliases=("whisper-1",))]) as inside:
        assert sent(inside, head + form).status == 200
        assert engine.seen[-1].body == form.replace(b"whisper-1", b"chat")
        assert engine.seen[-1].headers["content-type"] == "multipart/form-data; boundary=b"


def test_session(engine: StubEngine) -> None:
    """Requests of one session go to one replica."""
    with StubEngine() as second:
        upstreams = [upstream(engine, slots=4), upstream(second, 1, slots=4)]
        with Inside(upstreams) as inside:
            for word in ("one", "two", "three"):
                told = {inside.post(ASKED, x_session_id=word).headers["x-gpuctl-replica"]}
                told |= {
                    inside.post({**ASKED, "prompt_cache_key": word}).headers["x-gpuctl-replica"]
                    for _ in range(4)
                }
                assert len(told) == 1


@pytest.mark.parametrize(
    ("key_priority", "asked", "given"),
    [
        pytest.param(None, "", 5, id="of its kind"),
        pytest.param(None, "9", 9, id="asked for"),
        pytest.param(None, "101", 5, id="too high"),
        pytest.param(None, "-1", 5, id="no number"),
        pytest.param(30, "", 30, id="of its key"),
        pytest.param(30, "50", 30, id="no more than its key's"),
        pytest.param(30, "2", 2, id="behind its own place"),
    ],
)
def test_priority(engine: StubEngine, key_priority: int | None, asked: str, given: int) -> None:
    with Inside([upstream(engine)]) as inside, inside.connect() as busy, inside.connect() as client:
        headers = {"x_gpuctl_priority": asked} if asked else {}
        if key_priority is not None:
            key = Key(id="key-00000001", name="a", sha256=digest("sk-1"), priority=key_priority)
            inside.gateway.keyring = Keyring((key,))
            headers["x_api_key"] = "sk-1"
        busy.sendall(request(stub(ASKED, fault="hang_head"), **headers))
        wait_for(lambda: engine.running == 1, "the engine to work")
        client.sendall(request(ASKED, **headers))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        assert inside.call(inside.gateway.admission.depth) == {given: 1}


OCR = GatewaySettings(pass_through={"/ocr": "chat"})


def test_passed_through(engine: StubEngine) -> None:
    """Another service gets the request as it is, and nothing of whose it is."""
    with Inside([upstream(engine)], OCR) as inside:
        data = (
            b"PUT /ocr/a%20b?page=1&x=%2F HTTP/1.1\r\nhost: a\r\nx-page: 3\r\ncookie: c\r\n"
            b"authorization: Bearer secret\r\nx-forwarded-for: 1.2.3.4\r\nconnection: x-hop\r\n"
            b"x-hop: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert sent(inside, data).status == 200
        seen = engine.seen[-1]
        assert (seen.path, seen.body) == ("/ocr/a%20b?page=1&x=%2F", b"abc")
        assert sorted(seen.headers) == ["content-length", "host", "x-page", "x-request-id"]
        assert seen.headers["host"] == engine.address


@pytest.mark.parametrize("status", [404, 500, 503])
def test_passed_through_errors(engine: StubEngine, status: int) -> None:
    """Its errors are its own, and held against nobody."""
    with Inside([upstream(engine)], OCR) as inside:
        engine.orders["fault"] = str(status)
        answers = [sent(inside, request({}, "/ocr")) for _ in range(6)]
        assert {answer.status for answer in answers} == {status}
        assert inside.gateway.table.replicas["chat-0"].gate.retry_at is None


def test_passed_through_once(engine: StubEngine) -> None:
    """Nobody knows whether it may be asked twice, so it is asked once."""
    with StubEngine() as second:
        engine.orders["fault"] = second.orders["fault"] = "close_body"
        with Inside([upstream(engine), upstream(second, 1)], OCR) as inside:
            with inside.connect() as client:
                client.sendall(request({}, "/ocr"))
                while client.recv(1000):
                    pass
            assert len(engine.seen) + len(second.seen) == 1
            assert inside.record.end == "cut"


def test_passed_through_head(engine: StubEngine) -> None:
    """HEAD is answered with the head, though that tells of a body."""
    with Inside([upstream(engine)], OCR) as inside, inside.connect() as client:
        client.sendall(b"HEAD /ocr HTTP/1.1\r\nhost: a\r\n\r\n")
        wait_for(lambda: inside.log.records, "its end", 5.0)
        assert (inside.record.end, inside.record.status) == ("answered", 200)
