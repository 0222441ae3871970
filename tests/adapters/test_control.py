"""The daemon's socket, asked by real clients, well-behaved and otherwise."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuctl.adapters import control
from gpuctl.adapters.control import VERBS, ControlServer, ask
from gpuctl.errors import DaemonDown, GpuctlError, NotFound

Request = Mapping[str, Any]


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path: a socket's name has room for 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="gpuctl-test-") as made:
        yield Path(made) / "control.sock"


@contextmanager
def _serving(path: Path, handler: Callable[[Request], Request]) -> Iterator[ControlServer]:
    server = ControlServer(path, handler)
    server.begin()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def asked(path: Path) -> Iterator[list[Request]]:
    """What reached the daemon, which agrees to everything."""
    requests: list[Request] = []

    def handler(request: Request) -> Request:
        requests.append(request)
        return {"ok": True, "event": len(requests)}

    with _serving(path, handler):
        yield requests


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(20)
    client.connect(str(path))
    return client


def _said(path: Path, data: bytes) -> Request:
    """Send these bytes and return the reply."""
    with _connected(path) as client, client.makefile("rb") as replies:
        client.sendall(data)
        found: Request = json.loads(replies.readline())
        return found


def test_a_request_reaches_the_daemon_with_who_asked(path: Path, asked: list[Request]) -> None:
    """The kernel's word for who asked is added, and the reply comes back."""
    assert ask(path, "stop", "chat-0", force=True) == {"ok": True, "event": 1}
    assert asked == [
        {
            "verb": "stop",
            "subject": "chat-0",
            "arguments": {"force": True},
            "uid": os.geteuid(),
            "pid": os.getpid(),
        }
    ]


def test_nobody_can_ask_in_another_s_name(path: Path, asked: list[Request]) -> None:
    """A uid or pid within the request is overwritten by the kernel's."""
    _said(path, b'{"verb": "down", "uid": 12345, "pid": 1}\n')
    assert [(request["uid"], request["pid"]) for request in asked] == [(os.geteuid(), os.getpid())]


def test_another_process_is_known_by_its_own_pid(path: Path, asked: list[Request]) -> None:
    """The credentials are the client's, not the daemon's."""
    program = (
        "import sys; from pathlib import Path; from gpuctl.adapters.control import ask;"
        "ask(Path(sys.argv[1]), 'up')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as client:
        assert client.wait(timeout=20) == 0
    assert [request["pid"] for request in asked] == [client.pid]


def test_every_verb_is_passed_on(path: Path, asked: list[Request]) -> None:
    """Those of the contract, in the order they were asked."""
    for verb in VERBS:
        ask(path, verb)
    assert tuple(request["verb"] for request in asked) == VERBS


NOT_JSON = {"ok": False, "error": "not a line of JSON", "hint": ""}
NO_VERB = {"ok": False, "error": f"verb must be one of {', '.join(VERBS)}", "hint": ""}


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        pytest.param(b"stop chat-0\n", NOT_JSON, id="words"),
        pytest.param(b"\n", NOT_JSON, id="an empty line"),
        pytest.param(b'{"verb": "stop"', NOT_JSON, id="cut off"),
        pytest.param(b'{"verb": "\xff"}\n', NOT_JSON, id="not UTF-8"),
        pytest.param(b"[" * 60_000 + b"\n", NOT_JSON, id="nested without end"),
        pytest.param(b'"stop"\n', NO_VERB, id="not an object"),
        pytest.param(b'{"subject": "chat-0"}\n', NO_VERB, id="no verb"),
        pytest.param(b'{"verb": "reboot"}\n', NO_VERB, id="unknown verb"),
        pytest.param(b'{"verb": ["stop"]}\n', NO_VERB, id="a verb that is a list"),
    ],
)
def test_nonsense_gets_words_and_never_reaches_the_daemon(
    path: Path, asked: list[Request], data: bytes, reply: Request
) -> None:
    """Whoever sends it is told what is wrong, and the next one is served."""
    with _connected(path) as client, client.makefile("rb") as replies:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert json.loads(replies.readline()) == reply
    assert asked == []
    assert ask(path, "up")["ok"]


