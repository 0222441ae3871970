"""
The operator's endpoints: health, readiness, metrics, status, runtime and the OpenAPI document.

A Starlette app on uvicorn, in the gateway's own loop, on a private Unix socket. The data path is
its only client: it checks who asks, and marks an admin's requests. Both libraries are imported when
`serve` is called, in a thread, as the data path must be listening first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from gpuctl import __version__
from gpuctl.gateway import openai_errors, openapi, overview
from gpuctl.gateway.families import CONTENT_TYPE
from gpuctl.gateway.gauges import LEVELS
from gpuctl.gateway.overview import Inside as Inside

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from gpuctl.gateway.log import Lines

#: Set by the data path alone, for an admin's request, or where nobody needs a key.
ADMIN_HEADER = "x-gpuctl-admin"

#: Longer than the data path keeps a connection idle, so that it never writes into a closing one.
_KEEP_ALIVE_SECONDS = 60
#: Its answers take milliseconds.
_STOP_SECONDS = 1
#: uvicorn ends 0.1 s after that. A release of it in which `main_loop` is called otherwise never
#: does, and systemd kills 40 s after it has asked, of which requests may have taken 30.
_END_SECONDS = 3.0
_LIBRARIES = ("httptools", "msgspec", "starlette", "uvicorn", "uvloop")


class Operator:
    """The endpoints while they are served."""

    def __init__(
        self, over: asyncio.Event, task: asyncio.Task[None], path: str, lines: Lines
    ) -> None:
        self._over, self._task, self._path, self._lines = over, task, path, lines

    async def stop(self) -> None:
        """Answer what was asked, and close, or tell why not; a second time does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        # Not `wait_for`: that waits for what it has cancelled, however long it takes.
        done, _ = await asyncio.wait({self._task}, timeout=_END_SECONDS)
        error = self._task.exception() if done else None
        if error is not None:
            self._failed(f"{type(error).__name__}: {error}")
        elif not done:
            self._failed("uvicorn does not end")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _failed(self, why: str) -> None:
        self._lines.event("operator_failed", path=self._path, why=why)


async def serve(inside: Inside, path: str) -> Operator:
    """
    Serve on a Unix socket at *path*, which only this user may open; return when it listens.

    Raises:
        OSError: the socket cannot be made.
    """
    loop = asyncio.get_running_loop()
    server = await loop.run_in_executor(None, _server, inside)
    listener, over = _listener(path), asyncio.Event()
    # uvicorn's own looks ten times a second whether it is to end.
    server.main_loop = over.wait  # type: ignore[method-assign, assignment]
    task = loop.create_task(server.serve(sockets=[listener]), name="operator")
    while not server.started and not task.done():
        await asyncio.sleep(0)
    if task.done():
        task.result()
    return Operator(over, task, path, inside.lines)


def app(inside: Inside) -> Starlette:
    """Return the application, not served yet."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    look = _Look(inside)
    paths = {
        "/health": look.health,
        "/ready": look.ready,
        "/readyz": look.ready,
        "/metrics": look.metrics,
        "/admin/status": look.status,
        "/debug/runtime": look.runtime,
        "/openapi.json": look.openapi,
    }
    made = Starlette(
        routes=[Route(path, answer) for path, answer in paths.items()],
        exception_handlers={HTTPException: _refused, 500: look.broke},
    )
    made.router.redirect_slashes = False
    return made


class _Look:
    """One method for each endpoint."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    async def health(self, request: Request) -> Response:
        return _json(overview.health(self._inside, admin=_admin(request)))

    async def ready(self, request: Request) -> Response:
        asked = request.query_params.getlist("level") or ["one"]
        if len(asked) > 1 or asked[0] not in LEVELS:
            known = ", ".join(LEVELS)
            return _error("invalid_request_error", f"level is one of {known}.", "level")
        found = overview.readiness(self._inside, asked[0])
        return _json(found, 200 if found["ready"] else 503)

    async def metrics(self, request: Request) -> Response:
        now = overview.gauges(self._inside, resident_bytes=_resident_bytes(), open_fds=_open_fds())
        return _response(self._inside.metrics.text(now), 200, CONTENT_TYPE)

    async def status(self, request: Request) -> Response:
        return _json(overview.status(self._inside)) if _admin(request) else _forbidden()

    async def runtime(self, request: Request) -> Response:
        return _json(_runtime(self._inside)) if _admin(request) else _forbidden()

    async def openapi(self, request: Request) -> Response:
        inside = self._inside
        return _json(
            openapi.document(
                version=__version__,
                keys=not inside.keyring.empty,
                metrics_key=inside.settings.metrics_key,
                pass_through=inside.settings.pass_through,
            )
        )

    async def broke(self, request: Request, error: Exception) -> Response:
        self._inside.lines.event(
            "internal_error", path=request.url.path, error=f"{type(error).__name__}: {error}"
        )
        return _error("internal_error")


def _runtime(inside: Inside) -> dict[str, Any]:
    """Return what of Python and of this process may explain how it behaves."""
    import platform
    from importlib.metadata import version  # for a page that few ever ask for

    return {
        "schema": 1,
        "gpuctl": __version__,
        "compiled": overview.is_compiled(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _LIBRARIES},
        "pid": os.getpid(),
        "user": os.geteuid(),
        "uptime_seconds": inside.wall() - inside.started_at,
        "resident_bytes": _resident_bytes(),
        "open_fds": _open_fds(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "loop": type(asyncio.get_running_loop()).__module__,
        "loop_lag_seconds": inside.lag_seconds,
        "tasks": len(asyncio.all_tasks()),
        "modules": len(sys.modules),
        "gc": {
            "counts": list(gc.get_count()),
            "collections": [each["collections"] for each in gc.get_stats()],
            "frozen": gc.get_freeze_count(),
        },
    }


def _resident_bytes() -> int | None:
    """Return the RAM that this process holds; Source: proc(5), /proc/pid/statm, `resident`."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _open_fds() -> int | None:
    """Return how many descriptors are open, but for the one that looks."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return None


def _server(inside: Inside) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        app(inside),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    config.load()
    server = uvicorn.Server(config)
    # Signals are the gateway's: uvicorn would take SIGTERM from it, and end without a drain.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server


def _listener(path: str) -> socket.socket:
    """Return a socket at *path*; its mode holds from its first moment."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the socket: uvicorn's own would be open to all.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _admin(request: Request) -> bool:
    return request.headers.get(ADMIN_HEADER) == "1"


def _json(document: object, status: int = 200) -> Response:
    return _response(msgspec.json.encode(document), status, "application/json")


def _forbidden() -> Response:
    return _error("permission_denied")


def _error(code: str, message: str = "", param: str | None = None) -> Response:
    from starlette.responses import Response

    answer = openai_errors.answer(code, message, param=param)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what the data path's table would not have let through."""
    return _error(
        "method_not_allowed" if getattr(error, "status_code", 0) == 405 else "unknown_url"
    )


def _response(body: bytes, status: int, content_type: str) -> Response:
    from starlette.responses import Response

    return Response(body, status, {"content-type": content_type})
