"""A container is asked with a shell whether it may open its GPUs; no engine needed."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from gpuctl.adapters.docker import DockerRuntime
from gpuctl.errors import RuntimeTimeout, RuntimeUnavailable

CONTAINER = "4f" * 32


@dataclass
class Process:
    """What was started in the container."""

    command: list[str]
    running: bool = False
    exit_code: int | None = None
    looks: int | None = None  # while it still runs; None: it never ends


@dataclass
class Story:
    """A container of gpuctl's, and what becomes of a shell that is started in it."""

    exit_code: int | None = None
    looks: int | None = 0
    refusal: int = 0  # the HTTP status of an engine that cannot start it
    processes: dict[str, Process] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # listed, and gone when looked at

    def begin(self, name: str) -> None:
        begun = self.processes[name]
        begun.running, begun.looks = not self.refusal, self.looks
        if self.refusal:
            begun.exit_code = self.exit_code

    def look(self, name: str) -> dict[str, Any]:
        seen = self.processes[name]
        if seen.running and seen.looks is not None:
            seen.looks -= 1
            if seen.looks < 0:
                seen.running, seen.exit_code = False, self.exit_code
        program, *arguments = seen.command
        process = {"entrypoint": program, "arguments": arguments}
        return {"Running": seen.running, "ExitCode": seen.exit_code, "ProcessConfig": process}


class _Engine(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, story: Story) -> None:
        self.story, self.over = story, threading.Event()
        super().__init__(str(path), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Engine

    def do_GET(self) -> None:
        story, words = self.server.story, self.path.split("/")
        match words[-3:]:
            case [*_, "version"]:
                self._answer({"ApiVersion": "1.41", "MinAPIVersion": "1.12"})
            case ["exec", name, "json"] if name not in story.lost:
                self._answer(story.look(name))
            case ["containers", name, "json"]:
                config = {"Labels": {"gpuctl.replica": "chat-0"}}
                execs = [*story.lost, *story.processes] or None
                self._answer({"Id": name, "Config": config, "ExecIDs": execs})
            case _:
                self._answer({"message": "no such exec instance"}, 404)

    def do_POST(self) -> None:
        story = self.server.story
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.path.split("/")[-3:]:
            case ["containers", _, "exec"]:
                name = f"e{len(story.processes)}"
                story.processes[name] = Process(asked["Cmd"])
                self._answer({"Id": name}, 201)
            case ["exec", _, "start"] if not asked["Detach"]:
                # What it says comes behind this, without end: a frozen process says nothing.
                self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
                self.server.over.wait()
            case ["exec", name, "start"]:
                story.begin(name)
                refused = {"message": "OCI runtime exec failed: /bin/sh: no such file"}
                self._answer(refused, story.refusal or 200)

    def _answer(self, told: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, format: str, *args: object) -> None:
        return


class Asked:
    """A runtime on such an engine, whose waits are counted and take no time."""

    def __init__(self, path: Path, story: Story) -> None:
        self.story, self.waits = story, list[float]()
        self._environment = {"DOCKER_HOST": f"unix://{path}"}

    def answer(self) -> bool | None:
        """Ask once, as a gpuctl that has just begun does."""
        runtime = DockerRuntime(environment=self._environment, pause=self.waits.append)
        try:
            return runtime.may_open_gpus(CONTAINER)
        finally:
            runtime.close()


@contextmanager
def engine(story: Story) -> Iterator[Asked]:
    # A socket's name has room for 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="gpuctl-opening-") as folder:
        path = Path(folder) / "docker.sock"
        with _Engine(path, story) as server:
            arguments = {"poll_interval": 0.01}
            thread = threading.Thread(target=server.serve_forever, kwargs=arguments)
            thread.start()
            try:
                yield Asked(path, story)
            finally:
                server.over.set()
                server.shutdown()
                thread.join()


@pytest.mark.timeout(10)
def test_a_shell_that_does_not_end_is_given_up() -> None:
    """A frozen container, or an open that hangs, holds the thread for two seconds, not for ever."""
    with engine(Story(looks=None)) as asked:
        with pytest.raises(RuntimeTimeout, match=f"{CONTAINER[:12]}.* does not end"):
            asked.answer()
        assert sum(asked.waits) == pytest.approx(2.0)


def test_a_container_whose_shell_has_not_ended_is_not_asked_again() -> None:
    """One stuck process is left in it, whatever becomes of gpuctl; it is asked when that ends."""
    with engine(Story(looks=None)) as asked:
        for _ in range(3):
            with pytest.raises(RuntimeTimeout, match="does not end"):
                asked.answer()
        assert list(asked.story.processes) == ["e0"]
        asked.story.processes["e0"].looks = asked.story.looks = asked.story.exit_code = 0
        assert asked.answer() is True
        assert list(asked.story.processes) == ["e0", "e1"]


def test_other_processes_in_the_container_do_not_matter() -> None:
    """A health check may run in it, and what has just ended may be forgotten by the engine."""
    others = {"check": Process(["/bin/sh", "-c", "sleep 600"], running=True)}
    others["bare"] = Process(["sleep"], running=True)
    with engine(Story(exit_code=0, processes=others, lost={"gone"})) as asked:
        assert asked.answer() is True
        assert list(asked.story.processes) == ["check", "bare", "e2"]


@pytest.mark.parametrize(
    ("code", "may"),
    [
        pytest.param(0, True, id="opened"),
        pytest.param(4, False, id="its-device-rules-deny-it"),
        pytest.param(3, None, id="not-there"),
        pytest.param(2, None, id="a-shell-that-failed"),
        pytest.param(126, None, id="a-shell-that-may-not-run"),
        pytest.param(127, None, id="no-shell"),
        pytest.param(137, None, id="killed-with-the-container"),
        pytest.param(None, None, id="not-told"),
    ],
)
def test_the_shell_s_exit_code_is_the_answer(code: int | None, may: bool | None) -> None:
    """Nothing but the code for it is taken for a denial: a denied replica is renewed."""
    with engine(Story(exit_code=code, looks=2)) as asked:
        assert asked.answer() is may
        assert len(asked.waits) == 3


@pytest.mark.parametrize("code", [126, 127])
def test_a_shell_that_the_engine_cannot_start_does_not_tell(code: int) -> None:
    """The engine refuses the start then, and keeps the code of what it met."""
    with engine(Story(exit_code=code, refusal=400)) as asked:
        assert asked.answer() is None


def test_an_engine_that_fails_is_no_answer() -> None:
    """A start that failed for another reason leaves no such code."""
    with engine(Story(refusal=500)) as asked, pytest.raises(RuntimeUnavailable, match="OCI"):
        asked.answer()
