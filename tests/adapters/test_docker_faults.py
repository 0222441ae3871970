"""Every failure of the Docker SDK becomes an error of gpuctl with a next step; no engine needed."""

from __future__ import annotations

import errno
import inspect
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import docker.errors
import pytest
import requests
import requests.exceptions
import urllib3.exceptions

from gpuctl.adapters.docker.clients import Clients
from gpuctl.adapters.docker.faults import fault, translated
from gpuctl.errors import (
    ContainerMissing,
    NameTaken,
    RuntimeTimeout,
    RuntimeUnavailable,
    StartRefused,
)


def exceptions_of(module: ModuleType) -> Iterator[type[Exception]]:
    """Yield the exceptions that a module defines, but for its warnings."""
    for _, member in sorted(vars(module).items()):
        if (
            inspect.isclass(member)
            and member.__module__ == module.__name__
            and issubclass(member, Exception)
            and not issubclass(member, Warning)
        ):
            yield member


def made(kind: type[Exception]) -> Exception:
    """Return one of its kind, whatever its constructor asks for."""
    attributes = {
        "__init__": lambda self: Exception.__init__(self, "words"),
        "__str__": lambda self: "words",
        "response": None,
        "explanation": None,
    }
    error: Exception = type(kind.__name__, (kind,), attributes)()
    return error


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=f"{module.__name__}.{kind.__name__}")
        for module in (docker.errors, requests.exceptions)
        for kind in exceptions_of(module)
    ],
)
def test_every_exception_of_the_sdk_is_translated(kind: type[Exception]) -> None:
    """Whatever docker or requests raise, gpuctl raises a child of its own."""
    with pytest.raises(RuntimeUnavailable), translated("do it"):
        raise made(kind)


def answer(status: int, explanation: str) -> docker.errors.APIError:
    """Return the SDK's error for an HTTP answer."""
    response = requests.Response()
    response.status_code = status
    response.url = "http+docker://localhost/v1.41/containers"
    response._content = f'{{"message": "{explanation}"}}'.encode()
    with pytest.raises(docker.errors.APIError) as raised:
        docker.errors.create_api_error_from_http_exception(
            requests.exceptions.HTTPError(response=response)
        )
    return raised.value


@pytest.mark.parametrize(
    ("status", "words", "starting", "kind", "hint"),
    [
        pytest.param(404, "No such container: x", False, ContainerMissing, "", id="gone"),
        pytest.param(404, "No such container: x", True, ContainerMissing, "", id="gone-at-start"),
        pytest.param(404, "No such image: x:y", True, StartRefused, "docker pull", id="image"),
        pytest.param(
            409, "Conflict. The name /x is already in use by", True, NameTaken, "", id="name"
        ),
        pytest.param(409, "cannot remove a running one", False, RuntimeUnavailable, "", id="409"),
        pytest.param(
            500, "Bind for 127.0.0.1:81 failed: port is already allocated", True, StartRefused,
            "ss -ltnp", id="port",
        ),
        pytest.param(
            500, "listen tcp4 127.0.0.1:81: bind: address already in use", True, StartRefused,
            "ss -ltnp", id="port-of-a-stranger",
        ),
        pytest.param(
            500, "could not select device driver with capabilities: [[gpu]]", True, StartRefused,
            "Container Toolkit", id="no-toolkit",
        ),
        pytest.param(
            500, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0", True,
            StartRefused, "nvidia-ctk cdi generate", id="stale-cdi",
        ),
        pytest.param(
            500, "nvidia-container-cli: initialization error: nvml error", True, StartRefused,
            "nvidia-smi", id="driver",
        ),
        pytest.param(500, "something else", True, StartRefused, "", id="start-500"),
        pytest.param(500, "something else", False, RuntimeUnavailable, "", id="500"),
    ],
)  # fmt: skip
def test_an_answer_becomes_an_error_with_a_next_step(
    status: int, words: str, starting: bool, kind: type[Exception], hint: str
) -> None:
    """The engine's words stay in the message; the hint says what to do."""
    found = fault(answer(status, words), "do it", starting=starting)
    assert (type(found), found.message) == (kind, f"cannot do it: {words}")
    assert hint in found.hint
    assert bool(hint) == bool(found.hint)


def test_a_command_that_the_engine_quotes_keeps_its_secrets() -> None:
    """What is stored with a refused start, and printed by `why`, has no secret flag's value."""
    refused = answer(500, "exec: 'serve --api-key sk-1': not found")
    found = fault(refused, "do it", starting=True)
    assert found.message == "cannot do it: exec: 'serve --api-key ********': not found"


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        pytest.param(FileNotFoundError(errno.ENOENT, ""), RuntimeUnavailable, "listens"),
        pytest.param(ConnectionRefusedError(errno.ECONNREFUSED, ""), RuntimeUnavailable, "listens"),
        pytest.param(PermissionError(errno.EACCES, ""), RuntimeUnavailable, "not ours"),
        pytest.param(ConnectionResetError(errno.ECONNRESET, ""), RuntimeTimeout, "hung up"),
        pytest.param(TimeoutError("timed out"), RuntimeTimeout, "in time"),
    ],
)
def test_a_connection_s_end_tells_whether_it_may_have_happened(
    cause: OSError, kind: type[Exception], words: str
) -> None:
    """Never connected: nothing happened. Lost or late: it may have."""
    lost = requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("aborted", cause))
    found = fault(lost, "do it")
    assert type(found) is kind
    assert words in found.message


def test_the_engine_is_named_by_the_mapping(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """DOCKER_HOST is read from the environment that was handed in, not from the process's."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/elsewhere.sock")
    body = b'{"ApiVersion": "1.41"}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(head + body)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        clients = Clients({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}, 5)
        assert clients.open().api_version == "1.41"
        thread.join()
        clients.close()
