"""
A hub on loopback: repositories of small files behind the API that huggingface-hub asks, and a
second host that a resolve redirects to, as the real one's does.

What goes wrong is put into `faults`, by path: each is used up once, in its order.
Source: https://huggingface.co/docs/hub/api; the headers as huggingface_hub.constants names them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40
#: Larger files lie apart from the repository, known by their SHA-256.
_LARGE_BYTES = 1000

_INFO = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>[^/?]+)")
_BARE_INFO = re.compile(r"/api/models/(?P<repository>[^/]+/[^/?]+)")
_TREE = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/tree/(?P<revision>[^/?]+)")
_RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Fault:
    """What one request gets instead of a plain answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes, then the connection ends
    instead: bytes | None = None  # other bytes of the same length


@dataclass
class Asked:
    host: str  # hub or store
    path: str
    headers: Mapping[str, str]


@dataclass
class FakeHub:
    """What there is, what goes wrong, and what was asked for."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    token: str = "hf_right"
    ranges: bool = True  # whether the store sends parts
    endpoint: str = ""
    store: str = ""

    def fault(self, path: str) -> Fault | None:
        waiting = self.faults.get(path)
        return waiting.pop(0) if waiting else None

    def downloads(self, path: str) -> list[Mapping[str, str]]:
        """Return the headers of each request that the store got for a file."""
        store = (asked for asked in self.asked if asked.host == "store")
        return [asked.headers for asked in store if asked.path.partition("?")[0].endswith(path)]


@contextmanager
def running() -> Iterator[FakeHub]:
    """Serve a hub and its store until the block ends."""
    hub = FakeHub()
    servers = [_server(hub, _Api), _server(hub, _Store)]
    hub.endpoint, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *request: Any) -> None:
        """Let a client go that has had enough; print whatever else goes wrong."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*request)


def _server(hub: FakeHub, handler: type[_Handler]) -> ThreadingHTTPServer:
    return _Server(("127.0.0.1", 0), type("Bound", (handler,), {"hub": hub}))


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    host = ""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(Asked(host=self.host, path=self.path, headers=headers))

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)


class _Api(_Handler):
    host = "hub"

    def do_GET(self) -> None:
        self.note()
        for pattern, serve in (
            (_TREE, self._tree), (_INFO, self._info), (_RESOLVE, self._resolve),
            (_BARE_INFO, self._info),
        ):  # fmt: skip
            if match := pattern.fullmatch(self.path.partition("?")[0]):
                serve(match)
                return
        self.answer(404, {})

    def _allowed(self, repository: str, revision: str) -> bool:
        """Answer for one that may not be had, or is not there."""
        if fault := self.hub.fault(f"api/{repository}"):
            self.answer(fault.status, fault.headers)
        elif repository not in self.hub.repositories:
            known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
            self.answer(404 if known else 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def _info(self, match: re.Match[str]) -> None:
        repository = match["repository"]
        revision = match.groupdict().get("revision") or "main"
        if self._allowed(repository, revision):
            self._json({"id": repository, "sha": COMMIT, "siblings": [], "tags": []})

    def _tree(self, match: re.Match[str]) -> None:
        if not self._allowed(match["repository"], match["revision"]):
            return
        files = self.hub.repositories[match["repository"]]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        self._json(
            [
                *({"type": "directory", "oid": "2" * 40, "size": 0, "path": f} for f in folders),
                *(entry(path, content) for path, content in files.items()),
            ]
        )

    def _resolve(self, match: re.Match[str]) -> None:
        if not self._allowed(match["repository"], match["revision"]):
            return
        if match["repository"] in self.hub.gated:
            denied = self.headers.get("Authorization") != f"Bearer {self.hub.token}"
            if denied:
                self.answer(403, {"X-Error-Code": "GatedRepo"})
                return
        where = f"{self.hub.store}/{match['repository']}/{match['path']}?signature=secret"
        self.answer(302, {"Location": where})

    def _json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.answer(200, {"Content-Type": "application/json"}, body)


class _Store(_Handler):
    """Serves contents with ETag, Range and If-Range."""

    host = "store"

    def do_GET(self) -> None:
        self.note()
        organization, name, path = self.path.partition("?")[0][1:].split("/", 2)
        content = self.hub.repositories[f"{organization}/{name}"].get(path)
        fault = self.hub.fault(path) or Fault()
        if content is None or fault.status >= 300:
            self.answer(fault.status if content is not None else 404, fault.headers)
            return
        content = content if fault.instead is None else fault.instead
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        begin = self._begin(etag)
        if begin > len(content) or (begin and begin == len(content)):
            self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        part = content[begin:]
        headers = {"ETag": etag, "Content-Length": str(len(part))}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        headers |= fault.headers
        self.answer(206 if begin else 200, headers, part[: fault.cut_after])
        if fault.cut_after is not None:
            self.close_connection = True

    def _begin(self, etag: str) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        other = self.headers.get("If-Range", etag) != etag
        return int(asked[1]) if asked and self.hub.ranges and not other else 0


def entry(path: str, content: bytes) -> dict[str, Any]:
    """Return what the hub's tree tells of a file."""
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
    if len(content) > _LARGE_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return {**found, "oid": "3" * 40}
    return {**found, "oid": blob_id(content)}


def blob_id(content: bytes) -> str:
    """Return what git calls a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