def test_a_line_without_end_is_refused(path: Path, asked: list[Request]) -> None:
    """No more than 64 KiB of a line are kept, however much of it comes."""
    line = b'{"verb": "stop", "subject": "' + b"x" * 64 * 1024
    assert _said(path, line) == {"ok": False, "error": "the line is too long", "hint": ""}
    assert asked == []


def test_a_refusal_comes_back_with_its_hint(path: Path) -> None:
    """What the daemon raises is raised again where it was asked."""

    def refuse(_: Request) -> Request:
        raise NotFound("'chat-9' is no replica", "`gpuctl status` lists them")

    with _serving(path, refuse):
        with pytest.raises(GpuctlError, match="'chat-9' is no replica") as refused:
            ask(path, "stop", "chat-9")
        assert refused.value.hint == "`gpuctl status` lists them"


def test_clients_that_hang_hold_up_nobody(path: Path, asked: list[Request]) -> None:
    """Three that connect and say nothing, or half a line, do not delay the fourth."""
    with ExitStack() as hung:
        for data in (b"", b'{"verb"', b"{"):
            hung.enter_context(_connected(path)).sendall(data)
        client = hung.enter_context(_connected(path))
        client.settimeout(1)
        client.sendall(b'{"verb": "up"}\n')
        assert json.loads(client.recv(1000)) == {"ok": True, "event": 1}


def test_a_slow_answer_holds_up_no_other(path: Path) -> None:
    """A daemon in the middle of one request takes in the next."""
    first_came, go_on = threading.Event(), threading.Event()

    def handler(request: Request) -> Request:
        if request["subject"] == "slow":
            first_came.set()
            assert go_on.wait(20)
        return {"ok": True, "event": request["subject"]}

    with _serving(path, handler), _connected(path) as slow, slow.makefile("rb") as replies:
        slow.sendall(b'{"verb": "up", "subject": "slow"}\n')
        assert first_came.wait(20)
        assert ask(path, "up", "quick")["event"] == "quick"
        go_on.set()
        assert json.loads(replies.readline())["event"] == "slow"


