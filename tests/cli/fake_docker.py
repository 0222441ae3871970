"""As much of a Docker Engine as `up` and a starting daemon ask: on a Unix socket, in a thread."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

ID = "3XVR:FAKE:ENGINE"


class _Engine(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    running: tuple[str, ...] = ()
    profile = ""
    has_images = True


class _Handler(BaseHTTPRequestHandler):
    server: _Engine

    def do_GET(self) -> None:
        answers: dict[str, Any] = {
            "version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12"},
            "info": {"ID": ID},
            "json": [_row(replica) for replica in self.server.running],
            **{each: _inspected(each, self.server.profile) for each in self.server.running},
        }
        # /version, /v1.41/info, /v1.41/containers/json, /v1.41/containers/ID/json
        words = self.path.partition("?")[0].split("/")
        if "images" in words and not self.server.has_images:
            self.send_error(404)
            return
        known = next(word for word in (words[-2], words[-1]) if word in answers)
        body = json.dumps(answers[known]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a Unix socket"

    def log_message(self, format: str, *args: object) -> None:
        return


def _row(replica: str) -> dict[str, Any]:
    return {"Id": replica, "State": "running", "Names": [f"/gpuctl-{replica}"]}


def _inspected(replica: str, profile: str) -> dict[str, Any]:
    return {
        "Id": replica,
        "Name": f"/gpuctl-{replica}",
        "State": {"Status": "running"},
        "Config": {"Labels": {"gpuctl.replica": replica, "gpuctl.profile": profile}},
    }


@contextmanager
def answering(
    path: Path, *running: str, profile: str = "rig", has_images: bool = True
) -> Iterator[None]:
    """An engine where one container of each of these replicas runs, of this profile."""
    path.unlink(missing_ok=True)
    with _Engine(str(path), _Handler) as server:
        server.running, server.profile, server.has_images = running, profile, has_images
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            path.unlink()


@contextmanager
def hung(path: Path) -> Iterator[Callable[[], bool]]:
    """An engine that never says a word; gives a test of whether anybody has connected."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        yield lambda: bool(select.select([listener], [], [], 0)[0])
