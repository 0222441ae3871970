"""
A whole host for end-to-end tests: a real Docker Engine, the fake driver under the real binding,
and the real `gpuctl` in processes of its own. What a test asks of it are the commands and files
that an operator has.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tomlkit
from docker import APIClient
from docker.errors import APIError, NotFound

from tests.e2e.vram import VramFeed, engine_pid
from tests.rig.dockerd import PrivateEngine
from tests.rig.images import IMAGE, LLAMA_SERVER, rig_mounts
from tests.rig.nvml import FakeNvml
from tests.rig.processes import lives
from tests.rig.waiting import wait_for

MODELS = Path(__file__).resolve().parents[2] / ".cache" / "models"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
GPUSIM = "gpuctl-rig:gpusim"
LLAMA = "gpuctl-rig:llama"

#: The watchdog of the P106 profile with every threshold divided by ten.
P106_TENTH = """\
interval = "500ms"
health_timeout = "300ms"
hard_failures = 2
hard = "500ms"
soft = "12s"
stalled = "12s"
vram = "strict"
vram_settle = "2s"
vram_release = "3s"
startup = "60s"
startup_limit = "180s"
backoff = ["0s", "1s", "2s", "4s", "8s"]
crash_loop = "90s"
ready_reset = "60s"
host_fault_window = "6s"
host_fault_hold = ["0s", "6s", "30s"]
load_spacing = "500ms"
stop_grace = "3s"
failed_grace = "500ms"
drain = "3s"
tick_gap = "3s"
canary = "0s"
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str


