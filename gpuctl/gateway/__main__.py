"""
The gateway as a program: `python -m gpuctl.gateway`, which units and `gpuctl up` start.

Serve → start → look, sweep and report → drain. It reads where its directories are from GPUCTL_*,
waits for a Status that has a gateway, and listens where that says. Exit codes: 0 told to end, 1 it
cannot (the lock is held, the address is taken), 2 it may not (others would get in without a key).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import cast

import uvloop

from gpuctl import paths
from gpuctl.adapters.systemd import Systemd
from gpuctl.errors import GpuctlError, UsageError
from gpuctl.gateway import estimate, key_files, keyring, operator, table
from gpuctl.gateway.downstream import Client
from gpuctl.gateway.gateway import Gateway
from gpuctl.gateway.log import Lines
from gpuctl.gateway.outages import Outages
from gpuctl.gateway.report import Report
from gpuctl.gateway.watching import Watched

_LOOK_SECONDS = 0.1
_SWEEP_SECONDS = 0.2
_REPORT_SECONDS = 1.0
_KEYS_SECONDS = 1.0
_BACKLOG = 1024
# Its own directories come from GPUCTL_*: systemd's name those of the unit, which are not the
# daemon's.
_SYSTEMD = ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY")


def main() -> int:
    """Run until told to end; return the exit code."""
    systemd = Systemd.take(os.environ)
    environment = {name: text for name, text in os.environ.items() if name not in _SYSTEMD}
    own = paths.directories(environment, root=os.geteuid() == 0)
    _allow_descriptors()
    lines = Lines(sys.stderr.fileno())
    try:
        lock = _lock(own.gateway_lock)
        try:
            program = Program(own, environment, lines, systemd)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(program.run())
        finally:
            os.close(lock)
    except GpuctlError as error:
        lines.close()
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    lines.close()
    return 0


class Program:
    """One run of it."""

    def __init__(
        self,
        own: paths.Directories,
        environment: Mapping[str, str],
        lines: Lines,
        systemd: Systemd,
    ) -> None:
        self._own, self._environment = own, environment
        self._lines, self._systemd = lines, systemd
        self._status = Watched(own.status)
        self._report = Report(own.gateway)
        # The address of a socket has room for 107 bytes (unix(7)), and a directory's path for more.
        directory = os.open(os.path.dirname(own.gateway), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = f"/proc/self/fd/{directory}/operator.sock"
        self._drained = f"{os.path.dirname(own.gateway)}/drained"  # seconds of the latest shutdown
        self._operator: operator.Operator | None = None
        self._outages = Outages(lines.event)
        self._keys = key_files.Keys(own.keys, environment, lines, self._outages)
        self._moving: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._end: asyncio.Event
        self._gateway: Gateway
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Serve until a signal ends it. Raises `GpuctlError`."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broke)
        self._end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        engine_keys = key_files.EngineKeys(self._outages)
        self._gateway = Gateway(self._lines, engine_keys.read, self._socket)
        with (
            contextlib.suppress(OSError, ValueError),
            open(self._drained, encoding="ascii") as file,
        ):
            self._gateway.shutdown_seconds = float(file.read(32))
        if self._systemd.watchdog_seconds:  # sd_watchdog_enabled(3): half of it
            half = self._systemd.watchdog_seconds / 2
            self._every("watchdog", half, lambda: self._systemd.tell("WATCHDOG=1"))
        self._read_tokenizer()
        document = await self._first()
        if document is None:
            return
        self._gateway.take(document)
        await self._move()
        self._systemd.tell("READY=1", f"STATUS=listening on {self._gateway.listen}")
        self._write_report()
        self._gateway.emptied = self._write_report
        self._every("look", _LOOK_SECONDS, self._look)
        self._every("sweep", _SWEEP_SECONDS, self._gateway.sweep)
        self._every("report", _REPORT_SECONDS, self._write_report)
        self._every("keys", _KEYS_SECONDS, self._look_at_keys)
        try:
            self._operator = await operator.serve(self._gateway, self._socket)
        except OSError as error:  # requests are served without it as well
            self._lines.event("operator_failed", path=self._socket, why=str(error))
        self._gateway.operator_begun.set()
        gc.collect()
        gc.freeze()  # what is there by now stays: collections need not look at it
        await self._end.wait()
        await self._stop()

    async def _first(self) -> table.Document | None:
        """Wait for a Status that has a gateway; `None` when told to end before there is one."""
        waited = False
        while True:
            document = self._document()
            if document is not None and document.gateway is not None:
                return document
            if not waited:
                waited = True
                self._systemd.tell("READY=1", f"STATUS=waiting for {self._own.status}")
                self._lines.event("waiting", file=self._own.status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), _LOOK_SECONDS)
                return None

    async def _stop(self) -> None:
        self._systemd.tell("STOPPING=1")
        if self._moving is not None:
            self._moving.cancel()
        seconds = await self._gateway.drain()  # who comes meanwhile is told so
        self._shut()
        if self._operator is not None:
            await self._operator.stop()
        for handle in self._timers.values():
            handle.cancel()
        with contextlib.suppress(OSError):
            os.unlink(self._own.gateway)  # nobody waits for what is not in flight any more
            with open(self._drained, "w", encoding="ascii") as file:
                file.write(f"{seconds:.3f}")  # who is to scrape it asks the next gateway
        self._lines.event("stopped", shutdown_seconds=round(seconds, 3))

    # What is done again and again.

    def _every(self, name: str, seconds: float, do: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def again(due: float) -> None:
            self._gateway.lag_seconds = max(0.0, loop.time() - due)
            self._timers[name] = loop.call_later(seconds, again, loop.time() + seconds)
            do()

        self._timers[name] = loop.call_later(seconds, again, loop.time() + seconds)

    def _look(self) -> None:
        document = self._document()
        if document is None:
            return
        self._gateway.take(document)
        self._write_report()
        moving = self._moving is not None and not self._moving.done()
        if moving or self._gateway.draining:
            return
        if document.gateway is None:
            if self._server is not None:
                self._lines.event("waiting", file=self._own.status)
            self._shut()
        elif document.gateway.listen != self._gateway.listen:
            self._moving = asyncio.get_running_loop().create_task(self._move_or_tell())

    def _document(self) -> table.Document | None:
        """Return a Status that is new; one that cannot be read changes nothing."""
        try:
            content = self._status.changed()
            if content is None:
                return None
            document = table.decode(content)
        except (OSError, ValueError) as error:
            self._outages.failed("status_unreadable", file=self._own.status, error=str(error))
            return None
        self._outages.worked("status_unreadable", self._own.status)
        return document

    def _look_at_keys(self) -> None:
        gateway = self._gateway
        gateway.keyring = self._keys.look(gateway.settings, gateway.listen, gateway.keyring)

    def _write_report(self) -> None:
        try:
            self._report.write(self._gateway.document())
        except OSError as error:
            self._outages.failed("report_failed", error=str(error))
        else:
            self._outages.worked("report_failed")

    def _read_tokenizer(self) -> None:
        if path := self._environment.get(estimate.VARIABLE):
            try:
                self._gateway.estimate = estimate.load(path)
            except GpuctlError as error:
                self._lines.event("tokenizer_unreadable", error=str(error))

    def _broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._gateway.broke(error)
        else:
            self._lines.event("internal_error", error=str(context.get("message", "")))

    # Where it listens.

    async def _move(self) -> None:
        """Listen where the settings say. Raises `GpuctlError`: it may not, or cannot."""
        settings, gateway = self._gateway.settings, self._gateway
        keys, stamp = self._keys.read(settings)
        if keyring.needs_keys(settings.listen) and keys.empty:
            raise UsageError(
                f"gateway.listen: {settings.listen} is reached from other hosts, and there is no"
                " API key: everyone could use these GPUs",
                "make one with `gpuctl keys create NAME`, or listen on 127.0.0.1",
            )
        if not keys.empty:  # before anybody comes; a door that is open opens at a place of its own
            gateway.keyring = keys
        before, place = self._server, gateway.listen
        if before is not None and place.rpartition(":")[2] == settings.listen.rpartition(":")[2]:
            before.close()  # the same port of another address is free when this is
        try:
            self._server = await self._listener(settings.listen)
        except GpuctlError:
            if before is not None and not before.is_serving():
                self._server = await self._listener(place)
            raise
        if before is not None:
            before.close()
        gateway.listen = settings.listen
        gateway.keyring = keys
        self._keys.hold(stamp)
        self._outages.worked("not_moved")
        self._lines.event("listening", address=settings.listen, keys=len(keys))

    async def _listener(self, listen: str) -> asyncio.Server:
        """Open a place to listen at. Raises `GpuctlError`."""
        host, _, port = listen.rpartition(":")

        def client() -> asyncio.Protocol:
            return cast(asyncio.Protocol, Client(self._gateway))  # as in `upstream`

        try:
            return await asyncio.get_running_loop().create_server(
                client, host.strip("[]") or None, int(port), backlog=_BACKLOG
            )
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise GpuctlError(
                f"gateway.listen: {listen}: {os.strerror(error.errno or 0)}",
                f"see who has it with `ss -ltnp 'sport = :{port}'`" if taken else "",
            ) from error

    def _shut(self) -> None:
        """Listen no more; what runs goes on, and its connection ends with it."""
        if self._server is None:
            return
        self._server.close()
        self._server, self._gateway.listen = None, ""
        for client in tuple(self._gateway.clients):
            client.close_if_idle()

    async def _move_or_tell(self) -> None:
        wanted = self._gateway.settings.listen
        try:
            await self._move()
        except GpuctlError as error:  # tried again at every Status, and told once
            self._outages.failed("not_moved", address=wanted, error=str(error))


def _allow_descriptors() -> None:
    """Take as many descriptors as the host allows: each connection is one, at both sides."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _lock(path: str) -> int:
    """Hold the lock of the one gateway here. Raises `GpuctlError`."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise GpuctlError(
            f"{path}: {error.strerror}", "run as the user that owns it, or set GPUCTL_RUNTIME_DIR"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise GpuctlError(
            f"{os.path.dirname(path)}: another gateway runs here", "`gpuctl status` shows it"
        ) from error
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
