"""
A Docker Engine of the test's own: private socket, data and containerd, on the real dockerd.

It must run in a network namespace of its own (`tests/run real` makes one): a second engine in the
host's namespace would delete the first one's port rules.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from docker import APIClient

from gpuctl.adapters.docker.transport import Client

#: dockerd is up in about 1 s; a loaded machine takes longer.
START_SECONDS = 30.0
STOP_SECONDS = 30.0

#: runc calls it before a container with a GPU request starts, with the state on standard input.
HOOK = """#!/bin/sh
cat > /dev/null
if [ -e {refusal} ]; then cat {refusal} >&2; exit 1; fi
exit 0
"""


def missing() -> str:
    """Return why no private engine can run here, "" when one can."""
    if shutil.which("dockerd", path=_search_path()) is None:
        return "dockerd is not installed"
    if os.geteuid() != 0:
        return "a private Docker Engine needs root"
    if not os.environ.get("GPUCTL_RIG_NAMESPACE"):
        return "a private Docker Engine needs namespaces of its own: run `tests/run real`"
    return ""


class PrivateEngine:
    """A dockerd that can be started, stopped and killed; a context manager."""

    def __init__(self, *, live_restore: bool = False, flags: Sequence[str] = ()) -> None:
        # A socket's path has 107 characters at most, and containerd's lies deep below.
        self.folder = Path(tempfile.mkdtemp(prefix="ge", dir="/tmp"))
        self.socket = self.folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.live_restore = live_restore
        self._flags = tuple(flags)
        self._refusal = self.folder / "refusal"
        self._process: subprocess.Popen[bytes] | None = None
        self._write_hook()

    def __enter__(self) -> PrivateEngine:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._empty()
            self.stop()
        finally:
            self._end_strays()
            self._unmount()
            shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this engine and to no other."""
        return {"DOCKER_HOST": self.host}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What dockerd wrote since it was first started."""
        return (self.folder / "dockerd.log").read_text(errors="replace")

    def client(self, timeout_seconds: int = 30) -> APIClient:
        """Return an SDK client, for what the test looks at behind gpuctl's back."""
        # The SDK's own leaves a socket open that could not connect, and tests stop the engine.
        return Client("", base_url=self.host, timeout=timeout_seconds)

    def start(self) -> None:
        """Start dockerd and wait until it answers; cleans up after a kill first."""
        self._clear_after_kill()
        flags = [*(["--live-restore"] if self.live_restore else []), *self._flags]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--data-root", str(self.folder / "data")),
                    *("--exec-root", str(self.folder / "exec")),
                    *("--host", self.host, "--pidfile", str(self._pid_file)),
                    *flags,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{self.folder / 'bin'}:{_search_path()}"},
            )
        _wait(self._answers, START_SECONDS, lambda: f"dockerd did not start:\n{self.log[-3000:]}")

    def stop(self) -> None:
        """End dockerd with SIGTERM; its containers end too, unless it restores them live."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(STOP_SECONDS)

    def kill9(self) -> None:
        """End dockerd with SIGKILL; containers and containerd run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def freeze(self) -> None:
        """Stop dockerd from answering, until `thaw()`."""
        os.kill(self.pid, signal.SIGSTOP)
        # A thread of it that was in the kernel still ends what it was at.
        time.sleep(0.1)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def refuse_gpus(self, words: str) -> None:
        """Make every start with a GPU request fail, saying *words*; "" lets them work again."""
        if words:
            self._refusal.write_text(words + "\n")
        else:
            self._refusal.unlink(missing_ok=True)

    def _write_hook(self) -> None:
        """Put the hook that makes dockerd offer its `nvidia` device driver on its PATH."""
        hook = self.folder / "bin" / "nvidia-container-runtime-hook"
        hook.parent.mkdir()
        hook.write_text(HOOK.format(refusal=self._refusal))
        hook.chmod(0o755)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "docker.pid"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"dockerd ended:\n{self.log[-3000:]}"
        # A raw request: the SDK would log and retry, and this is asked 20 times a second.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
            except OSError:
                return False

    def _clear_after_kill(self) -> None:
        """Remove the stale pid file and end the stray containerd; dockerd refuses both."""
        self._pid_file.unlink(missing_ok=True)
        containerd = self.folder / "exec" / "containerd" / "containerd.pid"
        if containerd.exists():
            pid = int(containerd.read_text())
            if _command(pid).startswith("containerd "):
                os.kill(pid, signal.SIGTERM)
                _wait(lambda: _gone(pid), STOP_SECONDS, lambda: "containerd does not end")
            containerd.unlink(missing_ok=True)

    def _empty(self) -> None:
        """Remove every container, whatever state dockerd was left in."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()
        os.kill(self.pid, signal.SIGCONT)
        client = self.client()
        for row in client.containers(all=True):
            client.remove_container(row["Id"], force=True, v=True)
        client.close()

    def _end_strays(self) -> None:
        """Kill what still names this engine's folder: shims and containerd of a failed stop."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and str(self.folder / "exec") in _command(int(entry.name)):
                os.kill(int(entry.name), signal.SIGKILL)

    def _unmount(self) -> None:
        """Let go of what dockerd leaves mounted: its data directory and network namespaces."""
        mounted = (row.split()[1] for row in Path("/proc/self/mounts").read_text().splitlines())
        below = [point for point in mounted if point.startswith(f"{self.folder}/")]
        for point in sorted(below, key=len, reverse=True):
            subprocess.run(["umount", "--lazy", point], check=True)


def engine_events(client: APIClient, since: float) -> list[dict[str, Any]]:
    """Return the engine's own record of its containers from *since* (Unix seconds) until now."""
    # The API takes a fraction of a second; the SDK's types know of whole ones only.
    after, before = cast(Any, f"{since:.6f}"), cast(Any, f"{time.time():.6f}")
    told = client.events(since=after, until=before, filters={"type": ["container"]})
    return [json.loads(line) for chunk in told for line in chunk.splitlines() if line]


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _wait(true: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def _command(pid: int) -> str:
    """Return the command line of a process, "" when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _gone(pid: int) -> bool:
    """True when the process has ended, reaped or not."""
    return _command(pid) == ""
