"""The daemon's socket, asked by real clients, well-behaved and otherwise."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuctl.adapters import control
from gpuctl.adapters.control import VERBS, ControlServer, ask
from gpuctl.errors import DaemonDown, GpuctlError, NotFound
from tests.adapters.control_bench import Request, asked, path, serving

__all__ = ["asked", "path"]


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


def test_a_user_that_may_only_look_is_refused(path: Path) -> None:
    """The gateway is of the group that may read the Status, and has no business here."""

    def handler(_: Request) -> Request:
        raise AssertionError("it reached the daemon")

    server = ControlServer(path, handler, frozenset({os.geteuid()}))
    server.begin()
    with pytest.raises(GpuctlError, match="this user may look, and not command"):
        ask(path, "down")
    server.close()


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

    with serving(path, refuse):
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

    with serving(path, handler), _connected(path) as slow, slow.makefile("rb") as replies:
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

    with serving(path, handler):
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


def test_a_closed_server_is_gone_at_once(path: Path) -> None:
    """Neither its file nor its thread stays, and nobody waits for an answer."""
    before = threading.active_count()
    with serving(path, lambda _: {"ok": True}):
        assert ask(path, "up") == {"ok": True}
    assert not path.exists()
    for thread in threading.enumerate():
        if thread.name.startswith("control"):
            thread.join(timeout=5)
    assert threading.active_count() <= before
    with pytest.raises(DaemonDown):
        ask(path, "up")


def test_a_directory_that_is_not_there_is_said_in_words(path: Path) -> None:
    """A daemon that cannot listen ends with a message and a hint, not with a traceback."""
    with pytest.raises(GpuctlError, match="cannot listen there: No such file") as told:
        ControlServer(path.parent / "gone" / "control.sock", lambda _: {})
    assert "GPUCTL_RUNTIME_DIR" in told.value.hint
