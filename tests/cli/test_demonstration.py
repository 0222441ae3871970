"""The demo's own parts; that it works is shown by running it."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from gpuctl import paths
from gpuctl.cli import demonstration
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError
from gpuctl.model.status import Status


def test_the_demo_keeps_to_its_own_place(tmp_path: Path) -> None:
    """Whatever the environment says, the demo touches no other supervisor's files."""
    session = Session(
        environment={"STATE_DIRECTORY": "/var/lib/gpuctl", "GPUCTL_STATE_DIR": "/s", "HOME": "/h"},
        simulate="p106x8",
    )

    own = demonstration._own(session, tmp_path)

    assert own.simulate == ""
    assert {own.own.config, own.own.state, own.own.runtime} == {
        str(tmp_path),
        str(tmp_path / "run"),
    }


def test_its_profile_is_valid(place: Path) -> None:
    """Two replicas on the CPU, as processes, of the model given."""
    profile = demonstration._profile(Session(environment={}), Path("/m.gguf"))

    (workload,) = profile.workloads
    assert (profile.host.runtime, workload.replicas, workload.model) == ("process", 2, "/m.gguf")


def test_a_port_in_use_is_passed_over() -> None:
    """The demo takes two neighbouring ports that nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()

        assert not demonstration._free(holder.getsockname()[1])
    assert demonstration._free_port() % 2 == 1


def test_a_second_demo_finds_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a demo that cleaned up leaves behind, its lock and its journal, is simply removed."""
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / ".lock").touch()
    (tmp_path / "state.db").touch()

    demonstration._begin_anew(demonstration._own(Session(environment={}), tmp_path), tmp_path)

    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_left_running_can_be_reached(tmp_path: Path) -> None:
    """Where the shell does not find the program, it is told where that is, first of all."""
    own = paths.Directories("/a demo", "/a demo", "/a demo/run")
    (tmp_path / "gpuctl").touch(mode=0o755)

    found = list(demonstration.afterwards(own, str(tmp_path)))
    lost = list(demonstration.afterwards(own, "/nowhere"))

    assert found[0] == (
        "export 'GPUCTL_CONFIG_DIR=/a demo' 'GPUCTL_STATE_DIR=/a demo'"
        " 'GPUCTL_RUNTIME_DIR=/a demo/run'"
    )
    assert found[-1] == "gpuctl down"
    assert lost == [f"export PATH={Path(sys.executable).parent}:$PATH", *found]


@contextmanager
def answering(document: object) -> Iterator[Status]:
    """A replica chat-0 that answers every question so."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            replica = {"name": "chat-0", "port": server.server_address[1]}
            yield cast(Status, {"replicas": [replica]})
        finally:
            server.shutdown()
            thread.join()


def said(content: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}}]}


def test_the_answer_is_told_in_one_line() -> None:
    """A model may write more than one."""
    with answering(said(" The capital\n is Paris. ")) as status:
        assert demonstration._ask(status, "chat-0") == "The capital is Paris."


@pytest.mark.parametrize("content", ["", " \n", None])
def test_an_answer_without_a_word_fails_the_demo(content: object) -> None:
    """A demo that shows nothing must not look as if it had worked."""
    with answering(said(content)) as status, pytest.raises(GpuctlError, match="without a word"):
        demonstration._ask(status, "chat-0")


@pytest.mark.parametrize("document", [{}, {"choices": []}, [], {"choices": None}])
def test_what_is_no_answer_fails_the_demo(document: object) -> None:
    """Whatever listens there: words, not a traceback."""
    with answering(document) as status, pytest.raises(GpuctlError, match="chat-0 did not answer"):
        demonstration._ask(status, "chat-0")
