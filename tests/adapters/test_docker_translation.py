"""The Docker runtime's pure parts, on answers written down by hand: no engine needed."""

from __future__ import annotations

import errno
import inspect
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docker.errors
import pytest
import requests
import requests.exceptions
import urllib3.exceptions

from gpuctl.adapters.docker import cgroup, creation, reading
from gpuctl.adapters.docker.clients import Clients
from gpuctl.adapters.docker.faults import fault, translated
from gpuctl.adapters.docker.listing import Listing
from gpuctl.adapters.docker.pulling import Layers
from gpuctl.errors import (
    ContainerMissing,
    NameTaken,
    RuntimeTimeout,
    RuntimeUnavailable,
    StartRefused,
)
from gpuctl.model import ContainerReading, ContainerSpec, Mount, RuntimeEvent

ID = "4f" * 32


def inspected(**state: object) -> dict[str, Any]:
    """Return what the engine answers for a running container, with *state* changed."""
    running = {"Status": "running", "Pid": 4321, "ExitCode": 0, "OOMKilled": False, "Error": ""}
    times = {"StartedAt": "2026-11-21T04:23:34.510286077Z", "FinishedAt": "0001-01-01T00:00:00Z"}
    labels = {
        "gpuctl.schema": "1",
        "gpuctl.profile": "p106x8",
        "gpuctl.replica": "chat-0",
        "gpuctl.gpus": "GPU-a,GPU-b",
        "gpuctl.attempt": "7",
        "gpuctl.digest": "v1:abc",
    }
    return {
        "Id": ID,
        "Name": "/gpuctl-chat-0",
        "State": {**running, **times, **state},
        "Config": {"Labels": labels},
    }


def test_a_running_container_is_read() -> None:
    """Every field of a reading comes from the inspection; an end that never came is None."""
    assert reading.reading(inspected(), boot_seconds=12.5) == ContainerReading(
        id=ID,
        name="gpuctl-chat-0",
        replica="chat-0",
        profile="p106x8",
        state="running",
        pid=4321,
        started_at=1795235014.510286,
        gpus=("GPU-a", "GPU-b"),
        attempt="7",
        digest="v1:abc",
        boot_seconds=12.5,
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(
            {"Status": "exited", "Pid": 0, "ExitCode": 137, "OOMKilled": True},
            ("exited", None, 137, True),
            id="out-of-memory",
        ),
        pytest.param({"Status": "exited", "Pid": 0}, ("exited", None, 0, False), id="ended-well"),
        pytest.param({"Status": "paused"}, ("paused", 4321, None, False), id="paused"),
        pytest.param({"Status": "created", "Pid": 0}, ("created", None, None, False), id="created"),
        pytest.param(
            {"Status": "created", "Pid": 0, "ExitCode": 128},
            ("created", None, 128, False),
            id="start-refused",
        ),
        pytest.param(
            {"Status": "restarting", "Pid": 0, "ExitCode": 1},
            ("exited", None, 1, False),
            id="restarted-by-a-policy-of-someone-else",
        ),
    ],
)
def test_the_state_is_told(state: dict[str, object], expected: tuple[object, ...]) -> None:
    """State, pid, exit code and OOM flag as the engine means them."""
    found = reading.reading(inspected(**state), boot_seconds=0.0)
    assert (found.state, found.pid, found.exit_code, found.oom_killed) == expected


def test_a_container_without_labels_is_read() -> None:
    """Docker answers null where there are none."""
    bare = {**inspected(), "Config": {"Labels": None}}
    assert reading.reading(bare, boot_seconds=0.0).replica == ""


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        pytest.param("2026-11-21T04:23:34.510286077Z", 1795235014.510286, id="nanoseconds"),
        pytest.param("2026-11-21T04:23:34Z", 1795235014.0, id="whole"),
        pytest.param("2026-11-21T06:23:34.5+02:00", 1795235014.5, id="offset"),
        pytest.param("2026-11-21T04:23:34", 1795235014.0, id="without-a-zone"),
        pytest.param("0001-01-01T00:00:00Z", None, id="never"),
        pytest.param("", None, id="empty"),
    ],
)
def test_timestamps(timestamp: str, seconds: float | None) -> None:
    """RFC 3339 becomes Unix seconds; Go's zero time is no time."""
    assert reading.unix_seconds(timestamp) == seconds


def test_an_event_is_read() -> None:
    """A die event carries its exit code; the time is the engine's, in nanoseconds."""
    attributes = {"gpuctl.replica": "chat-0", "exitCode": "137", "image": "x", "name": "y"}
    told = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": ID, "Attributes": attributes},
        "time": 1795235014,
        "timeNano": 1795235014510286077,
    }
    assert reading.event(told) == RuntimeEvent(
        at=1795235014.510286077,
        action="die",
        container=ID,
        replica="chat-0",
        exit_code=137,
    )


