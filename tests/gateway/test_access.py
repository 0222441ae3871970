"""Who may ask, and how often: what is said to those who may not, and what is told of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuctl.gateway import access
from gpuctl.gateway.access import Shown
from gpuctl.gateway.endpoints import EXACT, Endpoint
from gpuctl.gateway.keyring import Key, Keyring, digest
from gpuctl.gateway.limits import Limiter
from gpuctl.gateway.record import Record
from gpuctl.gateway.terms import Terms
from gpuctl.model import GatewaySettings, LimitSettings
from tests.gateway.inside import ASKED, STREAM, Answered, Inside, answered, upstream
from tests.rig.stub_engine import StubEngine
from tests.rig.waiting import wait_for

TOKEN = "sk-" + "a" * 40


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as started:
        yield started


def key(token: str = TOKEN, **told: Any) -> Key:
    return Key(id="key-00000001", name="ci", sha256=digest(token), **told)


def ask(inside: Inside, target: str, *lines: str) -> Answered:
    """Ask for something with a GET."""
    head = "\r\n".join((f"GET {target} HTTP/1.1", "host: a", *lines, "", ""))
    with inside.connect() as client:
        client.sendall(head.encode())
        return answered(client)


class Guarded(Inside):
    """A gateway that has keys."""

    def __init__(self, engine: StubEngine, *keys: Key, **settings: Any) -> None:
        super().__init__([upstream(engine, aliases=("gpt-4",))], GatewaySettings(**settings))
        self.keys = keys

    def __enter__(self) -> Guarded:
        super().__enter__()
        self.gateway.keyring = Keyring(self.keys)
        return self

    def post_as(self, token: str = TOKEN, body: Any = ASKED) -> Answered:
        return self.post(body, authorization=f"Bearer {token}")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({"authorization": f"Bearer {TOKEN}"}, id="bearer"),
        pytest.param({"authorization": f"bearer   {TOKEN} "}, id="as some write it"),
        pytest.param({"x_api_key": TOKEN}, id="x-api-key"),
    ],
)
def test_let_in(engine: StubEngine, line: dict[str, str]) -> None:
    """A key that is good lets in, however it is told; the engine never sees it."""
    with Guarded(engine, key()) as inside:
        assert inside.post(ASKED, **line).status == 200
        assert TOKEN not in str(engine.seen[-1].headers)
        assert inside.record.key == "key-00000001"


@pytest.mark.parametrize(
    ("told", "line", "reason"),
    [
        pytest.param({}, {}, "missing", id="none"),
        pytest.param({}, {"authorization": f"Basic {TOKEN}"}, "missing", id="another scheme"),
        pytest.param({}, {"authorization": "Bearer sk-b"}, "unknown", id="unknown"),
        pytest.param({}, {"authorization": "Bearer \xff"}, "unknown", id="no text"),
        pytest.param({"expires_at": 1.0}, {"x_api_key": TOKEN}, "expired", id="expired"),
        pytest.param({"revoked_at": 1.0}, {"x_api_key": TOKEN}, "revoked", id="revoked"),
    ],
)
def test_kept_out(
    engine: StubEngine, told: dict[str, Any], line: dict[str, str], reason: str
) -> None:
    """Who has none that is good learns no more than that; the audit learns why, but not the key."""
    with Guarded(engine, key(**told)) as inside:
        # As latin-1, which a header may be.
        lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in line.items())
        with inside.connect() as client:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{lines}content-length: 0\r\n\r\n"
            )
            client.sendall(head.encode("latin-1"))
            answer = answered(client)
        assert (answer.status, answer.code) == (401, "invalid_api_key")
        assert "retry-after" not in answer.headers
        (event,) = inside.log.of("auth_failed")
        assert (event["reason"], event["ip"]) == (reason, "127.0.0.1")
        assert TOKEN not in f"{inside.log.events}{inside.record}{answer.body!r}"
        assert engine.seen == []


def test_expires_while_it_is_used(engine: StubEngine) -> None:
    with Guarded(engine, key(expires_at=time.time() + 60)) as inside:
        assert inside.post_as().status == 200
        inside.gateway.wall = lambda: time.time() + 61
        assert inside.post_as().status == 401


def test_models(engine: StubEngine) -> None:
    """A key for other models does not get to know of these."""
    with Guarded(engine, key(models=("other",))) as inside:
        answer = inside.post_as()
        assert (answer.status, answer.code) == (404, "model_not_found")
        listed = ask(inside, "/v1/models", f"x-api-key: {TOKEN}")
        assert listed.json["data"] == []


def test_models_by_alias(engine: StubEngine) -> None:
    """A key that names a model by one of its names is for it under each."""
    with Guarded(engine, key(models=("gpt-4",))) as inside:
        assert inside.post_as().status == 200
        listed = ask(inside, "/v1/models", f"x-api-key: {TOKEN}").json["data"]
        assert [entry["id"] for entry in listed] == ["chat", "gpt-4"]


def test_requests_per_minute(engine: StubEngine) -> None:
    """What is left is told with each answer; then nothing is, until when that changes."""
    with Guarded(engine, key(requests_per_minute=2)) as inside:
        first, second, third = (inside.post_as() for _ in range(3))
        assert [answer.status for answer in (first, second, third)] == [200, 200, 429]
        told = [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second)]
        assert told == ["1", "0"]
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert third.code == "rate_limit_exceeded"
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert int(third.headers["retry-after"]) in (29, 30)
        assert inside.log.of("rate_limited")[0]["scope"] == "requests"
        inside.pass_time(int(third.headers["retry-after"]) + 0.5)
        assert inside.post_as().status == 200


@pytest.mark.parametrize("body", [ASKED, STREAM], ids=["whole", "stream"])
def test_tokens_per_minute(engine: StubEngine, body: dict[str, Any]) -> None:
    """A request is paid for when its cost is known; who is in debt waits."""
    engine.orders["tokens"] = 17  # and three of the prompt
    with Guarded(engine, key(tokens_per_minute=10)) as inside:
        first = inside.post_as(body=body)
        assert (first.status, first.headers["x-ratelimit-remaining-tokens"]) == (200, "10")
        wait_for(lambda: inside.log.records, "its cost")
        second = inside.post_as(body=body)
        assert (second.status, second.code) == (429, "rate_limit_exceeded")
        assert 55 <= int(second.headers["retry-after"]) <= 60
        inside.pass_time(61.0)
        assert inside.post_as(body=body).status == 200


def test_two_keys_have_a_limit_each(engine: StubEngine) -> None:
    other = dataclasses.replace(key("sk-b", requests_per_minute=1), id="key-00000002")
    with Guarded(engine, key(requests_per_minute=1), other) as inside:
        assert [inside.post_as(token).status for token in (TOKEN, "sk-b", TOKEN)] == [200, 200, 429]


def test_of_an_address(engine: StubEngine) -> None:
    """An address is limited whatever it asks for, with a key or not."""
    limits = LimitSettings(requests_per_minute_per_ip=2)
    with Guarded(engine, key(), limits=limits) as inside:
        assert [inside.post_as("sk-b").status for _ in range(3)] == [401, 401, 429]
        assert inside.post_as().status == 429
        assert inside.log.of("rate_limited")[0]["scope"] == "ip"
        assert "x-ratelimit-limit-requests" not in inside.post_as().headers


def test_of_an_address_that_looks_for_what_there_is_not(engine: StubEngine) -> None:
    """Who tries one path after the other is told to wait as well."""
    limits = LimitSettings(requests_per_minute_per_ip=2)
    with Guarded(engine, key(), limits=limits) as inside:
        found = [ask(inside, target).status for target in ("/a", "/v1/chat/completions", "/b")]
        assert found == [404, 405, 429]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param((), 401, id="no key"),
        pytest.param((f"x-api-key: {TOKEN}",), 403, id="no admin's"),
    ],
)
@pytest.mark.parametrize("target", ["/admin/status", "/debug/runtime", "/metrics"])
def test_operator(engine: StubEngine, target: str, lines: tuple[str, ...], status: int) -> None:
    """An operator's endpoints are for an admin's key alone."""
    with Guarded(engine, key(), metrics_key=True) as inside:
        assert ask(inside, target, *lines).status == status


@pytest.mark.parametrize("target", ["/health", "/ready", "/readyz", "/openapi.json", "/metrics"])
@pytest.mark.parametrize("lines", [(), ("x-api-key: sk-b",), (f"x-api-key: {TOKEN}",)])
def test_open(engine: StubEngine, target: str, lines: tuple[str, ...]) -> None:
    """Whether it lives is told to all; here nobody listens behind it."""
    with Guarded(engine, key()) as inside:
        inside.call(inside.gateway.operator_begun.set)
        assert ask(inside, target, *lines).status == 503
        assert inside.log.of("auth_failed") == []


def test_shut(engine: StubEngine) -> None:
    """Where keys cannot be read, nobody is let in."""
    with Guarded(engine) as inside:
        inside.gateway.keyring = Keyring.shut()
        assert inside.post_as().status == 401
        assert inside.post(ASKED).status == 401


#: Authorization and x-api-key, as they may come one after the other on a connection.
SHOWN = [
    (f"Bearer {TOKEN}", None),
    (f"bearer   {TOKEN} ", TOKEN),
    (None, TOKEN),
    (f"Basic {TOKEN}", TOKEN),
    (f"Basic {TOKEN}", "sk-b"),
    (f"Bearer {TOKEN}", "sk-b"),
    ("Bearer sk-b", TOKEN),
    (TOKEN, "sk-b"),
    ("Bearer ", TOKEN),
    (None, ""),
    (None, None),
    ("Bearer \xff", None),
]


class Desk:
    """Stands for the gateway, as far as it is asked here."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.terms, self.limiter = Terms(settings), Limiter()
        self.keyring = Keyring(())

    def denied(self, record: Record, reason: str) -> None: ...

    def limited(self, record: Record, scope: str) -> None: ...


