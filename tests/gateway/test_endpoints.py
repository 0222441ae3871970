"""Which request targets are answered, by what, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuctl.gateway.endpoints import EXACT, MODEL_NAME, Endpoint, Refusal, exact, find
from gpuctl.gateway.openai_errors import FAULTS

CHAT = {"kind": "inference", "body": "json", "streams": True, "collected": "chat"}
PASSED = {"/ocr": "ocr", "/speech/v2": "speech"}


def endpoint(name: str, **fields: object) -> Endpoint:
    made = {"name": name, "kind": "operator", "upstream_path": name.encode(), **fields}
    return Endpoint(**made)  # type: ignore[arg-type]


def told(found: Endpoint | Refusal) -> dict[str, object]:
    assert isinstance(found, Endpoint)
    return {name: getattr(found, name) for name in found.__slots__}


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        pytest.param(
            b"POST",
            b"/v1/chat/completions",
            endpoint("/v1/chat/completions", **CHAT),
            id="chat",
        ),
        pytest.param(
            b"POST",
            b"/v1/completions",
            endpoint("/v1/completions", **{**CHAT, "collected": "completion"}),
            id="completions",
        ),
        pytest.param(
            b"POST",
            b"/v1/embeddings",
            endpoint("/v1/embeddings", kind="inference", body="json"),
            id="embeddings",
        ),
        pytest.param(
            b"POST",
            b"/v1/responses",
            endpoint("/v1/responses", kind="inference", body="json", streams=True),
            id="responses",
        ),
        pytest.param(
            b"POST",
            b"/v1/rerank",
            endpoint("/v1/rerank", kind="inference", body="json"),
            id="rerank",
        ),
        pytest.param(
            b"POST",
            b"/v1/audio/transcriptions",
            endpoint("/v1/audio/transcriptions", kind="inference", body="multipart", streams=True),
            id="audio",
        ),
        pytest.param(
            b"POST",
            b"/v1/chat/completions?api-version=1&x=..%2f",
            endpoint("/v1/chat/completions", **CHAT),
            id="an engine never sees a query",
        ),
        pytest.param(b"GET", b"/v1/models", endpoint("/v1/models", kind="models"), id="models"),
        pytest.param(
            b"GET", b"/v1/models?limit=3", endpoint("/v1/models", kind="models"), id="models?"
        ),
        pytest.param(
            b"GET",
            b"/v1/models/chat",
            endpoint(
                "/v1/models/{id}", kind="models", upstream_path=b"/v1/models/chat", model="chat"
            ),
            id="one model",
        ),
        pytest.param(
            b"HEAD",
            b"/v1/models/meta%2fLlama-3.2/q4%3AK?x",
            endpoint(
                "/v1/models/{id}",
                kind="models",
                upstream_path=b"/v1/models/meta%2fLlama-3.2/q4%3AK",
                model="meta/Llama-3.2/q4:K",
            ),
            id="a model with slashes, both ways, and a query",
        ),
        pytest.param(b"HEAD", b"/health", endpoint("/health"), id="HEAD where GET is"),
        pytest.param(b"GET", b"/health?", endpoint("/health"), id="an empty query is none"),
        pytest.param(
            b"GET",
            b"/metrics?name=a%2Fb",
            endpoint("/metrics", upstream_path=b"/metrics?name=a%2Fb"),
            id="the operator's app sees a query",
        ),
        pytest.param(
            b"PUT",
            b"/ocr",
            endpoint(
                "/ocr",
                kind="pass_through",
                body="any",
                streams=True,
                workload="ocr",
            ),
            id="passed through",
        ),
        pytest.param(
            b"GET",
            b"/speech/v2/voices/?q=a%2fb",
            endpoint(
                "/speech/v2",
                kind="pass_through",
                upstream_path=b"/speech/v2/voices/?q=a%2fb",
                body="any",
                streams=True,
                workload="speech",
            ),
            id="passed through as it is",
        ),
    ],
)
def test_a_target_of_the_table_is_found(method: bytes, target: bytes, expected: Endpoint) -> None:
    """What is sent upstream is the table's own path, or what the profile passes on as it is."""
    assert told(find(method, target, PASSED)) == told(expected)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/v1/chat/completions/", id="trailing slash"),
        pytest.param(b"/health/", id="trailing slash of the operator's"),
        pytest.param(b"/v1/models/", id="no id"),
        pytest.param(b"/V1/models", id="upper case"),
        pytest.param(b"/ocrs", id="only the beginning of a word"),
        pytest.param(b"/speech", id="above a route"),
        pytest.param(b"/", id="root"),
        pytest.param(b"/v1/chat/%63ompletions", id="an encoded letter"),
        pytest.param(b"/v1/chat/completions;a=b", id="a path parameter"),
        pytest.param(b"/sleep", id="an engine's own admin"),
        pytest.param(b"/slots", id="an engine's own state"),
    ],
)
def test_what_is_not_in_the_table_is_unknown(target: bytes) -> None:
    """Nothing but the table's own bytes is answered."""
    assert find(b"GET", target, PASSED) == Refusal(
        code="unknown_url", message=f"Unknown request URL: GET {target.decode()}."
    )


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        pytest.param(b"/v1/../admin/status", "an empty segment or a segment of dots", id=".."),
        pytest.param(b"/ocr/..", "an empty segment or a segment of dots", id=".. at the end"),
        pytest.param(b"/ocr/./x", "an empty segment or a segment of dots", id="."),
        pytest.param(b"//health", "an empty segment or a segment of dots", id="//"),
        pytest.param(b"/ocr//x", "an empty segment or a segment of dots", id="// within"),
        pytest.param(b"/v1/models/..", "an empty segment or a segment of dots", id="model .."),
        pytest.param(b"/v1/models/%2E%2e", "an empty segment or a segment of dots", id="model %2E"),
        pytest.param(b"/v1/models/a%2F%2Fb", "an empty segment or a segment of dots", id="%2F%2F"),
        pytest.param(
            b"/v1/models/a%2F..%2Fb", "an empty segment or a segment of dots", id="model a/../b"
        ),
        pytest.param(b"/v1/models/a%00", "an encoded dot, slash, backslash or NUL", id="model NUL"),
        pytest.param(b"/v1/models/a%5C", "an encoded dot, slash, backslash or NUL", id="model \\"),
        pytest.param(b"/ocr/%2e%2e/x", "an encoded dot, slash, backslash or NUL", id="%2e"),
        pytest.param(b"/ocr%2Fx", "an encoded dot, slash, backslash or NUL", id="%2F"),
        pytest.param(b"/health%00", "an encoded dot, slash, backslash or NUL", id="NUL"),
        pytest.param(b"/ocr/%zz", "a broken percent-encoding", id="%zz"),
        pytest.param(b"/ocr/%2", "a broken percent-encoding", id="cut percent"),
        pytest.param(b"/ocr\\x", "a backslash or a fragment", id="backslash"),
        pytest.param(b"/health#x", "a backslash or a fragment", id="fragment"),
        pytest.param("/ocr/ä".encode(), "a byte that is not visible ASCII", id="UTF-8"),
        pytest.param(b"/ocr/a b", "a byte that is not visible ASCII", id="space"),
        pytest.param(b"/ocr?a\x00", "a byte that is not visible ASCII", id="NUL in the query"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(target: bytes, wrong: str) -> None:
    """What the gateway and an engine could understand differently reaches nobody."""
    assert find(b"GET", target, PASSED) == Refusal(
        code="invalid_url", message=f"The request target holds {wrong}."
    )


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"http://127.0.0.1:8081/v1/models", id="absolute-form"),
        pytest.param(b"127.0.0.1:8081", id="authority-form"),
        pytest.param(b"*", id="asterisk-form"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"?x", id="a query alone"),
    ],
)
def test_a_target_that_is_no_path_is_refused(target: bytes) -> None:
    """The gateway is no forward proxy."""
    assert find(b"GET", target, PASSED) == Refusal(
        code="invalid_url",
        message="The request target must be a path that begins with /.",
    )


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        pytest.param(b"GET", b"/v1/chat/completions", b"POST", id="chat"),
        pytest.param(b"GET", b"/v1/chat/completions?a=b", b"POST", id="chat with a query"),
        pytest.param(b"OPTIONS", b"/v1/embeddings", b"POST", id="no CORS"),
        pytest.param(b"DELETE", b"/v1/models/chat", b"GET, HEAD", id="one model"),
        pytest.param(b"POST", b"/admin/status", b"GET, HEAD", id="operator"),
        pytest.param(
            b"CONNECT", b"/ocr", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", id="CONNECT"
        ),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: bytes, target: bytes, allow: bytes) -> None:
    """A 405 names what is allowed, for the Allow header too."""
    assert find(method, target, PASSED) == Refusal(
        code="method_not_allowed",
        message=f"{method.decode()} is not allowed here, only {allow.decode()}.",
        allow=allow,
    )


