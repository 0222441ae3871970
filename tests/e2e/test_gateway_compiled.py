"""
The gateway that the compiled wheel installs: it is compiled, and does what any other does.

The wheel is built once, in a minute on one core, and kept in `.cache/compiled` until a source of it
changes. Both gateways stand before the same stub engine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway import installed
from gpuctl.gateway import keyring
from gpuctl.gateway.keyring import Key, digest
from gpuctl.model import GatewaySettings, LimitSettings, TimeoutSettings
from tests.e2e.test_gateway_hostile import AMBIGUOUS, CHUNKS, TOO_MUCH
from tests.rig.gateway_process import GatewayProcess, Upstream
from tests.rig.raw_client import CHAT, Closed, RawClient, request
from tests.rig.stub_engine import StubEngine

# The first of them waits for the wheel, beside the tests of other files.
pytestmark = [pytest.mark.program, pytest.mark.timeout(400)]

SETTINGS = GatewaySettings(
    timeouts=TimeoutSettings(head_seconds=1.0, body_seconds=1.0),
    limits=LimitSettings(body_bytes=256 * 1024),
)
KEY, ADMIN, ONCE = "sk-compiled", "sk-admin", "sk-once"
KEYS = (
    Key(id="key-00000001", name="all", sha256=digest(KEY), tokens_per_minute=1_000_000),
    Key(id="key-00000002", name="ops", sha256=digest(ADMIN), admin=True),
    Key(id="key-00000003", name="once", sha256=digest(ONCE), requests_per_minute=1),
    Key(id="key-00000004", name="other", sha256=digest("sk-other"), models=("other",)),
)
AUTHORIZED = f"Authorization: Bearer {KEY}"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where it is installed."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("the headers of Python are not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # of no interest in a build
        return installed.installed()


@pytest.fixture(scope="module")
def stub() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


def gateway(stub: StubEngine, environment: dict[str, str]) -> GatewayProcess:
    upstream = Upstream(name="chat-0", address=stub.address, slots=8)
    keys = json.loads(keyring.write(KEYS))
    return GatewayProcess([upstream], SETTINGS, environment=environment, keys=keys)


@pytest.fixture(scope="module")
def both(folder: Path, stub: StubEngine) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """The compiled and the interpreted one."""
    with ExitStack() as stack:
        # Coverage would take the installed sources for others of the repository's.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        compiled = stack.enter_context(gateway(stub, installed.environment()))
        interpreted = stack.enter_context(gateway(stub, {}))
        yield compiled, interpreted
        assert not compiled.broke, compiled.log
        assert not interpreted.broke, interpreted.log


def ask(process: GatewayProcess, body: Any = None, *headers: str, **how: str) -> Any:
    """Send one request; return its whole answer."""
    with RawClient(process.port) as client:
        client.send(request(body, *headers, **how))
        return client.answer()


def test_what_is_installed(folder: Path) -> None:
    """Each compiled module lies beside its source, and the wheel is for this Python alone."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    gateway = folder / "gpuctl" / "gateway"
    libraries = {path.name.removesuffix(suffix) for path in gateway.glob(f"*{suffix}")}
    sources = {path.stem for path in gateway.glob("*.py")}
    project = tomllib.loads(Path(installed.ROOT, "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    assert {f"gpuctl/gateway/{name}.py" for name in libraries} == set(hook["modules"])
    assert sources == {path.stem for path in Path(installed.ROOT, "gpuctl/gateway").glob("*.py")}
    (told,) = folder.glob("gpuctl-*.dist-info/WHEEL")
    assert re.search(r"^Tag: (cp3\d+)-\1-linux_\w+$", told.read_text(), re.MULTILINE)


def test_what_is_imported(folder: Path, unmeasured: None) -> None:
    """A module comes from the library that lies beside its source, and says so."""
    ran = subprocess.run(
        [sys.executable, "-c", "import gpuctl.gateway.exchange as found; print(found.__file__)"],
        env={**os.environ, **installed.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert ran.stdout == f"{folder / 'gpuctl' / 'gateway' / 'exchange'}{suffix}\n"


def test_what_runs(both: tuple[GatewayProcess, GatewayProcess]) -> None:
    """The gateway that is compared is the compiled one, and what it is compared with is not."""
    assert [installed.is_compiled(each.pid) for each in both] == [True, False]


def test_what_they_say(both: tuple[GatewayProcess, GatewayProcess]) -> None:
    """Each tells its operator which one it is, and who scrapes it."""
    admin = f"X-API-Key: {ADMIN}"
    pages = [ask(each, None, admin, method="GET", target="/debug/runtime") for each in both]
    assert [page.document["compiled"] for page in pages] == [True, False]
    for process, told in zip(both, (b'compiled="true"} 1', b'compiled="false"} 1'), strict=True):
        assert told in ask(process, None, method="GET", target="/metrics").body


def test_a_life(folder: Path, stub: StubEngine, unmeasured: None) -> None:
    """It answers, streams without usage that nobody asked for, refuses, and ends at a SIGTERM."""
    stub.seen.clear()
    with gateway(stub, installed.environment()) as process:
        answered = ask(process, CHAT, AUTHORIZED)
        streamed = ask(process, {**CHAT, "stream": True}, AUTHORIZED)
        unknown = ask(process, CHAT)
        broken = ask(process, b'{"model": "chat", "messages": [', AUTHORIZED)
        code = process.stop()
        told = [line for line in process.lines if line.get("method") == "POST"]
        assert not process.broke, process.log
    assert answered.status == 200
    assert answered.document["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
    assert streamed.status == 200
    events = streamed.body.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert len(events) == 4 + 1 + 2  # tokens, the end, [DONE]
    assert b"usage" not in streamed.body
    assert stub.seen[1].asked["stream_options"] == {"include_usage": True}
    assert (unknown.status, unknown.document["error"]["code"]) == (401, "invalid_api_key")
    assert (broken.status, broken.document["error"]["type"]) == (400, "invalid_request_error")
    assert [(line["status"], line["completion_tokens"]) for line in told] == [
        (200, 4),
        (200, 4),
        (401, None),
        (400, None),
    ]
    assert code == 0


def chat(**fields: Any) -> bytes:
    return request({**CHAT, **fields}, AUTHORIZED)


def order(fault: str, **fields: Any) -> bytes:
    return chat(stub={"fault": fault, **fields.pop("stub", {})}, **fields)


def got(target: str, *headers: str, method: str = "GET") -> bytes:
    return request(None, *headers, method=method, target=target)


PLAIN = [
    pytest.param(chat(), id="chat"),
    pytest.param(chat(stream=True), id="stream"),
    pytest.param(chat(stream=True, stream_options={"include_usage": True}), id="usage"),
    pytest.param(chat(stream=True, stub={"tokens": 0}), id="empty stream"),
    pytest.param(chat(stub={"bytes": 100_000}), id="large answer"),
    pytest.param(chat(stream=True, stub={"bytes": 20_000, "tokens": 40}), id="large stream"),
    pytest.param(chat(user_config={"a": 1}, api_base="http://x"), id="dropped fields"),
    pytest.param(chat() + chat(stream=True) + chat(), id="three at once"),
    pytest.param(
        request({"model": "chat", "prompt": "x"}, AUTHORIZED, target="/v1/completions"), id="text"
    ),
    pytest.param(
        request({"model": "chat", "input": "x"}, AUTHORIZED, target="/v1/embeddings"),
        id="embeddings of a model that chats",
    ),
    pytest.param(request(CHAT, AUTHORIZED, "Idempotency-Key: one"), id="kept"),
    pytest.param(request(CHAT, AUTHORIZED, "Idempotency-Key: one"), id="kept, again"),
    pytest.param(request(CHAT, AUTHORIZED, "X-Request-Id: mine"), id="an id of its own"),
    pytest.param(request(CHAT, f"X-API-Key: {KEY}"), id="key in its own header"),
    pytest.param(request(CHAT), id="no key"),
    pytest.param(request(CHAT, "Authorization: Bearer sk-none"), id="unknown key"),
    pytest.param(request(CHAT, "Authorization: Bearer sk-other"), id="key of another model"),
    pytest.param(request(CHAT, f"Authorization: Bearer {ONCE}"), id="limit of one"),
    pytest.param(request(CHAT, f"Authorization: Bearer {ONCE}"), id="beyond the limit"),
    pytest.param(chat(model="none"), id="unknown model"),
    pytest.param(chat(model=None), id="no model"),
    pytest.param(chat(stream="yes"), id="stream is no boolean"),
    pytest.param(request(b"", AUTHORIZED), id="no body"),
    pytest.param(request(b"[]", AUTHORIZED), id="no object"),
    pytest.param(request(b'{"model": "chat", "a": ' + b"[" * 10_000, AUTHORIZED), id="deep"),
    pytest.param(request(b'{"model": "\xff"}', AUTHORIZED), id="no UTF-8"),
    pytest.param(request(CHAT, AUTHORIZED, "Content-Encoding: gzip"), id="encoded"),
    pytest.param(request(CHAT, AUTHORIZED, "Expect: 100-continue"), id="expects to go on"),
    pytest.param(request(CHAT, AUTHORIZED, "Expect: more"), id="expects more"),
    pytest.param(request(CHAT, AUTHORIZED, version="HTTP/1.0"), id="HTTP/1.0"),
    pytest.param(request(CHAT, AUTHORIZED, "Connection: close"), id="last of its connection"),
    pytest.param(got("/v1/chat/completions", AUTHORIZED), id="wrong method"),
    pytest.param(got("/v1/chat/completions", AUTHORIZED, method="OPTIONS"), id="OPTIONS"),
    pytest.param(got("/v1/models", AUTHORIZED), id="models"),
    pytest.param(got("/v1/models", AUTHORIZED, method="HEAD"), id="HEAD"),
    pytest.param(got("/v1/models/chat", AUTHORIZED), id="one model"),
    pytest.param(got("/v1/none", AUTHORIZED), id="unknown path"),
    pytest.param(got("/health"), id="health"),
    pytest.param(got("/readyz?level=all"), id="ready"),
    pytest.param(got("/admin/status", AUTHORIZED), id="operator's"),
    pytest.param(got("/openapi.json"), id="document"),
    pytest.param(order("400"), id="engine refuses"),
    pytest.param(order("context"), id="too long a prompt"),
    pytest.param(order("error_stream", stream=True), id="error in a stream"),
    pytest.param(order("close_stream", stream=True), id="stream breaks off"),
    pytest.param(order("close_body"), id="answer breaks off"),
    pytest.param(order("500"), id="engine fails"),
]
HOSTILE = [
    pytest.param(each.values[0], id=str(each.id)) for each in (*AMBIGUOUS, *CHUNKS, *TOO_MUCH)
]
#: What differs from one answer to the next: ids, times, and how long a number of them is.
VARIES = re.compile(rb'stub-[0-9a-f]+|req[-_][0-9A-Za-z-]+|"created":\d+|\d+\.\d+(?= s)')
CHANGING = {
    *("content-length", "date", "openai-processing-ms", "retry-after", "server-timing"),
    *("x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"),
    "x-request-id",
}


def outcome(process: GatewayProcess, data: bytes) -> list[Any]:
    """Return what comes back until nothing more does, less what differs each time."""
    found: list[Any] = []
    method = data.partition(b" ")[0]
    with RawClient(process.port) as client:
        client.send(data)
        try:
            left = max(data.count(b" HTTP/1.1\r\n"), 1)
            while left:
                answer = client.answer(without_body=method == b"HEAD")
                headers = {
                    name: "" if name in CHANGING else value
                    for name, value in answer.headers.items()
                }
                found.append((answer.status, headers, VARIES.sub(b"", answer.body)))
                left -= answer.status >= 200  # what goes before an answer is none
        except (Closed, TimeoutError) as error:
            found.append(type(error).__name__)
    return found


def alike(data: bytes, both: tuple[GatewayProcess, GatewayProcess]) -> list[Any]:
    """Return what came of it, the same from both, and in time."""
    compiled, interpreted = (outcome(process, data) for process in both)
    assert compiled == interpreted
    assert "TimeoutError" not in compiled
    return compiled


@pytest.mark.parametrize("data", PLAIN)
def test_both_do_the_same(data: bytes, both: tuple[GatewayProcess, GatewayProcess]) -> None:
    """Status, headers and body of the compiled one are those of the interpreted one."""
    assert "Closed" not in alike(data, both)


@pytest.mark.parametrize("data", HOSTILE)
def test_both_refuse_the_same(data: bytes, both: tuple[GatewayProcess, GatewayProcess]) -> None:
    """They answer, or close the connection, alike."""
    assert alike(data, both)


@pytest.mark.parametrize(
    ("name", "statuses", "body"),
    [
        pytest.param(
            "empty stream", [200], rb'^data: .*"delta": ?{}.*\n\ndata: \[DONE', id="empty"
        ),
        pytest.param("deep", [400], rb'"json_too_deep"', id="deep"),
        pytest.param("expects to go on", [100, 200], rb"w0 w1 w2 w3 ", id="expects to go on"),
    ],
)
def test_what_they_are_asked(
    name: str, statuses: list[int], body: bytes, both: tuple[GatewayProcess, GatewayProcess]
) -> None:
    """A request comes to what it is named for, not to another answer that both give alike."""
    (data,) = (case.values[0] for case in PLAIN if case.id == name)
    assert isinstance(data, bytes)
    answers = outcome(both[0], data)
    assert [status for status, _, _ in answers] == statuses
    assert re.search(body, answers[-1][2])
