"""What becomes of a request: answered by its replica, or by another one."""

from __future__ import annotations

import pytest

from tests.gateway.inside import (
    ASKED,
    STREAM,
    Answered,
    Inside,
    answered,
    request,
    upstream,
    with_stub,
)
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for


def test_whole(first: StubEngine) -> None:
    """An answer comes back as the engine gave it, with who gave it and under the client's name."""
    with Inside([upstream(first)]) as inside:
        answer = inside.post(ASKED, x_request_id="mine-1")

        assert answer.status == 200
        assert answer.json["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
        assert answer.headers["x-gpuctl-replica"] == "chat-0"
        assert answer.headers["x-request-id"] == "mine-1"
        record = inside.record
        assert (record.prompt_tokens, record.completion_tokens) == (3, 4)
        assert (record.end, record.attempts, record.status) == ("answered", 1, 200)


def test_large_request(first: StubEngine) -> None:
    """A body that no socket takes at once arrives, and is no fault of the gateway's."""
    text = "x" * 9_000_000
    with Inside([upstream(first)]) as inside:
        answer = inside.post({**ASKED, "messages": [{"role": "user", "content": text}]})

        assert answer.status == 200
        assert first.seen[-1].asked["messages"][0]["content"] == text
        assert inside.log.of("internal_error") == []


def test_stream(first: StubEngine) -> None:
    """A stream comes without the usage that the gateway asked for, which is counted."""
    with Inside([upstream(first)]) as inside:
        answer = inside.post(STREAM)

        words = [e["choices"][0]["delta"].get("content") for e in answer.events[:-1]]
        assert words == ["w0 ", "w1 ", "w2 ", "w3 ", None]
        assert answer.events[-1] == "[DONE]"
        assert inside.record.completion_tokens == 4
        assert first.seen[-1].asked["stream_options"] == {"include_usage": True}


def test_stream_usage(first: StubEngine) -> None:
    """A client that asks for usage gets it."""
    with Inside([upstream(first)]) as inside:
        answer = inside.post({**STREAM, "stream_options": {"include_usage": True}})

        assert answer.events[-2]["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize(
    "fault", ["close_empty", "close_head", "close_body", "nonsense", "500", "503"]
)
def test_another_replica(first: StubEngine, second: StubEngine, fault: str) -> None:
    """What a replica could not answer, another one does, and the client sees nothing of it."""
    first.orders["fault"] = fault
    with Inside([upstream(first), upstream(second, 1, weight=0.1)]) as inside:
        answers = [inside.post(ASKED) for _ in range(6)]

        assert {answer.status for answer in answers} == {200}
        assert {answer.headers["x-gpuctl-replica"] for answer in answers} == {"chat-1"}
        assert first.seen


def test_refused(first: StubEngine, second: StubEngine) -> None:
    """One refused connection is enough to leave a replica alone."""
    first.refuse()
    with Inside([upstream(first), upstream(second, 1, weight=0.1)]) as inside:
        answers = [inside.post(ASKED) for _ in range(8)]

        assert {answer.status for answer in answers} == {200}
        assert inside.gateway.table.replicas["chat-0"].failures == 1
        # Another container closes the gate.
        first.listen()
        inside.publish([upstream(first, container="c2"), upstream(second, 1)])
        assert inside.gateway.table.replicas["chat-0"].gate.allows(inside.gateway.now())


def test_all_refuse(first: StubEngine, second: StubEngine) -> None:
    """Where nobody listens, as while Docker restarts, a request waits until somebody does."""
    first.refuse()
    second.refuse()
    with Inside([upstream(first), upstream(second, 1)]) as inside, inside.connect() as client:
        client.sendall(request(ASKED))
        wait_for(lambda: inside.call(inside.gateway.admission.waiting) == 1, "it to wait")
        first.listen()
        inside.publish([upstream(first, container="c2"), upstream(second, 1)])
        answer = answered(client)
        assert (answer.status, answer.headers["x-gpuctl-replica"]) == (200, "chat-0")


def test_poison(first: StubEngine, second: StubEngine) -> None:
    """A request that no replica can answer is held against none of them."""
    with Inside([upstream(first), upstream(second, 1)]) as inside:
        answers = [inside.post(with_stub(ASKED, fault="500")) for _ in range(12)]

        assert {(answer.status, answer.code) for answer in answers} == {(500, "engine_error")}
        assert inside.post(ASKED).status == 200
        assert [replica.gate.retry_at for replica in inside.gateway.table.replicas.values()] == [
            None,
            None,
        ]


def opened(inside: Inside, name: str) -> None:
    """Open a replica's gate, and let it cool down."""

    def refuse() -> None:
        gate = inside.gateway.table.replicas[name].gate
        gate.failed(gate.begin(inside.gateway.now()), inside.gateway.now(), refused=True)

    inside.call(refuse)
    inside.later += 31


def state(inside: Inside, name: str) -> str:
    return inside.call(lambda: inside.gateway.table.replicas[name].gate.state(inside.gateway.now()))


def test_trial_suspected(first: StubEngine, second: StubEngine) -> None:
    """A trial that ends in an error that every replica has leaves room for another trial."""
    with Inside([upstream(first), upstream(second, 1)]) as inside:
        for name in ("chat-0", "chat-1"):
            opened(inside, name)
        assert inside.post(with_stub(ASKED, fault="500")).status == 500
        assert inside.post(ASKED).status == 200
        assert inside.post(ASKED).status == 200


def test_trial_streams(first: StubEngine) -> None:
    """A trial that answers closes the gate with its first byte, however long it streams."""
    with Inside([upstream(first, slots=2)]) as inside, inside.connect() as client:
        opened(inside, "chat-0")
        client.sendall(request(with_stub(STREAM, fault="hang_stream", after=2)))
        wait_for(lambda: state(inside, "chat-0") == "closed", "the gate to close")


def test_stream_cut(first: StubEngine) -> None:
    """A stream that has begun ends with an error event, and its framing is whole."""
    with Inside([upstream(first)]) as inside:
        answer = inside.post(with_stub(STREAM, fault="close_stream", after=2))

        assert answer.status == 200
        assert answer.events[-1]["error"]["code"] == "stream_interrupted"
        assert inside.record.end == "cut"


def test_alias_and_addresses(first: StubEngine) -> None:
    """An alias becomes the model's own name, and an address in a body goes nowhere."""
    with Inside([upstream(first, aliases=("gpt-4",))]) as inside:
        assert inside.post({**ASKED, "model": "gpt-4", "api_base": "http://x"}).status == 200
        assert first.seen[-1].asked["model"] == "chat"
        assert "api_base" not in first.seen[-1].asked


def test_compressed(first: StubEngine) -> None:
    """A compressed body is refused by name, before anybody takes it for broken JSON."""
    with Inside([upstream(first)]) as inside:
        answer = inside.post(ASKED, content_encoding="gzip")
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_session(first: StubEngine, second: StubEngine) -> None:
    """Requests of one session go to one replica."""
    with Inside([upstream(first, slots=4), upstream(second, 1, slots=4)]) as inside:
        for key in ("a", "b", "c", "d"):
            answers = [inside.post({**ASKED, "prompt_cache_key": key}) for _ in range(4)]
            assert len({answer.headers["x-gpuctl-replica"] for answer in answers}) == 1


def test_collected(first: StubEngine) -> None:
    """A replica that would rather stream is asked to, and the client gets one answer."""
    with Inside([upstream(first, collect_streams=True)]) as inside:
        answer = inside.post(ASKED)
        assert first.seen[-1].asked["stream"] is True
        assert answer.json["object"] == "chat.completion"
        assert answer.json["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
        assert answer.json["usage"]["completion_tokens"] == 4


def test_collected_killed(first: StubEngine, second: StubEngine) -> None:
    """What was collected of a replica that dies is asked of another one, from the beginning."""
    first.orders |= {"fault": "close_stream", "after": 2}
    upstreams = [
        upstream(first, collect_streams=True),
        upstream(second, 1, collect_streams=True, weight=0.1),
    ]
    with Inside(upstreams) as inside:
        answers = [inside.post(ASKED) for _ in range(4)]
        assert {a.json["choices"][0]["message"]["content"] for a in answers} == {"w0 w1 w2 w3 "}
        assert first.seen


def test_stale_connection(first: StubEngine) -> None:
    """A kept connection that the engine has closed costs nothing: a new one is opened."""
    with Inside([upstream(first)]) as inside:
        assert inside.post(ASKED).status == 200
        first.refuse()
        first.listen()
        assert inside.post(ASKED).status == 200
        assert inside.gateway.table.replicas["chat-0"].failures == 0


def test_models(first: StubEngine) -> None:
    """Models come before their aliases, which say whose they are; each is there by itself."""
    with Inside([upstream(first, aliases=("gpt-4", "org/name"))]) as inside:

        def get(path: str) -> Answered:
            with inside.connect() as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                return answered(client)

        listed = get("/v1/models").json["data"]
        assert [(m["id"], m.get("parent")) for m in listed] == [
            ("chat", None),
            ("gpt-4", "chat"),
            ("org/name", "chat"),
        ]
        assert {type(m["created"]) for m in listed} == {int}
        assert get("/v1/models/org%2Fname").json == listed[2]
        assert get("/v1/models/nope").code == "model_not_found"