ENDPOINTS = [EXACT[path][b"GET"] for path in (b"/health", b"/v1/models", b"/admin/status")]
KEYRINGS = [
    Keyring(keys)
    for keys in (
        (),
        (key(requests_per_minute=3, tokens_per_minute=5),),
        (key(requests_per_minute=9, admin=True), key("sk-b", expires_at=30.0)),
        (key("sk-b", tokens_per_minute=5), key("", admin=True)),
    )
]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1]),  # of two connections
            st.sampled_from(SHOWN),
            st.sampled_from([*ENDPOINTS, EXACT[b"/v1/chat/completions"][b"POST"]]),
            st.sampled_from([None, None, None, *KEYRINGS]),  # None: the keys stay
            st.sampled_from([0.0, 0.0, 40.0]),
            st.booleans(),  # whether its head is parsed anew, though it has come before
        ),
        max_size=30,
    )
)
@example(  # a key of no letters, where none is needed
    [
        (0, (None, None), ENDPOINTS[2], KEYRINGS[3], 0.0, False),
        (0, (None, None), ENDPOINTS[0], None, 0.0, False),
    ]
)
def test_what_was_shown_before_changes_nothing(
    asked: list[tuple[int, tuple[str | None, str | None], Endpoint, Keyring | None, float, bool]],
) -> None:
    """A connection that shows a key again is let in as one that shows it for the first time is."""
    limits = LimitSettings(requests_per_minute_per_ip=20)
    known, anew = (cast(Any, Desk(GatewaySettings(limits=limits))) for _ in range(2))
    connections, keyring = [Shown(), Shown()], KEYRINGS[2]
    heads: dict[Any, Any] = {}
    for which, told, endpoint, keys, now, parsed in asked:
        names = (b"authorization", b"x-api-key")
        head = {n: v.encode("latin-1") for n, v in zip(names, told, strict=True) if v is not None}
        if not parsed:
            head = heads.setdefault(told, head)
        keyring = keyring if keys is None else keys
        known.keyring = anew.keyring = keyring
        found = []
        for desk, shown in ((known, connections[which]), (anew, Shown())):
            record = Record("req-1", now, now)
            bearer, lines, refused = access.find(desk, shown, endpoint, head, record)
            if bearer is not None and bearer.tokens is not None:
                bearer.tokens.charge(2, now)
            found.append((None if bearer is None else bearer.key, lines, refused, record.key))
        assert found[0] == found[1]