def test_a_client_that_drips_is_hung_up_on(
    path: Path, asked: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is over the whole line, so that a byte now and then does not extend it."""
    looks, seconds = threading.Semaphore(0), itertools.count(step=500.0)

    def monotonic() -> float:
        looks.release()
        return next(seconds)

    monkeypatch.setattr(control, "_LINE_SECONDS", 2000.0)
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=monotonic))
    # The last byte may come too late to be read, or even to be sent.
    with _connected(path) as client, suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(b'{"verb": "up", "subject": "')
        # A byte for each look at the clock: when the line begins, and before it is read on.
        for _ in range(4):
            assert looks.acquire(timeout=20)
            client.sendall(b"x")
        assert client.recv(1) == b""
    assert (next(seconds), asked) == (2500.0, [])


def test_more_clients_than_are_served_at_once_wait_their_turn(
    path: Path, asked: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd that hangs costs a bounded number of threads, and who is honest is served after."""
    monkeypatch.setattr(control, "_LINE_SECONDS", 0.2)
    before = threading.active_count()
    with ExitStack() as crowd:
        for _ in range(12):
            crowd.enter_context(_connected(path))
        assert ask(path, "up") == {"ok": True, "event": 1}
        assert threading.active_count() <= before


def test_a_client_that_leaves_before_the_answer_does_no_harm(path: Path) -> None:
    """What it asked for has been done, and the next is served."""
    done = threading.Semaphore(0)
    left = threading.Event()

    def handler(request: Request) -> Request:
        if request["subject"] == "leaves":
            assert left.wait(20)
        done.release()
        return {"ok": True}

    with _serving(path, handler):
        with _connected(path) as client:
            client.sendall(b'{"verb": "up", "subject": "leaves"}\n')
        left.set()
        assert done.acquire(timeout=20)
        assert ask(path, "up")["ok"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_socket_is_for_owner_and_group(path: Path, umask: int) -> None:
    """Mode 0660 whatever the umask, which is afterwards as it was."""
    before = os.umask(umask)
    try:
        server = ControlServer(path, lambda _: {"ok": True})
    finally:
        after = os.umask(before)
    assert (stat.S_IMODE(path.stat().st_mode), after) == (0o660, umask)
    server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_is_not_in_the_group_is_told_so(path: Path, asked: list[Request]) -> None:
    """The kernel refuses, and the words say what to do."""
    path.parent.chmod(0o755)
    path.chmod(0o600)  # who runs this test keeps root's group
    os.seteuid(65534)
    try:
        with pytest.raises(GpuctlError, match="not allowed") as refused:
            ask(path, "up")
    finally:
        os.seteuid(0)
    assert refused.value.hint == "run as root, or as a member of the group gpuctl"
    assert not isinstance(refused.value, DaemonDown)


def test_nobody_listens_where_there_is_no_socket(path: Path) -> None:
    """No file, or no directory: no daemon was here."""
    with pytest.raises(DaemonDown, match="no daemon is running"):
        ask(path, "up")
    with pytest.raises(DaemonDown, match="no daemon is running"):
        ask(path.parent / "gone" / "control.sock", "up")


def test_nobody_listens_on_a_socket_that_was_left_behind(path: Path) -> None:
    """What a SIGKILL leaves does not look like a daemon, nor hinder the next one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonDown):
        ask(path, "up")
    with _serving(path, lambda _: {"ok": True}):
        assert ask(path, "up") == {"ok": True}


def test_a_closed_server_is_gone_at_once(path: Path) -> None:
    """Neither its file nor its thread stays, and nobody waits for an answer."""
    before = threading.active_count()
    with _serving(path, lambda _: {"ok": True}):
        assert ask(path, "up") == {"ok": True}
    assert not path.exists()
    for thread in threading.enumerate():
        if thread.name.startswith("control"):
            thread.join(timeout=5)
    assert threading.active_count() <= before
    with pytest.raises(DaemonDown):
        ask(path, "up")


@contextmanager
def _answering(path: Path, reply: bytes | None) -> Iterator[None]:
    """A daemon that says exactly these bytes to one client; `None`: nothing, and hangs on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                if reply is None:
                    connection.recv(1)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


@pytest.mark.parametrize("reply", [b"", b'{"ok": tr', b"[]\n", b"no JSON\n"])
def test_a_daemon_that_ends_while_it_answers_is_said_in_words(path: Path, reply: bytes) -> None:
    """Half an answer is no answer, and no traceback."""
    with _answering(path, reply), pytest.raises(GpuctlError, match="hung up") as told:
        ask(path, "up")
    assert "gpuctl status" in told.value.hint


def test_a_daemon_that_does_not_answer_is_said_in_words(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs, so this is not DaemonDown: what was asked may have happened."""
    monkeypatch.setattr(control, "_ANSWER_SECONDS", 0.2)
    with _answering(path, None), pytest.raises(GpuctlError, match="did not answer") as told:
        ask(path, "up")
    assert not isinstance(told.value, DaemonDown)


def test_a_path_too_long_for_a_socket_is_said_in_words(tmp_path: Path) -> None:
    """A name has room for 107 bytes: the hint says which directory to change."""
    path = tmp_path / ("x" * 120) / "control.sock"
    path.parent.mkdir()
    for attempt in (lambda: ControlServer(path, lambda _: {}), lambda: ask(path, "up")):
        with pytest.raises(GpuctlError, match="too long") as told:
            attempt()
        assert "GPUCTL_RUNTIME_DIR" in told.value.hint


def test_a_directory_that_is_not_there_is_said_in_words(path: Path) -> None:
    """A daemon that cannot listen ends with a message and a hint, not with a traceback."""
    with pytest.raises(GpuctlError, match="cannot listen there: No such file") as told:
        ControlServer(path.parent / "gone" / "control.sock", lambda _: {})
    assert "GPUCTL_RUNTIME_DIR" in told.value.hint
