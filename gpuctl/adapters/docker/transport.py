"""
The SDK's unix-socket transport, mended in two places. Imported only when a client is opened.

The SDK keeps a pool, and so an open socket, for each distinct URL, 25 at most: inspecting sixteen
containers is a new connection each. And it drops a socket that could not connect without closing
it. Both still so in docker 7.2.0 (`docker/transport/unixconn.py`); remove this when they are not.
"""

from __future__ import annotations

import socket
from typing import Any

from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(self.unix_socket)
        except OSError:
            connection.close()
            raise
        self.sock = connection


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> _Connection:  # type: ignore[override]
        return _Connection(self.base_url, self.socket_path, self._seconds)

    def __init__(self, base_url: str, socket_path: str, timeout_seconds: int) -> None:
        super().__init__(base_url, socket_path, timeout_seconds)
        self._seconds = timeout_seconds


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: bytes | str, proxies: object = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool: UnixHTTPConnectionPool | None = self.pools.get("")
            if pool is None:
                pool = self.pools[""] = _Pool("", self.socket_path, self.timeout)
        return pool


class Client(APIClient):
    """
    An APIClient that uses the mended transport from its first request on.

    *known* is the API version that was agreed on with this engine before, "" to ask for it.
    """

    def __init__(self, known: str, **arguments: Any) -> None:
        self._known = known
        super().__init__(version="auto", **arguments)

    def _retrieve_server_version(self) -> str:
        # Netrc and proxy look-ups cost more than the request, and a socket has neither.
        self.trust_env = False
        adapter = self.adapters.get("http+docker://")
        if isinstance(adapter, UnixHTTPAdapter):
            self.mount(
                "http+docker://", _Adapter(f"http+unix://{adapter.socket_path}", self.timeout)
            )
        if self._known:
            return self._known
        version: str = super()._retrieve_server_version()  # type: ignore[misc]
        return version