def test_a_small_spec_sets_no_limit_it_does_not_have() -> None:
    """What the profile leaves open stays Docker's default, and no GPU is asked for."""
    spec = ContainerSpec(
        image="image:tag",
        host_port=8081,
        container_port=8080,
        mounts=(Mount(source="models", target="/models", read_only=True),),
    )
    assert creation.body(spec, {"gpuctl.replica": "chat-0"}) == {
        "Image": "image:tag",
        "Env": [],
        "Labels": {"gpuctl.replica": "chat-0"},
        "StopTimeout": 30,
        "Healthcheck": {"Test": ["NONE"]},
        "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {
            "PidsLimit": 4096,
            "Ulimits": [],
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            "NetworkMode": "bridge",
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}]},
            "Mounts": [
                {"Type": "volume", "Source": "models", "Target": "/models", "ReadOnly": True}
            ],
            "DeviceRequests": [],
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": "52428800", "max-file": "3"},
            },
            "RestartPolicy": {"Name": "no"},
        },
    }


@pytest.mark.parametrize(
    ("groups", "folder", "usage", "inactive"),
    [
        pytest.param(
            f"9:memory:/docker/{ID}\n0::/docker/{ID}",
            f"memory/docker/{ID}",
            "memory.usage_in_bytes",
            "total_inactive_file",
            id="v1",
        ),
        pytest.param(
            f"0::/system.slice/docker-{ID}.scope",
            f"system.slice/docker-{ID}.scope",
            "memory.current",
            "inactive_file",
            id="v2",
        ),
    ],
)
def test_host_ram_is_read_from_the_control_group(
    tmp_path: Path, groups: str, folder: str, usage: str, inactive: str
) -> None:
    """What the kernel would give back is not held; both versions are understood."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(groups + "\n")
    (root / folder).mkdir(parents=True)
    (root / folder / usage).write_text("5000\n")
    (root / folder / "memory.stat").write_text(f"rss 1\n{inactive} 1200\n")
    assert cgroup.memory_bytes(7, ID, proc=proc, root=root) == 3800
    # The same pid on another machine's engine is some other process here.
    assert cgroup.memory_bytes(7, "ab" * 32, proc=proc, root=root) is None
    assert cgroup.memory_bytes(8, ID, proc=proc, root=root) is None
    assert cgroup.memory_bytes(None, ID, proc=proc, root=root) is None


def test_a_pull_is_told_as_one_ratio() -> None:
    """Layers that are fetched at once add up; one whose size is unknown does not count."""
    layers = Layers()
    half = {"current": 50, "total": 100}
    tenth = {"current": 30, "total": 300}
    assert [
        layers.told({"status": "Pulling from x", "id": "latest"}),
        layers.told({"status": "Downloading", "id": "a", "progressDetail": half}),
        layers.told({"status": "Downloading", "id": "b", "progressDetail": tenth}),
        layers.told({"status": "Download complete", "id": "a"}),
        layers.told({"status": "Status: done"}),
    ] == [
        ("latest: Pulling from x", None),
        ("a: Downloading", 0.5),
        ("b: Downloading", 0.2),
        ("a: Download complete", 130 / 400),
        ("Status: done", 130 / 400),
    ]


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


class FakeEngine:
    """Answers list and inspection, and counts the inspections."""

    def __init__(self) -> None:
        self.rows = [{"Id": ID, "State": "running", "Names": ["/gpuctl-chat-0"]}]
        self.inspections = 0
        self.gone = False

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return self.rows

    def inspect_container(self, container: str) -> dict[str, Any]:
        self.inspections += 1
        if self.gone:
            raise docker.errors.NotFound("gone")
        return inspected(Pid=0)


def test_a_running_container_is_inspected_again_after_a_minute() -> None:
    """Without events, a restart behind our back is seen a minute later at the latest."""
    engine: Any = FakeEngine()
    clock = SimpleNamespace(now=0.0)
    listing = Listing(("gpuctl.replica",), lambda: clock.now)
    inspections = []
    for clock.now in (0.0, 5.0, 59.0, 61.0, 66.0):
        listing.read(engine)
        inspections.append(engine.inspections)
    assert inspections == [1, 1, 1, 2, 2]


def test_what_has_ended_is_inspected_once() -> None:
    """An exited container does not change until an event says so."""
    engine: Any = FakeEngine()
    clock = SimpleNamespace(now=0.0)
    listing = Listing(("gpuctl.replica",), lambda: clock.now)
    listing.read(engine)
    engine.rows[0]["State"] = "exited"
    engine.inspect_container = lambda _: _counted(engine, Status="exited")
    for clock.now in (5.0, 100.0, 200.0):
        listing.read(engine)
    assert engine.inspections == 2
    listing.changed(ID)
    listing.read(engine)
    assert engine.inspections == 3


def _counted(engine: FakeEngine, **state: object) -> dict[str, Any]:
    engine.inspections += 1
    return inspected(Pid=0, **state)


def test_a_container_that_vanishes_between_list_and_inspection_is_left_out() -> None:
    """The race with a removal is not an error."""
    engine: Any = FakeEngine()
    engine.gone = True
    assert Listing(("gpuctl.replica",), lambda: 0.0).read(engine) == ()


def test_what_is_gone_is_forgotten() -> None:
    """An id that is listed no more is not kept as ours."""
    engine: Any = FakeEngine()
    listing = Listing(("gpuctl.replica",), lambda: 0.0)
    listing.read(engine)
    assert listing.knows(ID)
    engine.rows = []
    assert listing.read(engine) == ()
    assert not listing.knows(ID)


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
