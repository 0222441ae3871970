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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpuctl.errors import DaemonDown, GpuctlError

VERBS = ("run", "stop", "renew", "up", "down", "reload")
#: A request is a verb and a name: this is ample.
_LINE_BYTES = 64 * 1024
_SOCKET_MODE = 0o660
_TIMEOUT_SECONDS = 10.0

#: Handles one request (with `uid` and `pid` of who asked in it); returns the reply.
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlServer:
    """Listens on *path*; root, the daemon's own user and the socket's group may ask."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path, self._handler = path, handler
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(16)

    def begin(self) -> None:
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            reply = self._reply(connection)
            connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            return  # who asked has gone; what was committed stays

    def _reply(self, connection: socket.socket) -> Mapping[str, Any]:
        pid, uid, _ = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        line = connection.makefile("rb").readline(_LINE_BYTES)
        try:
            request = json.loads(line)
        except ValueError:
            return {"ok": False, "error": "not a line of JSON", "hint": ""}
        if not isinstance(request, dict) or request.get("verb") not in VERBS:
            return {"ok": False, "error": f"verb must be one of {', '.join(VERBS)}", "hint": ""}
        try:
            return self._handler({**request, "uid": uid, "pid": pid})
        except GpuctlError as error:
            return {"ok": False, "error": error.message, "hint": error.hint}


def ask(path: Path, verb: str, subject: str = "", **arguments: Any) -> Mapping[str, Any]:
    """
    Send one request to the daemon and return its reply (`ok`, `event`).

    Raises `DaemonDown` when nobody listens, `GpuctlError` when it refused.
    """
    request = {"verb": verb, "subject": subject, "arguments": arguments}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = connection.makefile("rb").readline(_LINE_BYTES)
    except PermissionError as error:
        raise GpuctlError(
            f"{path}: not allowed", "run as root, or as a member of the group gpuctl"
        ) from error
    except TimeoutError as error:
        raise GpuctlError(
            f"the daemon did not answer within {_TIMEOUT_SECONDS:.0f} s",
            "`gpuctl status` tells how old its last word is",
        ) from error
    except OSError as error:
        raise DaemonDown("no daemon is running", "`gpuctl up` starts one") from error
    reply: Mapping[str, Any] = json.loads(line or b'{"ok": false, "error": "it hung up"}')
    if not reply.get("ok"):
        raise GpuctlError(str(reply.get("error", "refused")), str(reply.get("hint", "")))
    return reply
