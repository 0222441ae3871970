"""
The daemon's Unix socket: one JSON line in, one JSON line out, and who asked is checked.

Requests are handed to the deciding thread, which commits them before they are acknowledged.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpuctl import paths
from gpuctl.errors import DaemonDown, GpuctlError

VERBS = (
    *("run", "stop", "renew", "up", "down", "reload"),
    *("cordon", "uncordon", "scale", "failover"),
)
#: A request is a verb and a name: this is ample.
_LINE_BYTES = 64 * 1024
_SOCKET_MODE = 0o660
#: A client has its line ready when it connects ...
_LINE_SECONDS = 2.0
#: ... and the daemon commits it within one turn.
_ANSWER_SECONDS = 10.0
#: Clients served at once: one that says nothing must not keep the others waiting.
_THREADS = 4
_BACKLOG = 128
#: Out of descriptors: until some are free again.
_PAUSE_SECONDS = 0.1
#: Without its end. Source: unix(7), sun_path.
_PATH_BYTES = 107

#: Handles one request (with `uid` and `pid` of who asked in it); returns the reply.
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlServer:
    """
    Listens on *path*; root, the daemon's own user and the socket's group may ask, but for those of
    *refused*, by their number: who reads the Status through that group need not command as well.
    """

    def __init__(self, path: Path, handler: Handler, refused: frozenset[int] = frozenset()) -> None:
        self._path, self._handler, self._refused = path, handler, refused
        self._closed = threading.Event()
        self._socket = _listening(path)

    def begin(self) -> None:
        for number in range(_THREADS):
            threading.Thread(target=self._accept, name=f"control-{number}", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._path.unlink(missing_ok=True)
        # A close alone would leave the threads in their accept, and the socket open with them.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                self._closed.wait(_PAUSE_SECONDS)
                continue
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            reply = self._reply(connection)
            connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            return  # who asked has gone; what was committed stays

    def _reply(self, connection: socket.socket) -> Mapping[str, Any]:
        pid, uid, _ = struct.unpack(
            "iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        line = _line(connection)
        if uid in self._refused:
            return {"ok": False, "error": "this user may look, and not command", "hint": ""}
        if len(line) > _LINE_BYTES:
            return {"ok": False, "error": "the line is too long", "hint": ""}
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "not a line of JSON", "hint": ""}
        if not isinstance(request, dict) or request.get("verb") not in VERBS:
            return {"ok": False, "error": f"verb must be one of {', '.join(VERBS)}", "hint": ""}
        try:
            return self._handler({**request, "uid": uid, "pid": pid})
        except GpuctlError as error:
            return {"ok": False, "error": error.message, "hint": error.hint}


def _listening(path: Path) -> socket.socket:
    _refuse_long(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise GpuctlError(
            f"{path}: cannot listen there: {error.strerror}",
            "is the directory there, and ours to write? GPUCTL_RUNTIME_DIR names another",
        ) from error
    finally:
        os.umask(before)
    return listener


def _refuse_long(path: Path) -> None:
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise GpuctlError(
            f"{path}: too long for the name of a socket, which has {_PATH_BYTES} bytes",
            "set GPUCTL_RUNTIME_DIR to a directory with a shorter path",
        )


def _line(connection: socket.socket) -> bytes:
    """Return one line, or more than `_LINE_BYTES` of one without end; one deadline over all."""
    deadline = time.monotonic() + _LINE_SECONDS
    received = bytearray()
    while b"\n" not in received and len(received) <= _LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(_LINE_BYTES)
        if not chunk:
            break
        received += chunk
    return bytes(received)


def ask(path: Path, verb: str, subject: str = "", **arguments: Any) -> Mapping[str, Any]:
    """
    Send one request to the daemon and return its reply (`ok`, `event`).

    Raises `DaemonDown` when nobody listens, `GpuctlError` when it refused.
    """
    _refuse_long(path)
    request = {"verb": verb, "subject": subject, "arguments": arguments}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = connection.makefile("rb").readline(_LINE_BYTES)
    except PermissionError as error:
        raise GpuctlError(f"{path}: not allowed", paths.denied(str(path))) from error
    except (TimeoutError, BlockingIOError) as error:  # the latter: too many wait already
        raise GpuctlError(
            f"the daemon did not answer within {_ANSWER_SECONDS:.0f} s",
            "`gpuctl status` tells how old its last word is",
        ) from error
    except OSError as error:
        raise DaemonDown("no daemon is running", "`gpuctl up` starts one") from error
    reply = _understood(line)
    if not reply.get("ok"):
        refusal = GpuctlError(str(reply.get("error", "refused")), str(reply.get("hint", "")))
        refusal.exit_code = int(reply.get("exit_code", refusal.exit_code))
        raise refusal
    return reply


def _understood(line: bytes) -> Mapping[str, Any]:
    try:
        reply = json.loads(line)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise GpuctlError(
            "the daemon hung up before it had answered",
            "`gpuctl status` tells whether it runs; what was asked may have happened",
        )
    return reply
