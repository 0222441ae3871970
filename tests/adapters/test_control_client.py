"""Asking a daemon over its socket: one that is away, silent, dying or not ours to ask."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuctl.adapters import control
from gpuctl.adapters.control import ControlServer, ask
from gpuctl.errors import DaemonDown, GpuctlError
from tests.adapters.control_bench import Request, asked, path, serving

__all__ = ["asked", "path"]


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
    assert refused.value.hint == "use sudo: it belongs to root:root"
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
    with serving(path, lambda _: {"ok": True}):
        assert ask(path, "up") == {"ok": True}


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