class Host:
    """A context manager; `profile()` writes what `up` is given."""

    def __init__(self, engine: PrivateEngine, *, gpus: str = "p106x8") -> None:
        self.engine = engine
        self.folder = Path(tempfile.mkdtemp(prefix="gh", dir="/tmp"))
        self.nvml = FakeNvml(gpus, self.folder)
        self.docker_host = engine.host
        self.extra: dict[str, str] = {}
        self.client: APIClient = engine.client()
        self._feed = VramFeed(self.nvml, self.client)
        self.vram_lost = self._feed.lost
        self.strangers = self._feed.strangers
        self.held = self._feed.held

    def __enter__(self) -> Self:
        for name in ("state", "run", "conf"):
            (self.folder / name).mkdir()
        tag_programs(self.client)
        self._feed.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.nvml.release()
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.end_daemon()
        self._feed.__exit__()
        for row in self.client.containers(all=True, filters={"label": "gpuctl.replica"}):
            with contextlib.suppress(APIError):  # it is being removed already
                self.client.remove_container(row["Id"], force=True)
        self.client.close()
        shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.nvml.environment(),
            "DOCKER_HOST": self.docker_host,
            "GPUCTL_STATE_DIR": str(self.folder / "state"),
            "GPUCTL_RUNTIME_DIR": str(self.folder / "run"),
            "GPUCTL_CONFIG_DIR": str(self.folder / "conf"),
            "NO_COLOR": "1",
            **self.extra,
        }

    # -- what an operator does ------------------------------------------------------------------

    def run(self, *arguments: str, seconds: float = 120.0) -> Ran:
        """Run one gpuctl command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "gpuctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def profile(
        self,
        workloads: str,
        *,
        watchdog: str = P106_TENTH,
        gpus: str = "",
        reserve: Iterable[int] = (),
    ) -> Path:
        """Write a profile of these workloads' tables; return its path."""
        expected = f'gpus = "{gpus}"\n' if gpus else ""
        expected += f"reserve = {list(reserve)}\n"
        path = self.folder / "profile.toml"
        path.write_text(
            f'schema = 1\n[host]\nname = "rig"\nruntime = "docker"\n{expected}'
            f"[watchdog]\n{watchdog}\n{workloads}"
        )
        return path

    def up(self, path: Path, *, seconds: float = 120.0) -> Ran:
        """Bring a profile up and wait until all is ready."""
        ran = self.run("up", str(path), "--timeout", str(seconds), seconds=seconds + 20)
        assert ran.code == 0, f"{ran.out}\n{ran.err}\n{self.daemon_log()[-4000:]}"
        return ran

    def start_daemon(self, **environment: str) -> int:
        """Start the daemon on what is applied, with more environment; return its pid."""
        log = (self.folder / "state" / "daemon.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gpuctl", "daemon"],
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        threading.Thread(target=process.wait, daemon=True).start()
        return process.pid

    def begin_daemon(self, **environment: str) -> int:
        """Start the daemon and wait until it has published its first Status; return its pid."""
        pid = self.start_daemon(**environment)
        wait_for(
            lambda: self.daemon_pid() == pid or not lives(pid), f"daemon {pid} to publish", 40.0
        )
        return pid

    def wait_gone(
        self, pid: int, after: Callable[[], object] = lambda: None, *, seconds: float = 40.0
    ) -> None:
        """Wait until a process has ended, after something was done to that end."""
        after()
        wait_for(lambda: not lives(pid), f"process {pid} to end\n{self.tail()}", seconds)

    def daemon_pid(self) -> int:
        return int(self.status()["daemon"]["pid"])

    def kill_daemon(self) -> None:
        """End the daemon with SIGKILL, and wait until it is gone."""
        pid = self.daemon_pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not lives(pid), f"daemon {pid} to be gone")

    def end_daemon(self) -> None:
        """End the daemon with SIGTERM, which leaves the containers alone."""
        if not (self.folder / "run" / "status.json").exists():
            return
        pid = self.daemon_pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not lives(pid), f"daemon {pid} to end")

    def daemon_log(self) -> str:
        path = self.folder / "state" / "daemon.log"
        return path.read_text() if path.exists() else ""

    # -- what an operator sees ------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "run" / "status.json").read_text())
        return found

    def replica(self, name: str) -> dict[str, Any]:
        return next(row for row in self.status()["replicas"] if row["name"] == name)

    def events(self, *kinds: str, subject: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's events as `gpuctl events --json` prints them."""
        from gpuctl.adapters.sqlite import read_events
        from gpuctl.model import EventKind

        found = read_events(
            self.folder / "state" / "state.db",
            kinds=tuple(EventKind(kind) for kind in kinds),
            subject=subject,
        )
        return [
            {
                "id": event.id,
                "at": event.at,
                "kind": str(event.kind),
                "subject": event.subject,
                "reason": event.reason,
                "evidence": event.evidence,
            }
            for event in found
        ]

    def wait_phase(self, name: str, phase: str = "ready", *, seconds: float = 30.0) -> None:
        wait_for(
            lambda: self.replica(name)["phase"] == phase,
            f"{name} to be {phase}: {self.replica(name)}\n{self.daemon_log()[-3000:]}",
            seconds,
        )

    def wait_reason(
        self, name: str, reason: str, *, later_than: float = 0.0, seconds: float = 20.0
    ) -> None:
        """Wait until a replica waits, for this reason, for an attempt due after *later_than*."""

        def look() -> bool:
            row = self.replica(name)
            return row["reason"] == reason and (row["next_attempt_at"] or 0.0) > later_than + 1.0

        wait_for(look, f"{name} to wait with {reason}\n{self.tail()}", seconds)

    def wait_replaced(self, name: str, old: str, *, seconds: float = 40.0) -> str:
        """Wait until a replica is ready in another container than *old*; return that."""

        def look() -> str | None:
            row = self.replica(name)
            container = row["container"]
            return container if row["phase"] == "ready" and container not in (None, old) else None

        try:
            return wait_for(look, f"{name} to be ready in a new container", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.replica(name)}\n{self.tail()}") from error

    def wait_calm(self, name: str, *, seconds: float = 20.0) -> None:
        """Wait until nothing is under way or left over of a replica: one container, no attempt."""

        def look() -> bool:
            label = {"label": f"gpuctl.replica={name}"}
            acts = self.events("attempt", "done", "undone", subject=name)
            acts = [event for event in acts if event["evidence"].get("action") != "drain"]
            closed = not acts or acts[-1]["kind"] != "attempt"
            return closed and len(self.client.containers(all=True, filters=label)) == 1

        wait_for(look, f"{name} to come to rest\n{self.tail()}", seconds)

    def tail(self) -> str:
        return self.daemon_log()[-5000:]

    def containers(self) -> dict[str, tuple[str, str]]:
        """Return replica → (id, StartedAt) of every running container of ours."""
        found = {}
        for row in self.client.containers(filters={"label": "gpuctl.replica"}):
            with contextlib.suppress(NotFound):  # it went in the meantime
                state = self.client.inspect_container(row["Id"])["State"]
                found[row["Labels"]["gpuctl.replica"]] = (row["Id"], state["StartedAt"])
        return found

    def pid_of(self, name: str) -> int:
        """Return the host's pid of a replica's engine: the child of the container's init."""
        told = self.client.inspect_container(f"gpuctl-{name}")
        return engine_pid(int(told["State"]["Pid"]))


def tag_programs(client: APIClient) -> None:
    """Give the rig's image an entrypoint, one tag per program."""
    for tag, program in (("gpusim", "/app/gpusim"), ("llama", LLAMA_SERVER)):
        container = client.create_container(IMAGE, command=["true"])
        client.commit(
            container["Id"],
            repository="gpuctl-rig",
            tag=tag,
            changes=[f'ENTRYPOINT ["{program}"]', "CMD []"],
        )
        client.remove_container(container["Id"])


def workload(name: str, *, port: int, image: str = GPUSIM, **keys: Any) -> str:
    """Return the table of one workload of the rig's image."""
    mounts = [f"{m.source}:{m.target}:ro" for m in rig_mounts()]
    mounts.append(f"{MODELS}:/models:ro")
    table: dict[str, Any] = {
        "engine": "llama.cpp",
        "image": image,
        "model": MODEL,
        "gpus": "each",
        "port": port,
        "context": 2048,
        "memory": "1536m",
        "memory_swap": "2048m",
        "mounts": mounts,
        **keys,
    }
    return tomlkit.dumps({"workloads": {name: table}})
