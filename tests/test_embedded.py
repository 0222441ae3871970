"""The embedded llama.cpp server: its flags, its errors, and the real thing with a real model."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuctl import embedded
from gpuctl.engines.llamacpp import ENGINE
from gpuctl.model import Workload
from gpuctl.plugin import Slot

MODEL = Path(__file__).parents[1] / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
DEADLINE_SECONDS = 60.0


def command(port: int, **changes: Any) -> tuple[str, ...]:
    """Return what the llama.cpp engine has a process run."""
    values: dict[str, Any] = {
        "name": "chat",
        "engine": "llama.cpp",
        "model": str(MODEL),
        "port": port,
        "gpus": "none",
        "context": 1024,
    }
    slot = Slot(index=0, gpus=(), port=port, runtime="process", python=sys.executable)
    launch = ENGINE.launch(Workload(**(values | changes)), slot)
    return (*(launch.entrypoint or ()), *launch.command)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="chat"),
        pytest.param({"kind": "embedding", "options": {"pooling": "mean"}}, id="embedding"),
        pytest.param({"kind": "rerank"}, id="rerank"),
        pytest.param(
            {
                "options": {
                    "batch": 256,
                    "ubatch": 128,
                    "threads": 2,
                    "gpu_layers": 3,
                    "flash_attention": "off",
                    "cache_type_k": "q8_0",
                    "cache_type_v": "iq4_nl",
                    "cache_ram_mib": 64,
                }
            },
            id="every option",
        ),
    ],
)
def test_takes_what_the_engine_emits(changes: dict[str, Any]) -> None:
    """Every flag of the llama.cpp engine is one of its flags."""
    flags = embedded.parser().parse_args(command(9000, **changes)[3:])
    assert (flags.model, flags.port, flags.alias) == (str(MODEL), 9000, "chat")


def test_takes_how_layers_are_spread() -> None:
    """One share for each GPU; llama.cpp has room for more of them, which are nothing."""
    xllamacpp = pytest.importorskip("xllamacpp")
    flags = embedded.parser().parse_args(["-m", "x.gguf", "-ts", "1,1,0.5"])
    found = embedded._parameters(xllamacpp, flags).tensor_split
    assert (found[:3], sum(found)) == ([1.0, 1.0, 0.5], 2.5)


@pytest.mark.parametrize("flag", ["--no-such-flag", "--metric"])
def test_unknown_flag(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag it does not have, or a part of one, is an error of usage."""
    with pytest.raises(SystemExit) as exit_:
        embedded.main(["-m", "x.gguf", flag])
    assert exit_.value.code == 2
    assert flag in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It tells its version."""
    with pytest.raises(SystemExit) as exit_:
        embedded.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("gpuctl ")


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model file that is not there is told in one line."""
    missing = tmp_path / "none.gguf"
    assert embedded.main(["-m", str(missing)]) == 1
    assert capsys.readouterr().err == f"error: {missing}: there is no such model file\n"


def test_no_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra it tells how to get it."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert embedded.main(["-m", str(model)]) == 1
    assert capsys.readouterr().err == (
        "error: the embedded server needs xllamacpp\n"
        "hint: in a clone of gpuctl, `make demo` installs it, and so does pip install '.[demo]'\n"
    )


def test_its_error_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has a line of its own, wherever llama.cpp's log, which is not ours, stands."""

    class Unwilling:
        def __init__(self, parameters: object) -> None:
            sys.stderr.write("0.00.006.179 E srv ")
            raise RuntimeError("no such luck")

    monkeypatch.setitem(sys.modules, "xllamacpp", SimpleNamespace(Server=Unwilling))
    monkeypatch.setattr(embedded, "_parameters", lambda module, flags: None)
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model")
    assert embedded.main(["-m", str(junk)]) == 1
    assert f"error: {junk} on 127.0.0.1:8080: no such luck" in capsys.readouterr().err.splitlines()


@pytest.fixture
def model() -> Path:
    if not MODEL.exists():
        reason = f"{MODEL} is missing: run `make dev-setup`"
        # A continuous integration that skips what matters would always be green.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    pytest.importorskip("xllamacpp")
    return MODEL


@contextmanager
def served(port: int, **changes: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command(port, **changes), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def ask(port: int, path: str, body: object = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body)
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def until_ready(port: int) -> set[int]:
    """Wait until /health says 200; return every other status it said before."""
    seen: set[int] = set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            status, _ = ask(port, "/health")
        except OSError:
            continue
        if status == 200:
            return seen
        seen.add(status)
    pytest.fail(f"not ready within {DEADLINE_SECONDS} s")


@pytest.mark.engine
def test_serves(model: Path, port: int) -> None:
    """It answers a question, its counters move by it, and SIGTERM ends it with 0."""
    question = {
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "max_tokens": 16,
        "temperature": 0,
    }
    with served(port) as process:
        assert until_ready(port) <= {503}
        before = ENGINE.stats(ask(port, "/metrics")[1])
        status, text = ask(port, "/v1/chat/completions", question)
        after = ENGINE.stats(ask(port, "/metrics")[1])
        assert status == 200
        answer = json.loads(text)
        assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
        assert answer["model"] == "chat"
        assert before.progress == 0
        assert after.progress is not None
        assert after.progress > 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


@pytest.mark.engine
def test_canary(model: Path, port: int) -> None:
    """The engine's canary is answered with one token."""
    probe = ENGINE.probe(
        Workload(name="chat", engine="llama.cpp", port=port),
        Slot(index=0, gpus=(), port=port, runtime="process"),
    )
    with served(port):
        until_ready(port)
        assert probe.canary_path is not None
        status, text = ask(port, probe.canary_path, json.loads(probe.canary_body))
    assert status == 200
    assert json.loads(text)["usage"]["completion_tokens"] == 1


@pytest.mark.engine
def test_embeds(model: Path, port: int) -> None:
    """As an embedding server it answers with a vector, and its counters move too."""
    with served(port, kind="embedding", options={"pooling": "mean"}):
        until_ready(port)
        status, text = ask(port, "/v1/embeddings", {"input": "hello"})
        stats = ENGINE.stats(ask(port, "/metrics")[1])
    assert status == 200
    assert len(json.loads(text)["data"][0]["embedding"]) == 576
    assert stats.progress


@pytest.mark.engine
def test_slots_have_the_whole_context(model: Path, port: int) -> None:
    """A profile's context is for each request, however many are served at once."""
    with served(port, parallel=2):
        until_ready(port)
        slots = json.loads(ask(port, "/slots")[1])
    assert [slot["n_ctx"] for slot in slots] == [1024, 1024]


@pytest.mark.engine
def test_not_a_model(model: Path, port: int, tmp_path: Path) -> None:
    """A file that is no model ends it with 1, and a line says which file."""
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"not a model")
    ended = subprocess.run(
        command(port, model=str(junk)), capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert ended.returncode == 1
    message = f"error: {junk} on 127.0.0.1:{port}: "
    assert any(line.startswith(message) for line in ended.stderr.splitlines())