@pytest.mark.parametrize(
    "name", [b"a%20b", b"%ff", b"a" * 129, b"a%25", b"{x}", b"%2520"], ids=repr
)
def test_a_model_that_no_profile_could_name_does_not_exist(name: bytes) -> None:
    """What could not be a model's name is not looked up, and not repeated."""
    assert find(b"GET", b"/v1/models/" + name) == Refusal(
        code="model_not_found", message="No model has a name like this one."
    )


def test_a_refusal_does_not_repeat_a_long_target() -> None:
    """An error message is bounded, whatever was asked."""
    assert find(b"G" * 300, b"/" + b"x" * 300) == Refusal(
        code="unknown_url",
        message=f"Unknown request URL: {'G' * 128}... /{'x' * 127}....",
    )


@given(method=st.binary(max_size=8), target=st.binary(max_size=64))
@example(method=b"GET", target=b"/v1/models/\xff")
@example(method=b"GET", target=b"/ocr/%")
def test_any_bytes_are_found_or_refused(method: bytes, target: bytes) -> None:
    """Whatever a client sends, the answer is an endpoint or a refusal that the table knows."""
    found = find(method, target, PASSED)
    if isinstance(found, Refusal):
        assert found.code in FAULTS
    else:
        assert found.upstream_path.isascii()


