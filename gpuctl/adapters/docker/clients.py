"""
Connections to the Docker Engine: one client per thread, each with one connection.

`requests.Session` is not safe to share between threads (docker-py#619, docker-py#3229).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import APIClient


class Clients:
    """Opens clients on `DOCKER_HOST`, or on `/var/run/docker.sock`; never on the CLI's context."""

    def __init__(self, environment: Mapping[str, str], timeout_seconds: int) -> None:
        # Imported when a runtime is made: `status` must not pay for the SDK.
        from docker.utils import kwargs_from_env

        names = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        known = {name: environment[name] for name in names if name in environment}
        # An empty mapping would make the SDK read the process's own environment.
        self._arguments = kwargs_from_env(known) if known else {}
        self._timeout_seconds = timeout_seconds
        self._own = threading.local()
        self._open: weakref.WeakSet[APIClient] = weakref.WeakSet()
        self._version = ""  # agreed on with the engine; "" when it must be asked

    @contextmanager
    def use(
        self, timeout_seconds: int | None = None, *, fresh: bool = False
    ) -> Iterator[APIClient]:
        """
        Lend this thread's client, with a deadline for each answer where the usual is wrong.

        *fresh* has it connect anew, which an engine that is shutting down refuses.
        """
        client: APIClient | None = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self.open()
        elif fresh:
            client.close()
        client.timeout = timeout_seconds or self._timeout_seconds
        yield client

    def forget(self) -> None:
        """Close this thread's client; the next use opens another, and asks for the version."""
        self._version = ""
        client: APIClient | None = self._own.__dict__.pop("client", None)
        if client is not None:
            client.close()

    def open(self) -> APIClient:
        """Return a new client; the first one agrees on an API version with the engine."""
        from gpuctl.adapters.docker.transport import Client

        client = Client(self._version, timeout=self._timeout_seconds, **self._arguments)
        self._version = str(client.api_version)
        self._open.add(client)
        return client

    def close(self) -> None:
        """Close the idle connections of every thread's client."""
        for client in tuple(self._open):
            client.close()
        self._own = threading.local()