@given(
    method=st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT"]) | st.binary(max_size=4),
    target=st.sampled_from([*EXACT, b"/ocr"]), rest=st.sampled_from([b"", b"?x", b"/"]),
)  # fmt: skip
def test_exact_gives_what_find_would(method: bytes, target: bytes, rest: bytes) -> None:
    """The short way ends where the long one does, or nowhere."""
    short = exact(method, target + rest)
    assert short is None or short is find(method, target + rest, PASSED)
    assert short is not None or method not in EXACT.get(target + rest, {})


_MARKS = ["/", ".", "..", "%2e", "%2F", "%5c", "%00", "\\", "?", "#", "%", ":", ";", "//", "é"]
_WORDS = ["ocr", "speech", "v2", "v1", "models", "admin", "status", "a"]


@given(pieces=st.lists(st.sampled_from(_MARKS + _WORDS), max_size=10))
def test_no_way_of_writing_leaves_the_routes(pieces: list[str]) -> None:
    """What goes upstream is of the table, or begins with a route and has no way out of it."""
    found = find(b"GET", "".join(["/", *pieces]).encode(), PASSED)
    if isinstance(found, Refusal):
        return
    path = found.upstream_path.partition(b"?")[0]
    if found.kind == "pass_through":
        route = found.name.encode()
        assert path == route or path.startswith(route + b"/")
        assert not {b"", b".", b".."} & set(path[1:].removesuffix(b"/").split(b"/"))
        assert not any(word in path.lower() for word in (b"%2e", b"%2f", b"%5c", b"%00", b"\\"))
    elif found.model:
        assert MODEL_NAME.fullmatch(found.model)
        assert not {"", ".", ".."} & set(found.model.removesuffix("/").split("/"))
    else:
        assert path in EXACT
